package charts

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chartutil"
)

var update = flag.Bool("update", false, "write the golden files and deployment/kubernetes anew")

// The golden files show what a change of a chart does to what it renders.
func TestTheChartsRenderWhatTheyDid(t *testing.T) {
	for _, golden := range []string{
		"process-wrapper/defaults", "process-wrapper/image", "process-wrapper/spot", "process-wrapper/job", "process-wrapper/podmonitor",
		"shared-lock/defaults", "shared-lock/embedded", "shared-lock/mutual-tls",
		"metrics-server/defaults", "metrics-server/persistent",
		"prommerge/defaults", "prommerge/token",
	} {
		t.Run(golden, func(t *testing.T) {
			name, values, _ := strings.Cut(golden, "/")
			file := filepath.Join(helm, name, "ci", values+"-values.yaml")
			vals, err := chartutil.ReadValuesFile(file)
			if err != nil {
				t.Fatal(err)
			}
			files, err := render(load(t, name), vals)
			if err != nil {
				t.Fatal(err)
			}
			same(t, filepath.Join("testdata", name+"-"+values+".yaml"), joined(files))
		})
	}
}

// joined are the manifests of a release, as helm template prints them, without empty ones.
func joined(files map[string]string) string {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if text := strings.TrimSpace(files[path]); text != "" && strings.HasSuffix(path, ".yaml") {
			b.WriteString("---\n# Source: " + path + "\n" + text + "\n")
		}
	}
	return b.String()
}

// same compares a text with a file, or writes the file with -update.
func same(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s differs from what is rendered now; with -update it is written anew:\n%s", path, got)
	}
}
