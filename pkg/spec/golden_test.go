package spec

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file beside the input.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run go test -update, and read what it writes", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func inputs(t *testing.T, dir string, least int) []string {
	t.Helper()
	var files []string
	for _, ext := range []string{"*.yaml", "*.json"} {
		found, err := filepath.Glob(filepath.Join("testdata", dir, ext))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < least {
		t.Fatalf("%d files in testdata/%s, want at least %d", len(files), dir, least)
	}
	return files
}

// load parses a file under its base name, so that messages do not depend on
// where the test runs.
func load(t *testing.T, path string, o Options) (*Config, error) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(filepath.Base(path), data, o)
}

func TestBadFilesAreRefusedWithExactMessages(t *testing.T) {
	for _, path := range inputs(t, "bad", 100) {
		t.Run(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), func(t *testing.T) {
			c, err := load(t, path, Options{})
			if err == nil {
				t.Fatalf("accepted:\n%s", dump(c))
			}
			var errs Errors
			if !errors.As(err, &errs) {
				t.Fatalf("%T is not Errors: %v", err, err)
			}
			for _, e := range errs {
				if e.Line < 1 || e.Column < 1 {
					t.Errorf("no position: %v", e)
				}
			}
			golden(t, path+".txt", err.Error()+"\n")
		})
	}
}

func TestGoodFilesGetDefaultsAndWarnings(t *testing.T) {
	for _, path := range inputs(t, "good", 15) {
		t.Run(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), func(t *testing.T) {
			c, err := load(t, path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			golden(t, path+".txt", dump(c))
		})
	}
}

// dump writes what is not zero, one value a line.
func dump(c *Config) string {
	var b strings.Builder
	for _, w := range c.Warnings {
		fmt.Fprintf(&b, "warning: %v\n", w)
	}
	for _, p := range c.Processes {
		fmt.Fprintf(&b, "process %s\n", p.Name)
		dumpValue(&b, "", reflect.ValueOf(*p))
	}
	return b.String()
}

func dumpValue(b *strings.Builder, path string, v reflect.Value) {
	if s, ok := v.Interface().(syscall.Signal); ok && s != 0 {
		fmt.Fprintf(b, "  %s: %s\n", path, SignalName(s))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() && v.Elem().Kind() == reflect.Struct {
			dumpValue(b, path, v.Elem())
		} else if !v.IsNil() {
			fmt.Fprintf(b, "  %s: %v\n", path, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			dumpValue(b, strings.TrimPrefix(path+"."+name, "."), v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			element := fmt.Sprintf("%s[%d]", path, i)
			if v.Index(i).Kind() == reflect.Struct {
				dumpValue(b, element, v.Index(i))
				continue
			}
			fmt.Fprintf(b, "  %s: %v\n", element, v.Index(i))
		}
	case reflect.String:
		if v.Len() > 0 {
			fmt.Fprintf(b, "  %s: %q\n", path, v)
		}
	default:
		if !v.IsZero() {
			fmt.Fprintf(b, "  %s: %v\n", path, v)
		}
	}
}
