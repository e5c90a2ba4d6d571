package charts

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const kubernetes = root + "/deployment/kubernetes"

// The plain manifests are those of the charts with their own values, without what only Helm needs. A
// ConfigMap is made by kustomize of a file beside them, so that a change of it replaces the pods.
func TestThePlainManifestsAreThoseOfTheCharts(t *testing.T) {
	for _, name := range charts {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(kubernetes, name)
			text := "# Made from deployment/helm/" + name + " by its tests: do not edit.\n"
			for _, o := range rendered(t, name, "").objects {
				if m, ok := o.Object.(*corev1.ConfigMap); ok {
					for file, config := range m.Data {
						same(t, filepath.Join(dir, file), config+"\n")
					}
					continue
				}
				text += "---\n" + plain(t, o)
			}
			same(t, filepath.Join(dir, "manifests.yaml"), text)
		})
	}
}

// plain returns an object without the marks of Helm.
func plain(t *testing.T, o object) string {
	t.Helper()
	data, err := json.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	delete(tree, "status")
	strip(tree)
	out, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func strip(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range []string{"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "checksum/config"} {
			delete(v, key)
		}
		if v["namespace"] == "default" {
			delete(v, "namespace")
		}
		if v["creationTimestamp"] == nil {
			delete(v, "creationTimestamp")
		}
		for _, child := range v {
			strip(child)
		}
	case []any:
		for _, child := range v {
			strip(child)
		}
	}
}

// kustomized does what kubectl kustomize DIR does.
func kustomized(t *testing.T, dir string) release {
	t.Helper()
	out, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := out.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return release{chart: filepath.Base(dir), objects: decode(t, dir, string(text))}
}

func TestThePlainManifestsCanBeApplied(t *testing.T) {
	for _, name := range append(slices.Clone(charts), "example") {
		t.Run(name, func(t *testing.T) {
			r := kustomized(t, filepath.Join(kubernetes, name))
			for _, complaint := range append(r.misfits(), violations(r.pod().Spec)...) {
				t.Error(complaint)
			}
			pod := r.pod().Spec
			dir := t.TempDir()
			r.files(t, dir, pod)
			program, args := name, local(pod.Containers[0].Args, dir)
			if name == "example" || name == "process-wrapper" {
				validated(t, args, env(pod.Containers[0]))
				return
			}
			accepted(t, filepath.Join(bin, program), args, env(pod.Containers[0]))
		})
	}
}

// The images of both ways have one version.
func TestTheManifestsNameOneVersion(t *testing.T) {
	want := load(t, charts[0]).Metadata.AppVersion
	for _, name := range charts {
		c := load(t, name)
		if c.Metadata.AppVersion != want || "v"+c.Metadata.Version != want {
			t.Errorf("%s is of version %s and appVersion %s, %s of %s", name, c.Metadata.Version, c.Metadata.AppVersion, charts[0], want)
		}
		text := fmt.Sprint(plainImages(t, name))
		for _, image := range regexp.MustCompile(`ghcr\.io/process-wrapper/\S+`).FindAllString(text, -1) {
			if !strings.HasSuffix(strings.Trim(image, "]"), ":"+want) {
				t.Errorf("%s: %s is not of version %s", name, image, want)
			}
		}
	}
}

func plainImages(t *testing.T, name string) []string {
	t.Helper()
	var all []string
	for _, c := range containers(kustomized(t, filepath.Join(kubernetes, name)).pod().Spec) {
		all = append(all, c.Image)
	}
	return all
}
