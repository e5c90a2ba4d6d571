package wrapper

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/process-wrapper/process-wrapper/pkg/spec"
)

// manifest is what counts of an object of Kubernetes.
type manifest struct {
	Kind string
	Data map[string]string
	Spec struct {
		podSpec  `yaml:",inline"`
		Template struct{ Spec podSpec }
	}
}

type podSpec struct {
	Containers []container
	Init       []container `yaml:"initContainers"`
}

type container struct {
	Name    string
	Command []string
	Env     []struct{ Name, Value string }
	Probe   *struct {
		HTTPGet          struct{ Path string } `yaml:"httpGet"`
		PeriodSeconds    int                   `yaml:"periodSeconds"`
		FailureThreshold int                   `yaml:"failureThreshold"`
	} `yaml:"readinessProbe"`
}

func (c container) env(name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

func manifests(t *testing.T, text string) []manifest {
	t.Helper()
	var all []manifest
	for dec := yaml.NewDecoder(strings.NewReader(text)); ; {
		var m manifest
		err := dec.Decode(&m)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
}

func TestTheManifestsUseWhatThereIsAndProbeInTime(t *testing.T) {
	files, err := filepath.Glob(root + "examples/kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	flags, vars := helpSection(t, "Flags"), helpSection(t, "Environment")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		ours := 0
		for _, m := range manifests(t, string(text)) {
			for name, config := range m.Data {
				if cfg, err := spec.Parse(name, []byte(config), spec.Options{}); err != nil || len(cfg.Warnings) > 0 {
					t.Errorf("%s: %v %v", file, err, cfg.Warnings)
				}
			}
			pods := append(m.Spec.Containers, m.Spec.Init...)
			for _, c := range append(append(pods, m.Spec.Template.Spec.Containers...), m.Spec.Template.Spec.Init...) {
				if len(c.Command) > 0 && filepath.Base(c.Command[0]) == "process-wrapper" {
					ours++
					checkContainer(t, file, c, flags, vars)
				}
			}
		}
		if ours == 0 {
			t.Errorf("%s has no process-wrapper", file)
		}
	}
}

// checkContainer checks a container that runs process-wrapper.
func checkContainer(t *testing.T, file string, c container, flags, vars map[string]string) {
	t.Helper()
	for _, arg := range c.Command[1:] {
		if name, _, _ := strings.Cut(arg, "="); strings.HasPrefix(name, "-") {
			if _, ok := flags[name]; !ok {
				t.Errorf("%s: %s: there is no flag %s", file, c.Name, name)
			}
		}
	}
	for _, e := range c.Env {
		if _, ok := vars[e.Name]; !ok {
			t.Errorf("%s: %s: there is no variable %s", file, c.Name, e.Name)
		}
	}
	if c.env("HANDLE_PREEMPTION") == "" {
		return
	}
	if p := c.Probe; p == nil || p.HTTPGet.Path != "/readiness" || p.PeriodSeconds < 1 || p.PeriodSeconds > 2 || p.FailureThreshold != 1 {
		t.Errorf("%s: %s: its readiness is seen too late: %+v", file, c.Name, p)
	}
	if drains := strings.Contains(strings.Join(c.Command, " "), "-envoy-drain"); drains && c.env("ENVOY_DRAIN_URL") != "http://localhost:15000/drain_listeners?inboundonly&graceful" {
		t.Errorf("%s: %s: Envoy is not drained as the docs say: %s", file, c.Name, c.env("ENVOY_DRAIN_URL"))
	}
}
