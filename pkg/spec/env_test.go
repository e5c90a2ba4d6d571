package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func process(t *testing.T, text string) *Process {
	t.Helper()
	c, err := Parse("test", []byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c.Processes[0]
}

func TestLaterSourcesOfVariablesWin(t *testing.T) {
	files := map[string]string{"from": "A=from\nB=from\nC=from\nD=from\n", "file": "A=file\n"}
	read := func(path string) ([]byte, error) { return []byte(files[path]), nil }
	p := process(t, `[{"name": "a", "entrypoint": "a", "envFrom": [{"file": "from"}], "envs": {"A": "envs", "B": "envs", "C": "envs"},
		"env": [{"name": "A", "value": "env"}, {"name": "B", "value": "env"}], "envsFile": "file"}]`)
	got, err := p.Environ([]string{"A=wrapper", "B=wrapper", "C=wrapper", "D=wrapper", "E=wrapper", "odd", "=odd"}, read)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"A=file", "B=env", "C=envs", "D=from", "E=wrapper"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestEnvironmentOfAProcessWithoutItsOwnIsTheWrappers(t *testing.T) {
	clean := CleanEnv([]string{"A=1", "B=1", "odd", "=odd", "A=2"})
	if diff := cmp.Diff([]string{"A=2", "B=1"}, clean); diff != "" {
		t.Errorf("clean: -want +got:\n%s", diff)
	}
	got, err := process(t, `[{"name": "a", "entrypoint": "a"}]`).Environ(clean, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(clean, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	_ = append(got, "OTHER=1") // by one user
	if again := append(got, "MINE=1"); again[2] != "MINE=1" {
		t.Error(again)
	}
	own, err := process(t, `[{"name": "a", "entrypoint": "a", "envs": {"A": "3"}}]`).Environ(clean, nil)
	if err != nil {
		t.Fatal(err)
	}
	if own[0] != "A=3" || clean[0] != "A=2" {
		t.Errorf("own %q, the wrapper's %q", own, clean)
	}
}

func TestFieldsOfThePodComeFromTheWrapper(t *testing.T) {
	p := process(t, `
- name: a
  entrypoint: a
  envs: {POD_NAMESPACE: mine}
  env:
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NS, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: ALL, value: $(POD)/$(NS)/$(NODE)/$(IP)}
`)
	for _, tc := range []struct {
		name    string
		wrapper []string
		want    []string
	}{
		{"POD_NAME is preferred", []string{"POD_NAME=pod", "HOSTNAME=host", "POD_NAMESPACE=ns", "NODE_NAME=n"}, []string{"POD=pod", "NS=ns", "NODE=n", "ALL=pod/ns/n/$(IP)"}},
		{"HOSTNAME stands in for POD_NAME", []string{"HOSTNAME=host"}, []string{"POD=host", "ALL=host/$(NS)/$(NODE)/$(IP)"}},
		{"what cannot be resolved shows the wrapper's own", []string{"IP=10.0.0.1", "NS=kept"}, []string{"IP=10.0.0.1", "NS=kept", "ALL=$(POD)/kept/$(NODE)/10.0.0.1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := p.Environ(tc.wrapper, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tc.want {
				if !strings.Contains("\n"+strings.Join(got, "\n")+"\n", "\n"+want+"\n") {
					t.Errorf("no %s in %q", want, got)
				}
			}
		})
	}
}

func TestReferencesAreExpanded(t *testing.T) {
	vars := map[string]string{"A": "1", "B": "$(A)", "A.b": "dot", "EMPTY": ""}
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	for _, tc := range []struct{ name, in, known, kubernetes string }{
		{"a known name", "x$(A)y", "x1y", "x1y"},
		{"a value is not expanded again", "$(B)", "$(A)", "$(A)"},
		{"an unknown name stays", "$(X) $(A)", "$(X) 1", "$(X) 1"},
		{"an empty value", "[$(EMPTY)]", "[]", "[]"},
		{"a name with a dot", "$(A.b)", "dot", "dot"},
		{"an escaped reference", "$$(A)", "$(A)", "$(A)"},
		{"an escaped unknown reference", "$$(X)", "$(X)", "$(X)"},
		{"two dollars of a shell", "kill $$", "kill $$", "kill $"},
		{"three dollars", "$$$(A)", "$$(A)", "$1"},
		{"four dollars", "$$$$(A)", "$$$(A)", "$$(A)"},
		{"a variable of a shell", "$A ${A}", "$A ${A}", "$A ${A}"},
		{"a command of a shell", "$(date +%s)", "$(date +%s)", "$(date +%s)"},
		{"not closed", "$(A", "$(A", "$(A"},
		{"at the end", "A$", "A$", "A$"},
		{"an empty name", "$()", "$()", "$()"},
		{"after one that is not closed", "$(A $(A)", "$(A 1", "$(A 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := expandText(tc.in, ExpandKnown, lookup); got != tc.known {
				t.Errorf("known: %q, want %q", got, tc.known)
			}
			if got := expandText(tc.in, ExpandKubernetes, lookup); got != tc.kubernetes {
				t.Errorf("kubernetes: %q, want %q", got, tc.kubernetes)
			}
			if got := expandText(tc.in, ExpandNone, lookup); got != tc.in {
				t.Errorf("none: %q, want %q", got, tc.in)
			}
		})
	}
}

func TestCommandsAreExpandedFromTheEnvironment(t *testing.T) {
	p := process(t, `[{name: a, command: [/a, "$(P)"], args: ["$$(P)", $(P)$$], livenessProbe: {exec: {command: [c, $(P)]}}, lifecycle: {preStop: {exec: {command: [c, $(P)$$]}}}}]`)
	env := AddEnv([]string{"P=1", "Q=2"}, []EnvVar{{Name: "P", Value: "$(Q)", Expand: ExpandKnown}})
	if diff := cmp.Diff([]string{"P=2", "Q=2"}, env); diff != "" {
		t.Error(diff)
	}
	for _, tc := range []struct {
		name string
		exec *Exec
		want []string
	}{
		{"the process", &p.Exec, []string{"/a", "2", "$(P)", "2$"}},
		{"a probe", p.LivenessProbe.Exec, []string{"c", "2"}},
		{"a hook is not, as in Kubernetes", p.Lifecycle.PreStop.Exec, []string{"c", "$(P)$$"}},
	} {
		if diff := cmp.Diff(tc.want, tc.exec.Argv(env)); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}

func TestFilesOfVariables(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "env")
	if err := os.WriteFile(path, []byte("A=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := process(t, fmt.Sprintf(`[{name: a, entrypoint: a, envFrom: [{file: %q, prefix: X_}, {file: %q, optional: true}]}]`, path, path+".missing"))
	got, err := p.Environ(nil, nil)
	if diff := cmp.Diff([]string{"X_A=1"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	p = process(t, fmt.Sprintf(`[{name: a, entrypoint: a, envsFile: %q}]`, path+".missing"))
	if _, err = p.Environ(nil, nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "envsFile") {
		t.Errorf("a missing envsFile: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, maxEnvFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	p = process(t, fmt.Sprintf(`[{name: a, entrypoint: a, envsFile: %q}]`, path))
	if _, err = p.Environ(nil, nil); !errors.Is(err, errTooLarge) {
		t.Errorf("a large envsFile: %v", err)
	}
}

func TestEnvFilesAreReadAsShellsWriteThem(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain", "A=1\nB=two words\n", `A="1" B="two words"`},
		{"no line break at the end", "A=1", `A="1"`},
		{"empty values", "A=\nB=''\nC=\"\"\n", `A="" B="" C=""`},
		{"comments and empty lines", "# c\n\n  # c\nA=1 # c\nB=1#c\nC=# c\n", `A="1" B="1#c" C=""`},
		{"export", "export A=1\n  export\tB=2\nexporter=3\n", `A="1" B="2" exporter="3"`},
		{"spaces", "  A = 1  \nB=\t2\n", `A="1" B="2"`},
		{"single quotes", "A='$X \\n \"#' # c\n", `A="$X \\n \"#"`},
		{"double quotes", `A="a\n\t\r\"\\\$\` + "`" + `\q # é\é"`, "A=\"a\\n\\t\\r\\\"\\\\$`\\\\q # é\\\\é\""},
		{"quotes over lines", "A='1\n2'\nB=\"3\n\\\n4\"\nC=5", `A="1\n2" B="3\n4" C="5"`},
		{"carriage returns and a byte order mark", "\xef\xbb\xbfA=1\r\nB=\"2\"\r\n", `A="1" B="2"`},
		{"an equals sign in the value", "A=b=c==\n", `A="b=c=="`},
		{"quotes inside a value stay", "A=it's\nB={\"a\": 1}\n", `A="it's" B="{\"a\": 1}"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			vars, err := ParseEnvFile([]byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range vars {
				got = append(got, fmt.Sprintf("%s=%q", v.Name, v.Value))
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBadEnvFilesNameTheLineAndNoValue(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"no equals sign", "A=1\nhunter2\n", "line 2: has no = after a name"},
		{"a bad name", "hunter 2=hunter2\n", "line 1: what stands before = is not the name of a variable"},
		{"a name that starts with a digit", "2A=hunter2\n", "line 1: what stands before = is not the name of a variable"},
		{"an open quote", "A=1\nB='hunter2\nC=1\n", "line 2: the quote is not closed"},
		{"something after the quote", "A=\"1\n2\"\nB='x'hunter2\n", "line 3: there is more after the closing quote"},
		{"NUL", "A=hunter2\x00", "is not text"},
		{"not UTF-8", "A=hunter2\xff", "is not text"},
		{"too many", strings.Repeat("A=hunter2\n", maxEnvVars+1), "line 10001: more than 10000 variables"},
		{"too large", "A=" + strings.Repeat("x", maxEnvFile), "more than 1MiB"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseEnvFile([]byte(tc.in))
			if err == nil || err.Error() != tc.want {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}

func FuzzParseEnvFile(f *testing.F) {
	for _, s := range []string{"A=1\nexport B='x\ny' # c\n", `C="a\n\"" #`, "# c\nA", "A='", "A==\r\n", "export =", "A=\"\\"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		vars, err := ParseEnvFile(data)
		if err != nil {
			if len(vars) > 0 {
				t.Error("variables and an error")
			}
			return
		}
		for _, v := range vars {
			if !plainVar(v.Name) {
				t.Errorf("name %q", v.Name)
			}
			again, err := ParseEnvFile([]byte(v.Name + "='" + v.Value + "'"))
			if !strings.ContainsAny(v.Value, "'\r") && (err != nil || len(again) != 1 || again[0].Value != v.Value) {
				t.Errorf("%q is read back as %v, %v", v.Value, again, err)
			}
		}
	})
}

func FuzzExpand(f *testing.F) {
	f.Add("a $(A) $$(A) $$ $( $(B")
	f.Fuzz(func(t *testing.T, s string) {
		none := func(string) (string, bool) { return "", false }
		if got := expandText(s, ExpandKnown, none); strings.ReplaceAll(got, "$", "") != strings.ReplaceAll(s, "$", "") {
			t.Errorf("%q becomes %q", s, got)
		}
		if got := expandText(s, ExpandKubernetes, none); !strings.Contains(s, "$$") && got != s {
			t.Errorf("%q becomes %q", s, got)
		}
	})
}
