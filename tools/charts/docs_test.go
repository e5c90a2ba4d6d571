package charts

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/strvals"
)

const deployment = root + "/docs/deployment.md"

func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(deployment)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The values that the page shows are those of the chart that it names, and what they make is right.
func TestTheValuesOfTheDocsWork(t *testing.T) {
	shown := regexp.MustCompile("(?ms)^<!-- values: ([a-z-]+) -->\n```yml\n(.*?)^```$").FindAllStringSubmatch(page(t), -1)
	if len(shown) < 3 {
		t.Fatalf("only %d blocks of values were found", len(shown))
	}
	for _, m := range shown {
		values, err := chartutil.ReadValues([]byte(m[2]))
		if err != nil {
			t.Fatal(err)
		}
		checkRendered(t, m[1], values)
	}
}

// The commands of the page are run, by the libraries of their programs.
func TestTheCommandsOfTheDocsWork(t *testing.T) {
	helms, kustomizes := 0, 0
	for line := range strings.Lines(page(t)) {
		command, _, _ := strings.Cut(line, " | ")
		command, _, _ = strings.Cut(command, "  #")
		words := strings.Fields(command)
		switch {
		case strings.HasPrefix(line, "helm template "), strings.HasPrefix(line, "helm upgrade "):
			helms++
			runHelm(t, words[2:])
		case strings.HasPrefix(line, "kubectl kustomize "):
			kustomizes++
			r := kustomized(t, filepath.Join(root, words[2]))
			for _, complaint := range r.misfits() {
				t.Errorf("%s: %s", line, complaint)
			}
		}
	}
	if helms < 6 || kustomizes < 5 {
		t.Errorf("only %d commands of helm and %d of kubectl were found", helms, kustomizes)
	}
}

// runHelm renders as a command line of helm template or helm upgrade says; files of values are those
// that the page shows.
func runHelm(t *testing.T, words []string) {
	t.Helper()
	values, positional := map[string]any{}, []string{}
	for i := 0; i < len(words); i++ {
		switch words[i] {
		case "--release-name", "--install": // without a value
		case "-f":
			i++
			if !strings.Contains(page(t), "# "+words[i]) {
				t.Errorf("the page does not show %s", words[i])
			}
		case "--set":
			i++
			if err := strvals.ParseInto(unquoted(words[i]), values); err != nil {
				t.Errorf("--set %s: %v", words[i], err)
			}
		default:
			positional = append(positional, words[i])
		}
	}
	if len(positional) != 2 || !strings.HasPrefix(positional[1], "deployment/helm/") {
		t.Fatalf("helm %v: wants a name and a chart", words)
	}
	checkRendered(t, filepath.Base(positional[1]), values)
}

// unquoted is what a shell makes of a word.
func unquoted(word string) string { return strings.ReplaceAll(word, `'`, "") }

func checkRendered(t *testing.T, name string, values map[string]any) {
	t.Helper()
	files, err := render(load(t, name), values)
	if err != nil {
		t.Errorf("%s with %v: %v", name, values, err)
		return
	}
	r := release{chart: name, objects: decode(t, name, joined(files))}
	for _, complaint := range append(r.misfits(), violations(r.pod().Spec)...) {
		t.Errorf("%s with %v: %s", name, values, complaint)
	}
}
