package charts

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// violations says what a pod does that the pod security standard "restricted" forbids, and beyond it: a
// root that can be written, a container without requests or limits.
func violations(pod corev1.PodSpec) []string {
	var all []string
	say := func(bad bool, format string, args ...any) {
		if bad {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	say(pod.HostNetwork || pod.HostPID || pod.HostIPC, "the pod shares a namespace with the host")
	for _, v := range pod.Volumes {
		s := v.VolumeSource
		ok := s.ConfigMap != nil || s.EmptyDir != nil || s.DownwardAPI != nil || s.Secret != nil || s.Projected != nil || s.PersistentVolumeClaim != nil
		say(!ok, "volume %s is of a kind that is not allowed", v.Name)
		say(s.EmptyDir != nil && s.EmptyDir.SizeLimit == nil, "volume %s has no limit", v.Name)
	}
	shared := pod.SecurityContext
	if shared == nil {
		shared = new(corev1.PodSecurityContext)
	}
	for _, c := range containers(pod) {
		for _, v := range containerViolations(c, *shared) {
			all = append(all, c.Name+": "+v)
		}
	}
	return all
}

func containerViolations(c corev1.Container, pod corev1.PodSecurityContext) []string {
	var all []string
	say := func(bad bool, text string) {
		if bad {
			all = append(all, text)
		}
	}
	own := c.SecurityContext
	if own == nil {
		own = new(corev1.SecurityContext)
	}
	nonRoot, user, seccomp := or(own.RunAsNonRoot, pod.RunAsNonRoot), or(own.RunAsUser, pod.RunAsUser), or(own.SeccompProfile, pod.SeccompProfile)
	say(nonRoot == nil || !*nonRoot, "may run as root")
	say(user == nil || *user == 0, "runs as root or as whom the image says")
	say(seccomp == nil || seccomp.Type == corev1.SeccompProfileTypeUnconfined, "has no seccomp profile")
	say(own.AllowPrivilegeEscalation == nil || *own.AllowPrivilegeEscalation, "may gain privileges")
	say(own.Privileged != nil && *own.Privileged, "is privileged")
	say(own.ReadOnlyRootFilesystem == nil || !*own.ReadOnlyRootFilesystem, "can write its root")
	caps := own.Capabilities
	say(caps == nil || !slices.Contains(caps.Drop, "ALL"), "keeps capabilities")
	say(caps != nil && slices.ContainsFunc(caps.Add, func(c corev1.Capability) bool { return c != "NET_BIND_SERVICE" }), "adds capabilities")
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		limit, request := c.Resources.Limits[name], c.Resources.Requests[name]
		say(limit.IsZero(), "has no limit of "+string(name))
		say(request.IsZero(), "requests no "+string(name))
		say(request.Cmp(limit) > 0, "requests more "+string(name)+" than its limit")
	}
	say(slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.HostPort != 0 }), "takes a port of the host")
	return all
}

func or[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// checkToken fails where a pod has a token of the API server that it has no use for.
func (r release) checkToken(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	roles := of[*rbacv1.Role](r)
	if token := pod.AutomountServiceAccountToken; token == nil || *token != (len(roles) > 0) {
		t.Errorf("it has %d roles, but the token is mounted: %v", len(roles), token)
	}
	for _, role := range roles {
		for _, rule := range role.Rules {
			if strings.Join(append(rule.Resources, rule.Verbs...), " ") != "pods get list watch" {
				t.Errorf("the role allows more than to watch pods: %v", rule)
			}
		}
	}
}

func TestThePolicySeesWhatIsWrong(t *testing.T) {
	yes, no, root := true, false, int64(0)
	for _, c := range []struct {
		want   string
		change func(pod *corev1.PodSpec, c *corev1.Container)
	}{
		{"app: may run as root", func(p *corev1.PodSpec, c *corev1.Container) { c.SecurityContext.RunAsNonRoot = &no }},
		{"app: runs as root or as whom the image says", func(p *corev1.PodSpec, c *corev1.Container) { p.SecurityContext.RunAsUser = &root }},
		{"app: may gain privileges", func(p *corev1.PodSpec, c *corev1.Container) { c.SecurityContext.AllowPrivilegeEscalation = nil }},
		{"app: is privileged", func(p *corev1.PodSpec, c *corev1.Container) { c.SecurityContext.Privileged = &yes }},
		{"app: can write its root", func(p *corev1.PodSpec, c *corev1.Container) { c.SecurityContext.ReadOnlyRootFilesystem = nil }},
		{"app: keeps capabilities", func(p *corev1.PodSpec, c *corev1.Container) { c.SecurityContext.Capabilities = nil }},
		{"app: adds capabilities", func(p *corev1.PodSpec, c *corev1.Container) {
			c.SecurityContext.Capabilities.Add = []corev1.Capability{"SYS_ADMIN"}
		}},
		{"app: has no seccomp profile", func(p *corev1.PodSpec, c *corev1.Container) { p.SecurityContext.SeccompProfile = nil }},
		{"app: has no limit of memory", func(p *corev1.PodSpec, c *corev1.Container) { delete(c.Resources.Limits, "memory") }},
		{"app: requests no cpu", func(p *corev1.PodSpec, c *corev1.Container) { delete(c.Resources.Requests, "cpu") }},
		{"app: takes a port of the host", func(p *corev1.PodSpec, c *corev1.Container) {
			c.Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}
		}},
		{"the pod shares a namespace with the host", func(p *corev1.PodSpec, c *corev1.Container) { p.HostNetwork = true }},
		{"volume host is of a kind that is not allowed", func(p *corev1.PodSpec, c *corev1.Container) {
			p.Volumes = []corev1.Volume{{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
		}},
		{"volume tmp has no limit", func(p *corev1.PodSpec, c *corev1.Container) {
			p.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: new(corev1.EmptyDirVolumeSource)}}}
		}},
	} {
		t.Run(c.want, func(t *testing.T) {
			pod := restricted()
			if before := violations(*pod); before != nil {
				t.Fatal(before)
			}
			c.change(pod, &pod.Containers[0])
			if got := violations(*pod); !slices.Contains(got, c.want) {
				t.Errorf("it sees %q", got)
			}
		})
	}
}

// restricted is a pod that does nothing wrong.
func restricted() *corev1.PodSpec {
	yes, no, user := true, false, int64(1000)
	amount := func() corev1.ResourceList {
		return corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi")}
	}
	return &corev1.PodSpec{
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: &yes, RunAsUser: &user, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{{
			Name:      "app",
			Resources: corev1.ResourceRequirements{Limits: amount(), Requests: amount()},
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		}},
	}
}
