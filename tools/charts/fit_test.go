package charts

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

func newReader(text string) *bufio.Reader { return bufio.NewReader(io.Reader(strings.NewReader(text))) }

// complaints gathers what does not fit.
type complaints []string

func (c *complaints) say(bad bool, format string, args ...any) {
	if bad {
		*c = append(*c, fmt.Sprintf(format, args...))
	}
}

// misfits says which references of a release lead nowhere, and which names and labels the API server
// would refuse.
func (r release) misfits() []string {
	var all complaints
	seen := map[string]bool{}
	for _, o := range r.objects {
		id := o.kind + " " + o.GetName()
		all.say(seen[id], "%s is there twice", id)
		seen[id] = true
		for _, e := range validation.IsDNS1123Label(o.GetName()) {
			all.say(true, "%s: %s", id, e)
		}
		all.labels(id, o.GetLabels())
	}
	pod := r.pod()
	all.labels("the pod", pod.Labels)
	r.selectors(&all, pod)
	r.references(&all, pod.Spec)
	all.mounts(pod.Spec, r.claims())
	all.ports(pod.Spec)
	all.grace(pod.Spec)
	return all
}

func (c *complaints) labels(of string, set map[string]string) {
	for k, v := range set {
		for _, e := range append(validation.IsQualifiedName(k), validation.IsValidLabelValue(v)...) {
			c.say(true, "%s: label %s=%s: %s", of, k, v, e)
		}
	}
}

// selectors must choose the pods of this release, and ports must be theirs.
func (r release) selectors(all *complaints, pod *corev1.PodTemplateSpec) {
	for _, o := range r.objects {
		switch v := o.Object.(type) {
		case *appsv1.Deployment:
			all.chooses(o.kind, v.Spec.Selector, pod.Labels)
		case *appsv1.StatefulSet:
			all.chooses(o.kind, v.Spec.Selector, pod.Labels)
			all.say(r.service().Name != v.Spec.ServiceName, "there is no service %s", v.Spec.ServiceName)
		case *policyv1.PodDisruptionBudget:
			all.chooses(o.kind, v.Spec.Selector, pod.Labels)
		case *networkingv1.NetworkPolicy:
			all.chooses(o.kind, &v.Spec.PodSelector, pod.Labels)
			all.policy(v, pod.Spec)
		case *corev1.Service:
			all.chooses(o.kind, &metav1.LabelSelector{MatchLabels: v.Spec.Selector}, pod.Labels)
			all.service(v, pod.Spec)
		case *monitoringv1.PodMonitor:
			all.chooses(o.kind, &v.Spec.Selector, pod.Labels)
			for _, e := range v.Spec.PodMetricsEndpoints {
				all.say(e.Port == nil || !hasPort(pod.Spec, intstr.FromString(*e.Port)), "%s: there is no port %v", o.kind, e.Port)
			}
		case *monitoringv1.ServiceMonitor:
			all.chooses(o.kind, &v.Spec.Selector, r.service().Labels)
			for _, e := range v.Spec.Endpoints {
				all.say(!slices.ContainsFunc(r.service().Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == e.Port }), "%s: there is no port %s", o.kind, e.Port)
			}
		}
	}
}

// service of a release, or an empty one.
func (r release) service() *corev1.Service {
	for _, s := range of[*corev1.Service](r) {
		return s
	}
	return new(corev1.Service)
}

func (c *complaints) chooses(what string, s *metav1.LabelSelector, set map[string]string) {
	selector, err := metav1.LabelSelectorAsSelector(s)
	c.say(err != nil || s == nil || selector.Empty() || !selector.Matches(labels.Set(set)), "%s chooses something else: %v %v", what, s, err)
}

func (c *complaints) policy(v *networkingv1.NetworkPolicy, pod corev1.PodSpec) {
	c.say(len(v.Spec.Ingress) == 0, "the network policy lets nobody in")
	for _, rule := range v.Spec.Ingress {
		for _, p := range rule.Ports {
			c.say(!hasPort(pod, *p.Port), "the network policy: there is no port %v", p.Port)
		}
	}
}

func (c *complaints) service(v *corev1.Service, pod corev1.PodSpec) {
	for _, p := range v.Spec.Ports {
		c.say(!hasPort(pod, p.TargetPort), "the service: there is no port %v", p.TargetPort.String())
		c.say(p.Port < 1, "the service has the port %d", p.Port)
	}
}

// references by name must lead to objects of the release where it is the release that makes them.
func (r release) references(all *complaints, pod corev1.PodSpec) {
	accounts := map[string]bool{}
	for _, a := range of[*corev1.ServiceAccount](r) {
		accounts[a.Name] = true
	}
	all.say(len(accounts) > 0 && !accounts[pod.ServiceAccountName], "there is no account %q", pod.ServiceAccountName)
	for _, b := range of[*rbacv1.RoleBinding](r) {
		for _, s := range b.Subjects {
			all.say(s.Name != pod.ServiceAccountName, "the role is bound to %s, the pod is %s", s.Name, pod.ServiceAccountName)
		}
		roles := of[*rbacv1.Role](r)
		all.say(len(roles) != 1 || roles[0].Name != b.RoleRef.Name, "there is no role %s", b.RoleRef.Name)
	}
	for _, m := range of[*corev1.ConfigMap](r) {
		used := slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.ConfigMap != nil && v.ConfigMap.Name == m.Name })
		all.say(!used, "nobody uses the config map %s", m.Name)
	}
}

// claims are the names of volumes that a StatefulSet makes.
func (r release) claims() []string {
	var names []string
	for _, s := range of[*appsv1.StatefulSet](r) {
		for _, c := range s.Spec.VolumeClaimTemplates {
			names = append(names, c.Name)
		}
	}
	return names
}

// mounts and volumes belong together, one by one.
func (c *complaints) mounts(pod corev1.PodSpec, claims []string) {
	volumes := map[string]bool{}
	for _, name := range claims {
		volumes[name] = false
	}
	for _, v := range pod.Volumes {
		_, twice := volumes[v.Name]
		c.say(twice, "volume %s is there twice", v.Name)
		volumes[v.Name] = false
	}
	for _, container := range containers(pod) {
		paths := map[string]bool{}
		for _, m := range container.VolumeMounts {
			_, ok := volumes[m.Name]
			c.say(!ok, "%s: there is no volume %s", container.Name, m.Name)
			c.say(paths[m.MountPath], "%s: two volumes at %s", container.Name, m.MountPath)
			volumes[m.Name], paths[m.MountPath] = true, true
		}
	}
	for name, used := range volumes {
		c.say(!used, "nobody mounts volume %s", name)
	}
}

// ports of probes are those of the container, and no two have one name or number.
func (c *complaints) ports(pod corev1.PodSpec) {
	names, numbers := map[string]bool{}, map[string]bool{}
	for _, container := range containers(pod) {
		for _, p := range container.Ports {
			number := fmt.Sprint(p.ContainerPort, p.Protocol)
			c.say(names[p.Name] || numbers[number], "two ports are called %s or have the number %s", p.Name, number)
			names[p.Name], numbers[number] = true, true
			for _, e := range validation.IsValidPortName(p.Name) {
				c.say(true, "port %s: %s", p.Name, e)
			}
		}
		for _, probe := range []*corev1.Probe{container.StartupProbe, container.ReadinessProbe, container.LivenessProbe} {
			if probe == nil {
				continue
			}
			port := intstr.FromInt32(0)
			switch {
			case probe.HTTPGet != nil:
				port = probe.HTTPGet.Port
			case probe.TCPSocket != nil:
				port = probe.TCPSocket.Port
			}
			c.say(!hasPort(pod, port), "%s: a probe of port %v", container.Name, port.String())
			c.say(probe.TimeoutSeconds >= probe.PeriodSeconds && probe.PeriodSeconds > 1, "%s: a probe may take %d s, and comes every %d s", container.Name, probe.TimeoutSeconds, probe.PeriodSeconds)
		}
	}
}

func hasPort(pod corev1.PodSpec, want intstr.IntOrString) bool {
	for _, c := range containers(pod) {
		for _, p := range c.Ports {
			if want.Type == intstr.String && p.Name == want.StrVal || want.Type == intstr.Int && p.ContainerPort == want.IntVal {
				return true
			}
		}
	}
	return false
}

// grace of the pod is more than what its program takes at most.
func (c *complaints) grace(pod corev1.PodSpec) {
	if pod.TerminationGracePeriodSeconds == nil {
		c.say(true, "the pod has no terminationGracePeriodSeconds")
		return
	}
	most := time.Duration(0)
	for _, arg := range pod.Containers[0].Args {
		name, value, _ := strings.Cut(arg, "=")
		if slices.Contains([]string{"-graceful-shutdown-deadline", "-shutdown-delay", "-shutdown-deadline"}, name) {
			d, err := time.ParseDuration(value)
			c.say(err != nil, "%s: %v", arg, err)
			most += d
		}
	}
	grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
	c.say(grace <= most, "the pod has %v to end, its program takes up to %v", grace, most)
}
