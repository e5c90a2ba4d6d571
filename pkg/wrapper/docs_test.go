package wrapper

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/process-wrapper/process-wrapper/pkg/spec"
)

// What stands in docs/ is true. An HTML comment before a fenced block says what
// it is, see the tests; tables stand between comments that begin and end them.

const root = "../../"

// block is a fenced block of a page.
type block struct {
	mark string // of the comment right before it
	lang string
	text string
	line int // where text begins
}

var fence = regexp.MustCompile("(?ms)^(?:<!-- ([^\n]*) -->\n)?```([a-z]*)\n(.*?)^```$")

func readPage(t *testing.T, path string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func blocks(t *testing.T, path string) []block {
	page := readPage(t, path)
	var all []block
	for _, m := range fence.FindAllStringSubmatchIndex(page, -1) {
		b := block{lang: page[m[4]:m[5]], text: page[m[6]:m[7]], line: strings.Count(page[:m[6]], "\n") + 1}
		if m[2] >= 0 {
			b.mark = page[m[2]:m[3]]
		}
		all = append(all, b)
	}
	return all
}

// table returns the rows of the table that a page calls so, as trimmed cells.
func table(t *testing.T, path, name string) [][]string {
	t.Helper()
	_, rest, begins := strings.Cut(readPage(t, path), "<!-- begin: "+name+" -->\n")
	rows, _, ends := strings.Cut(rest, "<!-- end: "+name+" -->")
	lines := strings.Split(strings.TrimSpace(rows), "\n")
	if !begins || !ends || len(lines) < 3 {
		t.Fatalf("%s has no table %q between <!-- begin: %[2]s --> and <!-- end: %[2]s -->", path, name)
	}
	var all [][]string
	for _, line := range lines[2:] {
		line = strings.ReplaceAll(strings.Trim(line, "| "), `\|`, "\x00")
		cells := strings.Split(line, "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], "\x00", "|"))
		}
		all = append(all, append(cells, "", "", "")) // an empty last cell was trimmed
	}
	return all
}

// codes returns what stands in backquotes.
func codes(s string) []string {
	var all []string
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(s, -1) {
		all = append(all, m[1])
	}
	return all
}

// agree reports what is in one map and not, or otherwise, in the other.
func agree(t *testing.T, page, program map[string]string) {
	t.Helper()
	for _, k := range sortedKeys(page) {
		if want, ok := program[k]; !ok {
			t.Errorf("the page has %s, the program has not", k)
		} else if page[k] != want {
			t.Errorf("%s: the page says %q, the program %q", k, page[k], want)
		}
	}
	for _, k := range sortedKeys(program) {
		if _, ok := page[k]; !ok {
			t.Errorf("the page lacks %s (%s)", k, program[k])
		}
	}
}

const configuration = "docs/configuration.md"

// Each yaml block is a complete config without warnings, or is marked
// "warns: FILE" or "invalid: FILE", and what it makes the program say follows.
func TestEveryConfigOfTheDocsDoesWhatThePageSays(t *testing.T) {
	pages, err := filepath.Glob(root + "docs/*.md")
	if err != nil || len(pages) < 2 {
		t.Fatal(pages, err)
	}
	configs := 0
	for _, path := range append(pages, root+"README.md") {
		path = strings.TrimPrefix(path, root)
		all := blocks(t, path)
		for i, b := range all {
			if b.lang != "yaml" || path == "docs/prommerge.md" { // whose configs are prommerge's
				continue
			}
			configs++
			t.Run(fmt.Sprintf("%s line %d", path, b.line), func(t *testing.T) {
				kind, name, _ := strings.Cut(b.mark, ": ")
				want := ""
				if kind == "warns" || kind == "invalid" {
					want = all[i+1].text
				}
				checkConfig(t, kind == "invalid", cmp.Or(name, path), b.text, want)
			})
		}
	}
	if configs < 15 {
		t.Errorf("only %d configs were found", configs)
	}
}

func TestEveryExampleIsAConfigWithoutWarnings(t *testing.T) {
	files, err := filepath.Glob(root + "examples/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		path := strings.TrimPrefix(file, root)
		checkConfig(t, false, path, readPage(t, path), "")
	}
}

func checkConfig(t *testing.T, invalid bool, name, text, want string) {
	t.Helper()
	cfg, err := spec.Parse(name, []byte(text), spec.Options{})
	if (err != nil) != invalid {
		t.Fatalf("is invalid: %v, should be: %v\n%v", err != nil, invalid, err)
	}
	got := ""
	if err != nil {
		got = err.Error() + "\n"
	} else if len(cfg.Warnings) > 0 {
		got = cfg.Warnings.Error() + "\n"
	}
	if got != want {
		t.Errorf("the program says\n%s\nthe page says\n%s", got, want)
	}
}

// helpSection returns name → default of a section of -h.
func helpSection(t *testing.T, title string) map[string]string {
	t.Helper()
	code, out, _ := exec(t, "-h")
	_, rest, ok := strings.Cut(out, "\n"+title)
	if code != 0 || !ok {
		t.Fatalf("%d: -h has no section %q", code, title)
	}
	rest, _, _ = strings.Cut(rest[strings.Index(rest, "\n")+1:], "\n\n")
	all := map[string]string{}
	for _, row := range strings.Split(regexp.MustCompile(`\n {4,}`).ReplaceAllString(rest, "  "), "\n") {
		names, text, _ := strings.Cut(strings.TrimSpace(row), "  ")
		def := regexp.MustCompile(`\(default\s+([^)]*)\)`).FindStringSubmatch(text)
		for name := range strings.SplitSeq(names, ", ") {
			if name, _, _ = strings.Cut(name, " "); name != "" {
				all[name] = strings.Join(append(def, "", "")[1:2], "")
			}
		}
	}
	return all
}

// pageFlags returns name → default of a table of flags and variables.
func pageFlags(t *testing.T, name string, keep func(string) bool) map[string]string {
	all := map[string]string{}
	for _, row := range table(t, configuration, name) {
		def := strings.Trim(row[1], "`")
		if def == "false" {
			def = "" // -h does not say it
		}
		for _, n := range codes(row[0]) {
			if keep(n) {
				all[n] = def
			}
		}
	}
	return all
}

func isFlag(name string) bool { return strings.HasPrefix(name, "-") }

func TestTheDocsHaveTheFlagsAndVariablesOfTheHelp(t *testing.T) {
	page := pageFlags(t, "flags", isFlag)
	agree(t, page, helpSection(t, "Flags"))
	notFlag := func(name string) bool { return !isFlag(name) }
	page = pageFlags(t, "environment", notFlag)
	agree(t, page, helpSection(t, "Environment"))
}

// schemaKeys returns path → default, "required", or "", a line break and the
// description, of every key of the JSON Schema.
func schemaKeys(t *testing.T) map[string]string {
	t.Helper()
	type node = map[string]any
	var top struct {
		Defs map[string]node `json:"$defs"`
	}
	if err := json.Unmarshal(spec.Schema(), &top); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	var walk func(at node, prefix string)
	walk = func(at node, prefix string) {
		if ref, ok := at["$ref"].(string); ok {
			walk(top.Defs[strings.TrimPrefix(ref, "#/$defs/")], prefix)
		}
		if items, ok := at["items"].(node); ok {
			walk(items, strings.TrimSuffix(prefix, ".")+"[].")
		}
		alternatives, _ := at["anyOf"].([]any)
		for _, a := range alternatives {
			walk(a.(node), prefix)
		}
		required, _ := at["required"].([]any)
		properties, _ := at["properties"].(node)
		for key, p := range properties {
			def := ""
			if d, ok := p.(node)["default"]; ok {
				def = fmt.Sprint(d)
			}
			if slices.Contains(required, any(key)) {
				def = "required"
			}
			all[prefix+key] = fmt.Sprint(def, "\n", p.(node)["description"])
			walk(p.(node), prefix+key+".")
		}
	}
	walk(top.Defs["process"], "")
	return all
}

// The table is pkg/spec/testdata/keys.md.
func TestTheDocsHaveEveryKeyWithItsDefault(t *testing.T) {
	page, program := map[string]string{}, map[string]string{}
	for _, row := range table(t, configuration, "keys") {
		page[strings.Trim(row[0], "`")] = strings.Trim(row[2], "`") + "\n" + row[3]
	}
	text := readPage(t, configuration)
	_, ignored, _ := strings.Cut(text, "Accepted, and without effect")
	ignored, _, _ = strings.Cut(ignored, "\nVariables that only")
	for path, said := range schemaKeys(t) {
		if !strings.Contains(said, "\nAccepted and ignored") {
			program[path] = said
		} else if !strings.Contains(ignored, "`"+path+"`") {
			t.Errorf("the page does not say that %s is ignored", path)
		}
	}
	if len(program) < 100 {
		t.Fatal(len(program))
	}
	agree(t, page, program)
}
