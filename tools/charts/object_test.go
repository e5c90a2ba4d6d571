package charts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	strictjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// kinds are all that the charts may render.
var kinds = map[string]func() metav1.Object{
	"v1/ConfigMap":                             func() metav1.Object { return new(corev1.ConfigMap) },
	"v1/Service":                               func() metav1.Object { return new(corev1.Service) },
	"v1/ServiceAccount":                        func() metav1.Object { return new(corev1.ServiceAccount) },
	"apps/v1/Deployment":                       func() metav1.Object { return new(appsv1.Deployment) },
	"apps/v1/StatefulSet":                      func() metav1.Object { return new(appsv1.StatefulSet) },
	"batch/v1/Job":                             func() metav1.Object { return new(batchv1.Job) },
	"networking.k8s.io/v1/NetworkPolicy":       func() metav1.Object { return new(networkingv1.NetworkPolicy) },
	"policy/v1/PodDisruptionBudget":            func() metav1.Object { return new(policyv1.PodDisruptionBudget) },
	"rbac.authorization.k8s.io/v1/Role":        func() metav1.Object { return new(rbacv1.Role) },
	"rbac.authorization.k8s.io/v1/RoleBinding": func() metav1.Object { return new(rbacv1.RoleBinding) },
	"monitoring.coreos.com/v1/PodMonitor":      func() metav1.Object { return new(monitoringv1.PodMonitor) },
	"monitoring.coreos.com/v1/ServiceMonitor":  func() metav1.Object { return new(monitoringv1.ServiceMonitor) },
}

// object is one of a release, as the types of Kubernetes read it.
type object struct {
	file string
	kind string // group/version/Kind
	metav1.Object
}

// decode reads objects as the API server does with fieldValidation=Strict: unknown and duplicate keys
// are errors.
func decode(t *testing.T, file, text string) []object {
	t.Helper()
	var all []object
	documents := yamlutil.NewYAMLReader(newReader(text))
	for {
		doc, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		o, err := decodeOne(doc)
		if err != nil {
			t.Fatalf("%s: %v\n%s", file, err, doc)
		}
		o.file = file
		all = append(all, o)
	}
}

func decodeOne(doc []byte) (object, error) {
	data, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return object{}, err
	}
	var head metav1.TypeMeta
	if err := yaml.Unmarshal(data, &head); err != nil {
		return object{}, err
	}
	kind := head.APIVersion + "/" + head.Kind
	made := kinds[kind]
	if made == nil {
		return object{}, fmt.Errorf("there is no type for %s", kind)
	}
	o := object{kind: kind, Object: made()}
	strict, err := strictjson.UnmarshalStrict(data, o.Object)
	return o, errors.Join(append(strict, err)...)
}

// template is that of the pods which an object makes, or nil.
func (o object) template() *corev1.PodTemplateSpec {
	switch v := o.Object.(type) {
	case *appsv1.Deployment:
		return &v.Spec.Template
	case *appsv1.StatefulSet:
		return &v.Spec.Template
	case *batchv1.Job:
		return &v.Spec.Template
	}
	return nil
}

// of returns the objects of one type.
func of[T metav1.Object](r release) []T {
	var all []T
	for _, o := range r.objects {
		if v, ok := o.Object.(T); ok {
			all = append(all, v)
		}
	}
	return all
}

// pod is the template of the pods of a release.
func (r release) pod() *corev1.PodTemplateSpec {
	for _, o := range r.objects {
		if template := o.template(); template != nil {
			return template
		}
	}
	return new(corev1.PodTemplateSpec)
}

func containers(pod corev1.PodSpec) []corev1.Container {
	return append(append([]corev1.Container{}, pod.InitContainers...), pod.Containers...)
}
