package charts

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
)

const (
	root = "../.."
	helm = root + "/deployment/helm"
)

var charts = []string{"metrics-server", "process-wrapper", "prommerge", "shared-lock"}

// release is a chart rendered with a file of values.
type release struct {
	chart, values string // "" is the chart's own
	objects       []object
}

func load(t *testing.T, name string) *chart.Chart {
	t.Helper()
	c, err := loader.Load(filepath.Join(helm, name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render does what helm template --release-name NAME does.
func render(c *chart.Chart, values map[string]any) (map[string]string, error) {
	options := chartutil.ReleaseOptions{Name: c.Name(), Namespace: "default", Revision: 1, IsInstall: true}
	top, err := chartutil.ToRenderValues(c, values, options, nil)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, top)
}

// rendered returns the objects of a release, in the order of their files.
func rendered(t *testing.T, name, file string) release {
	t.Helper()
	values := map[string]any{}
	if file != "" {
		var err error
		if values, err = chartutil.ReadValuesFile(file); err != nil {
			t.Fatal(err)
		}
	}
	files, err := render(load(t, name), values)
	if err != nil {
		t.Fatal(err)
	}
	r := release{chart: name, values: file}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(path, ".yaml") {
			r.objects = append(r.objects, decode(t, path, files[path])...)
		}
	}
	if len(r.objects) == 0 {
		t.Fatalf("%s renders nothing", name)
	}
	return r
}

// valueFiles are those of the directory ci of a chart.
func valueFiles(t *testing.T, name string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(helm, name, "ci", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("%s has only %d files of values", name, len(files))
	}
	return files
}

// each runs a test with every chart and every file of values.
func each(t *testing.T, test func(t *testing.T, r release)) {
	for _, name := range charts {
		for _, file := range valueFiles(t, name) {
			t.Run(name+"/"+strings.TrimSuffix(filepath.Base(file), "-values.yaml"), func(t *testing.T) {
				t.Parallel()
				test(t, rendered(t, name, file))
			})
		}
	}
}

func TestHelmFindsNothingToComplainAbout(t *testing.T) {
	for _, name := range charts {
		for _, m := range lint.All(filepath.Join(helm, name), nil, "default", true).Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}

func TestAllObjectsAreValidAndFitTogether(t *testing.T) {
	each(t, func(t *testing.T, r release) {
		for _, complaint := range r.misfits() {
			t.Error(complaint)
		}
	})
}

func TestAllPodsAreRestricted(t *testing.T) {
	each(t, func(t *testing.T, r release) {
		pods := 0
		for _, o := range r.objects {
			if template := o.template(); template != nil {
				pods++
				for _, complaint := range violations(template.Spec) {
					t.Error(complaint)
				}
				r.checkToken(t, template.Spec)
			}
		}
		if pods != 1 {
			t.Errorf("it has %d pods", pods)
		}
	})
}

func TestTheChartsShareOneFileOfHelpers(t *testing.T) {
	const common = "templates/_common.tpl"
	want, err := os.ReadFile(filepath.Join(helm, charts[0], common))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range charts[1:] {
		if got, err := os.ReadFile(filepath.Join(helm, name, common)); err != nil || string(got) != string(want) {
			t.Errorf("%s of %s is not that of %s: %v", common, name, charts[0], err)
		}
	}
}

func TestWrongValuesAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, chart string
		values      map[string]any
		want        string
	}{
		{"a key that does not exist", "process-wrapper", map[string]any{"replicas": 3}, "replicas"},
		{"a key that does not exist, further down", "shared-lock", map[string]any{"etcd": map[string]any{"tsl": map[string]any{}}}, "tsl"},
		{"a number as text", "process-wrapper", map[string]any{"replicaCount": "3"}, "replicaCount"},
		{"an unknown strategy", "process-wrapper", map[string]any{"strategy": "sidecar"}, "strategy"},
		{"a pod that is killed before its processes", "process-wrapper",
			map[string]any{"gracefulShutdownDeadlineSeconds": 60, "terminationGracePeriodSeconds": 60},
			"terminationGracePeriodSeconds: 60 must be more than gracefulShutdownDeadlineSeconds (60)"},
		{"a drain delay that takes all the time", "process-wrapper", map[string]any{"drainDelaySeconds": 25}, "drainDelaySeconds: 25 must be less"},
		{"a port called as ours", "process-wrapper", map[string]any{"ports": []any{map[string]any{"name": "health", "containerPort": 80}}}, "ports"},
		{"no member of etcd", "shared-lock", map[string]any{"etcd": map[string]any{"endpoints": []any{}}}, "endpoints"},
		{"a pod that is killed while it is still shown", "shared-lock", map[string]any{"shutdownDelaySeconds": 30}, "must be more than shutdownDelaySeconds (30)"},
		{"a port that is none", "metrics-server", map[string]any{"statsdPort": 70000}, "statsdPort"},
		{"a time without a unit", "metrics-server", map[string]any{"metricTTL": "24"}, "metricTTL"},
		{"a target without a URL", "prommerge", map[string]any{"targets": []any{map[string]any{"name": "app"}}}, "url"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := render(load(t, c.chart), c.values); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\ndoes not say %q", err, c.want)
			}
		})
	}
}

func (r release) String() string { return fmt.Sprintf("%s with %s", r.chart, filepath.Base(r.values)) }
