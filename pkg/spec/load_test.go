package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func names(c *Config) string {
	if c == nil {
		return "none"
	}
	var all []string
	for _, p := range c.Processes {
		all = append(all, p.Name)
	}
	return strings.Join(all, " ")
}

const one = "- {name: %s, entrypoint: x}\n"

func TestConfigsComeFromFilesDirectoriesAndStdin(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/d/20-b.yaml", fmt.Sprintf(one, "b"))
	write(t, dir+"/d/10-a.yml", fmt.Sprintf(one, "a")+"- {name: z, entrypoint: x, dependsOn: [b]}\n")
	write(t, dir+"/d/30-c.json", `[{"name": "c", "entrypoint": "x"}]`)
	write(t, dir+"/d/README.md", "not a config")
	write(t, dir+"/d/.hidden.yaml", "not: a config")
	write(t, dir+"/d/sub.yaml/x", "not a config")
	write(t, dir+"/d/..data/40-d.yaml", fmt.Sprintf(one, "d"))
	if err := os.Symlink("..data/40-d.yaml", dir+"/d/40-d.yaml"); err != nil {
		t.Fatal(err)
	}
	file := write(t, dir+"/any.name", fmt.Sprintf(one, "f"))
	for _, tc := range []struct{ name, source, want string }{
		{"a file of any name", file, "f"},
		{"a directory, sorted, as one list, as a ConfigMap is mounted", dir + "/d", "a z b c d"},
		{"standard input", "-", "i"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Load(tc.source, Options{Stdin: strings.NewReader(fmt.Sprintf(one, "i"))})
			if err != nil || names(c) != tc.want {
				t.Errorf("%s, %v; want %s", names(c), err, tc.want)
			}
		})
	}
}

func TestWhatCannotBeReadIsNamed(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int64{"/large": maxBytes + 1, "/two/a.yaml": maxBytes - 10, "/two/b.yaml": 11} {
		if err := os.Truncate(write(t, dir+name, ""), size); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir+"/none/a.conf", "")
	for _, tc := range []struct {
		name, source string
		is           error
		want         string
	}{
		{"a missing file", dir + "/nope", fs.ErrNotExist, `read config "` + dir + `/nope": no such file or directory`},
		{"a large file", dir + "/large", errTooLarge, `read config "` + dir + `/large": more than 8 MiB`},
		{"files that are large together", dir + "/two", errTooLarge, `read config "` + dir + `/two": b.yaml: more than 8 MiB`},
		{"a directory without config", dir + "/none", nil, `read config "` + dir + `/none": the directory has no *.yaml, *.yml or *.json file`},
		{"no standard input", "-", errNoStdin, `read config "-": no standard input to read from`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Load(tc.source, Options{})
			if c != nil || err == nil || err.Error() != tc.want || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
	if _, err := Parse("CONFIG", make([]byte, maxBytes+1), Options{}); !errors.Is(err, errTooLarge) {
		t.Error(err)
	}
}

func TestErrorsOfManyFilesAreSortedAndNamed(t *testing.T) {
	dir := t.TempDir()
	b := write(t, dir+"/b.yaml", "- {name: a, entrypoint: x}\n- {name: b, entrypoint: x, dependsOn: [c]}\n")
	a := write(t, dir+"/a.yaml", "- {name: a, entrypoint: x}\n- {name: c, nam: d}\n")
	_, err := Load(dir, Options{})
	want := a + `:2:13: c.nam: unknown key — did you mean "name"?` + "\n" +
		b + `:1:10: a.name: the name "a" is there twice, first in ` + a + `:1:3 — give it another name, or use replicas`
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	var first *Error
	if !errors.As(err, &first) || first.Line != 2 || first.Path != "c.nam" {
		t.Errorf("%+v", first)
	}
}

func TestJSONAndYAMLMeanTheSame(t *testing.T) {
	for _, path := range inputs(t, "good", 15) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			docs, bad := documents("x", data)
			if bad != nil {
				t.Fatal(bad)
			}
			for _, doc := range docs {
				asJSON, err := json.Marshal(jsonTree(doc))
				if err != nil {
					t.Fatal(err)
				}
				again, err := jsonNode(asJSON)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(bare(t, doc), bare(t, again)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// bare parses a node and drops the positions.
func bare(t *testing.T, n *yaml.Node) *Config {
	t.Helper()
	d := &decoder{}
	d.document(&at{file: "x", node: n})
	for _, e := range d.entries {
		e.Deps = nil
	}
	c := &Config{Processes: d.expand()}
	if len(d.errs) > 0 {
		t.Fatal(d.errs)
	}
	for _, p := range c.Processes {
		p.Source = ""
		byName := func(a, b EnvVar) bool { return a.Name < b.Name }
		sortVars(p.Env.Envs, byName)
	}
	return c
}

func sortVars(vars []EnvVar, less func(a, b EnvVar) bool) {
	for i := range vars {
		for j := i; j > 0 && less(vars[j], vars[j-1]); j-- {
			vars[j], vars[j-1] = vars[j-1], vars[j]
		}
	}
}

// fill adds what is not there yet.
func fill(m, from map[string]any) {
	for k, v := range from {
		if _, ok := m[k]; !ok {
			m[k] = v
		}
	}
}

// jsonTree makes what encoding/json writes as the same values.
func jsonTree(n *yaml.Node) any {
	switch n.Kind {
	case yaml.AliasNode:
		return jsonTree(n.Alias)
	case yaml.SequenceNode:
		list := []any{}
		for _, e := range n.Content {
			list = append(list, jsonTree(e))
		}
		return list
	case yaml.MappingNode:
		m, merged := map[string]any{}, map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			v := jsonTree(n.Content[i+1])
			if n.Content[i].Tag != "!!merge" {
				m[n.Content[i].Value] = v
				continue
			}
			list, ok := v.([]any)
			if !ok {
				list = []any{v}
			}
			for _, from := range list {
				fill(merged, from.(map[string]any))
			}
		}
		fill(m, merged)
		return m
	}
	if n.Tag == "!!null" {
		return nil
	}
	if (n.Tag == "!!int" || n.Tag == "!!float") && json.Valid([]byte(n.Value)) {
		return json.Number(n.Value)
	}
	return n.Value
}

func TestReplicasShareNothing(t *testing.T) {
	data, err := os.ReadFile("testdata/good/every_key.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("x", data, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range c.Processes {
		for i := range p.DependsOn {
			p.DependsOn[i].Processes = nil // shared on purpose
		}
	}
	seen := map[uintptr]string{}
	shared(t, "0", reflect.ValueOf(c.Processes[0]), seen)
	before := len(seen)
	shared(t, "1", reflect.ValueOf(c.Processes[1]), seen)
	if before < 20 || len(seen) != 2*before {
		t.Errorf("%d places, then %d", before, len(seen))
	}
	if !c.Processes[1].Is("all") || !c.Processes[1].Is("all_1") || c.Processes[1].Is("all_0") {
		t.Error("a replica has its own name and the base name")
	}
}

// shared fails where v reaches memory of seen.
func shared(t *testing.T, path string, v reflect.Value, seen map[uintptr]string) {
	note := func() {
		if other, ok := seen[v.Pointer()]; ok {
			t.Errorf("%s and %s are the same memory", other, path)
		}
		seen[v.Pointer()] = path
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			note()
			shared(t, path, v.Elem(), seen)
		}
	case reflect.Map:
		if v.Len() > 0 {
			note()
		}
	case reflect.Slice:
		if v.Len() > 0 {
			note()
		}
		for i := range v.Len() {
			if k := v.Index(i).Kind(); k == reflect.Struct {
				for f := range v.Index(i).NumField() {
					shared(t, fmt.Sprintf("%s[%d].%d", path, i, f), v.Index(i).Field(f), seen)
				}
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			shared(t, path+"."+v.Type().Field(i).Name, v.Field(i), seen)
		}
	}
}

func TestLargeConfigsLoadFast(t *testing.T) {
	var many, chain strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "- name: p%d\n  entrypoint: sh\n  args: [-c, sleep 1]\n  envs: {A: 1, B: 2}\n  readiness: {tcp: {socket: \":80\"}}\n", i)
		fmt.Fprintf(&chain, "- {name: p%d, entrypoint: x, dependsOn: [p%d]}\n", i, (i+1)%1000)
	}
	for _, tc := range []struct{ name, text string }{
		{"1,000 processes", many.String()},
		{"1,000 replicas", "- {name: a, entrypoint: x, replicas: 1000, args: [a, b, c], labels: {a: b}}\n"},
		{"1,000 replicas that depend on 1,000", "- {name: a, entrypoint: x, replicas: 1000}\n- {name: b, entrypoint: x, replicas: 1000, dependsOn: [a]}\n"},
		{"a circle of 1,000", chain.String()},
		{"1,000 processes with an unknown key", strings.ReplaceAll(many.String(), "entrypoint", "entripoint")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Now()
			c, err := Parse("x", []byte(tc.text), Options{})
			t.Logf("%v", time.Since(start))
			if took := time.Since(start); took > 20*time.Second { // it takes a second on a busy machine, and for ever where the work grows with the square
				t.Errorf("took %v", took)
			}
			if (err == nil) != (c != nil) || c != nil && len(c.Processes) < 1000 {
				t.Error(err)
			}
		})
	}
}

func TestAliasesCannotExplode(t *testing.T) {
	wide := "- &a {name: a, entrypoint: x, args: &l [" + strings.Repeat("x, ", 2000) + "]}\n" + strings.Repeat("- {<<: *a}\n", 2000)
	deep := "- &a0 {name: a, entrypoint: x}\n"
	for i := range 40 {
		deep += fmt.Sprintf("- &a%d {<<: [%s]}\n", i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 10))
	}
	for _, tc := range []struct{ name, text, want string }{
		{"wide", wide, "aliases expand to more than 200,000 values"},
		{"deep", deep, "aliases expand to more than 200,000 values"},
		{"of itself", "- &a {name: a, entrypoint: x, args: &l [*l]}\n", "a.args[0]: wants a string, is a list"},
		{"merged into itself", "- &a {name: a, entrypoint: x, <<: *a}\n", "merges are nested more than ten deep"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse("x", []byte(tc.text), Options{})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %s", err, tc.want)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestTooManyErrorsAreCounted(t *testing.T) {
	_, err := Parse("x", []byte(strings.Repeat("- 5\n", 1000)), Options{})
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != maxProblems+1 || errs[maxProblems].Error() != "x: 800 more errors" {
		t.Errorf("%d errors: %v", len(errs), errs[len(errs)-1])
	}
}

func TestTheIgnoredKeysOfAThousandContainersAreOneShortWarning(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "- {name: p%d, command: [x], image: y, ports: [], tty: true}\n", i)
	}
	c, err := Parse("x", []byte(b.String()), Options{})
	if err != nil || len(c.Warnings) != 1 {
		t.Fatal(err, c)
	}
	want := "x:1:28: ignored, since it does nothing for a process: image (p0, p1, p2, p3, p4 and 995 more), ports (p0, p1, p2, p3, p4 and 995 more), tty (p0, p1, p2, p3, p4 and 995 more)"
	if got := c.Warnings[0].Error(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
