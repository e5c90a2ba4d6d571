package e2e

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what -h says, or what was measured, into the docs")

// The pages of the smaller programs end with what -h says. For process-wrapper, whose page has tables, a
// test of pkg/wrapper compares.
func TestTheDocsShowTheHelpOfEachProgram(t *testing.T) {
	for _, name := range []string{"metadata-mock", "metrics-server", "prommerge", "shared-lock"} {
		t.Run(name, func(t *testing.T) {
			help := command(t, nil, program(name), "-h")
			if help.code != 0 || help.stderr != "" {
				t.Fatalf("-h ends with %d: %s", help.code, help.stderr)
			}
			file := root + "/docs/" + name + ".md"
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			shown := regexp.MustCompile("(?s)(<!-- help: " + name + " -->\n```text\n)(.*?)(```\n)")
			m := shown.FindSubmatchIndex(text)
			if m == nil {
				t.Fatalf("%s does not show what -h says", file)
			}
			if string(text[m[4]:m[5]]) == help.stdout {
				return
			}
			if !*update {
				t.Fatalf("%s shows something else than -h; go -C tools/e2e test -run '^%s' . -update mends it:\n%s", file, "TestTheDocsShowTheHelp", help.stdout)
			}
			fresh := string(text[:m[4]]) + help.stdout + string(text[m[5]:])
			if err := os.WriteFile(file, []byte(fresh), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// The table of alerts in the docs is that of the rules.
func TestTheDocsHaveEveryAlert(t *testing.T) {
	rules, err := os.ReadFile(alertRules)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(root + "/docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	var said, there []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (warning|critical|info) \\|").FindAllStringSubmatch(string(page), -1) {
		said = append(said, m[1]+" "+m[2])
	}
	for _, m := range regexp.MustCompile(`(?s)- alert: (\w+)\n.*?severity: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		there = append(there, m[1]+" "+m[2])
	}
	if len(there) < 20 || strings.Join(said, "\n") != strings.Join(there, "\n") {
		t.Errorf("the page has\n%s\nthe rules are\n%s", strings.Join(said, "\n"), strings.Join(there, "\n"))
	}
}

// pasted puts what was measured between the marks of a page that bear its name.
func pasted(t *testing.T, page, name, text string) string {
	t.Helper()
	begin, end := "<!-- begin: "+name+" -->\n", "<!-- end: "+name+" -->"
	before, rest, begins := strings.Cut(page, begin)
	_, after, ends := strings.Cut(rest, end)
	if !begins || !ends {
		t.Fatalf("the page has no place for %s", name)
	}
	return before + begin + text + end + after
}

// What make overhead writes has its places.
func TestTheDocsHaveAPlaceForWhatIsMeasured(t *testing.T) {
	page := string(content(t, root+"/docs/overhead.md"))
	for _, name := range []string{"overhead-idle", "overhead-checks", "overhead-output", "overhead-measured"} {
		if got := pasted(t, page, name, "new\n"); !strings.Contains(got, "<!-- begin: "+name+" -->\nnew\n<!-- end") {
			t.Errorf("%s: %s", name, got)
		}
	}
}
