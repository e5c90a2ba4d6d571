package layers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../../.."

// listed is what go list says of a package; imports of tests are not among it.
type listed struct {
	ImportPath string
	Standard   bool
	Module     *struct{ Path string }
	Imports    []string
}

// golang runs the go command as for a release, at the root of the module.
func golang(t *testing.T, args ...string) []byte {
	t.Helper()
	stdout, _ := golangBoth(t, args...)
	return stdout
}

// golangBoth runs the go command and returns what it wrote to stdout and stderr.
func golangBoth(t *testing.T, args ...string) (out, err []byte) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.Bytes(), stderr.Bytes()
}

// list returns the packages that match the patterns and all that they import.
func list(t *testing.T, patterns ...string) map[string]listed {
	t.Helper()
	out := golang(t, append([]string{"list", "-deps", "-json=ImportPath,Standard,Module,Imports"}, patterns...)...)
	packages := map[string]listed{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		packages[p.ImportPath] = p
	}
}

// relative returns the path within our module.
func relative(importPath string) (rel string, isOurs bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func matches(rel string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, below := strings.CutSuffix(pattern, "*")
		return rel == pattern || below && strings.HasPrefix(rel, prefix)
	})
}

// importVerdict says what is wrong with the package from importing p, or "".
func importVerdict(from string, p listed) string {
	if p.Standard {
		return ""
	}
	if to, isOurs := relative(p.ImportPath); isOurs {
		if importers, restricted := only[to]; restricted && !matches(from, importers) {
			return fmt.Sprintf("%s imports %s, which only %v may", from, to, importers)
		}
		if !matches(to, ours[from]) {
			return fmt.Sprintf("%s imports %s, it may import %v", from, to, ours[from])
		}
		return ""
	}
	importers, known := theirs[p.Module.Path]
	switch {
	case !known:
		return fmt.Sprintf("%s imports %s, and module %s is not in the table of theirs", from, p.ImportPath, p.Module.Path)
	case !matches(from, importers):
		return fmt.Sprintf("%s imports %s, which only %v may", from, p.ImportPath, importers)
	}
	return ""
}

func TestPackagesImportOnlyWhatTheirLayerMay(t *testing.T) {
	packages := list(t, "./...")
	for importPath, p := range packages {
		from, isOurs := relative(importPath)
		if !isOurs {
			continue
		}
		if _, known := ours[from]; !known {
			t.Errorf("%s is not in the table of ours: add it with what it may import", from)
			continue
		}
		for _, imported := range p.Imports {
			if verdict := importVerdict(from, packages[imported]); verdict != "" {
				t.Error(verdict)
			}
		}
	}
}

func TestImportVerdicts(t *testing.T) {
	pkg := func(importPath, mod string) listed {
		return listed{ImportPath: importPath, Module: &struct{ Path string }{mod}}
	}
	own := func(rel string) listed { return pkg(module+"/"+rel, module) }
	for _, test := range []struct {
		name string
		from string
		to   listed
		want string
	}{
		{"the standard library is free", "pkg/status", listed{ImportPath: "net/http", Standard: true}, ""},
		{"a lower layer", "pkg/process", own("pkg/status"), ""},
		{"a higher layer", "pkg/status", own("pkg/process"), "pkg/status imports pkg/process, it may import []"},
		{"wrapper imports everything", "pkg/wrapper", own("pkg/probe/sql"), ""},
		{"but not the layers test", "pkg/wrapper", own("pkg/internal/layers"), "pkg/wrapper imports pkg/internal/layers, which only [] may"},
		{"spec is for wrapper alone", "cmd/shared-lock", own("pkg/spec"), "cmd/shared-lock imports pkg/spec, which only [pkg/wrapper] may"},
		{"cmd does not import cmd", "cmd/shared-lock", own("cmd/prommerge"), "cmd/shared-lock imports cmd/prommerge, it may import [pkg/*]"},
		{"a module where it belongs", "pkg/spec", pkg("gopkg.in/yaml.v3", "gopkg.in/yaml.v3"), ""},
		{"a module elsewhere", "pkg/api", pkg("gopkg.in/yaml.v3", "gopkg.in/yaml.v3"), "pkg/api imports gopkg.in/yaml.v3, which only [pkg/spec cmd/prommerge pkg/metadata/mock] may"},
		{"an unknown module", "pkg/api", pkg("example.com/x/y", "example.com/x"), "pkg/api imports example.com/x/y, and module example.com/x is not in the table of theirs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := importVerdict(test.from, test.to); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestBinariesLinkOnlyWhatTheirBudgetAllows(t *testing.T) {
	for rel, budget := range budgets {
		t.Run(rel, func(t *testing.T) {
			if sources, _ := filepath.Glob(filepath.Join(root, rel, "*.go")); len(sources) == 0 {
				return // not written yet
			}
			for importPath, p := range list(t, "./"+rel) {
				for _, prefix := range budget.without {
					if (importPath == prefix || strings.HasPrefix(importPath, prefix+"/")) && !slices.Contains(budget.but, importPath) {
						t.Errorf("links %s", importPath)
					}
				}
				if _, isOurs := relative(importPath); budget.stdOnly && !p.Standard && !isOurs {
					t.Errorf("links %s, it may only link the standard library", importPath)
				}
			}
			if budget.stripped > 0 {
				checkBinary(t, rel, budget.stripped)
			}
		})
	}
}

// checkBinary links a command as releases do, and checks its size and that the linker could drop
// methods that nothing calls.
func checkBinary(t *testing.T, rel string, limit int64) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "binary")
	_, edges := golangBoth(t, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -dumpdep", "-o", binary, "./"+rel)
	for edge := range strings.SplitSeq(string(edges), "\n") {
		if from, to, _ := strings.Cut(edge, " -> "); strings.HasSuffix(to, " <ReflectMethod>") {
			t.Errorf("%s calls %s, which finds methods by names that it computes: that keeps every exported method of every type", from, strings.TrimSuffix(to, " <ReflectMethod>"))
			break
		}
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s is %.2f MiB stripped", rel, float64(info.Size())/mebibyte)
	if info.Size() > limit {
		t.Errorf("%s is %.2f MiB stripped, its budget is %.2f", rel, float64(info.Size())/mebibyte, float64(limit)/mebibyte)
	}
}

func TestEveryCommandHasABudget(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(root, "cmd", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if _, known := budgets["cmd/"+filepath.Base(dir)]; !known {
			t.Errorf("cmd/%s has no line in the table of budgets", filepath.Base(dir))
		}
	}
}

// codeVerdicts says what a file of the package at rel does that shipped code may not.
func codeVerdicts(rel string, files *token.FileSet, file *ast.File) []string {
	var verdicts []string
	complain := func(at token.Pos, format string, args ...any) {
		position := files.Position(at)
		verdicts = append(verdicts, fmt.Sprintf("%s:%d: %s", position.Filename, position.Line, fmt.Sprintf(format, args...)))
	}
	use := func(at token.Pos, name string) {
		for _, rule := range uses {
			if slices.Contains(rule.names, name) && !matches(rel, rule.in) {
				complain(at, "%s: %s", name, rule.why)
			}
		}
	}
	imports := map[string]string{} // local name → path
	for _, spec := range file.Imports {
		importPath, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(importPath)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		imports[name] = importPath
		use(spec.Pos(), importPath)
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.GoStmt:
			complain(node.Pos(), "bare go statement: who starts a goroutine waits for it, with wg.Go")
		case *ast.FuncDecl:
			if node.Recv == nil && node.Name.Name == "init" {
				complain(node.Pos(), "init function: nothing happens at import")
			}
		case *ast.SelectorExpr:
			if name, isIdent := node.X.(*ast.Ident); isIdent && imports[name.Name] != "" {
				use(node.Pos(), imports[name.Name]+"."+node.Sel.Name)
			}
		}
		return true
	})
	return verdicts
}

func TestShippedCodeKeepsTheHouseRules(t *testing.T) {
	// Every build tag and system is looked at, so go list does not do. Reading the files here also
	// makes them inputs of the test's cached result.
	top := filepath.Join(root, "pkg")
	err := filepath.WalkDir(top, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, rel, source, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, verdict := range codeVerdicts(filepath.ToSlash(filepath.Dir(rel)), files, file) {
			t.Error(verdict)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCodeVerdicts(t *testing.T) {
	for _, test := range []struct {
		name, rel, source string
		want              []string
	}{
		{"calm code", "pkg/status", "import \"sync\"\nfunc f(wg *sync.WaitGroup) { wg.Go(func() {}) }", nil},
		{"a bare go statement", "pkg/status", "func f() { go f() }", []string{"x.go:2: bare go statement: who starts a goroutine waits for it, with wg.Go"}},
		{"an init function", "pkg/status", "func init() {}", []string{"x.go:2: init function: nothing happens at import"}},
		{"a method may be called init", "pkg/status", "type t int\nfunc (t) init() {}", nil},
		{"os/exec outside command", "pkg/probe", "import _ \"os/exec\"", []string{"x.go:2: os/exec: what starts and waits for processes has one home"}},
		{"os/exec in command", "pkg/command", "import _ \"os/exec\"", nil},
		{"a call through another name of the import", "pkg/api", "import zeit \"time\"\nfunc f() { zeit.Sleep(1) }", []string{"x.go:3: time.Sleep: a wait needs a way out: select on a timer and a context"}},
		{"an exit outside cli", "pkg/wrapper", "import \"os\"\nvar _ = os.Exit", []string{"x.go:3: os.Exit: only main exits; command does in the child that it forked"}},
		{"a field of the same name", "pkg/wrapper", "func f(os struct{ Exit int }) int { return os.Exit }", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, "x.go", "package x\n"+test.source, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, codeVerdicts(test.rel, files, file)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
