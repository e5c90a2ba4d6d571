package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	reached  = `{"finding":{"osv":"GO-1","trace":[{"module":"example.com/m","package":"example.com/m/p","function":"F"}]}}`
	imported = `{"finding":{"osv":"GO-2","trace":[{"module":"example.com/m","package":"example.com/m/p"}]}}`
)

// program writes a script in the place of govulncheck.
func program(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "govulncheck")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestWhatIsReachedAndNotExceptedFails(t *testing.T) {
	offline := "echo 'govulncheck: fetching vulnerabilities: no such host' >&2; exit 1"
	for _, test := range []struct{ name, script, exceptions, release, says, fails string }{
		{"nothing", `echo '{"config":{}} {"progress":{}}'`, "", "1", "", ""},
		{"reached", "echo '" + reached + "'", "", "", "GO-1: example.com/m/p.F", "mend"},
		{"imported only", "echo '" + imported + "'", "", "", "", ""},
		{"excepted", "echo '" + reached + reached + "'", "# why\nGO-1 example.com/m it does no harm # really\n", "", "", ""},
		{"excepted of another module", "echo '" + reached + "'", "GO-1 example.com/n no harm", "", "not needed", "mend"},
		{"an exception for nothing", "exit 0", "GO-3 example.com/m no harm", "", "the exception for GO-3 is not needed", ""},
		{"an exception without a reason", "exit 0", "GO-3 example.com/m", "", "", "the reason"},
		{"no database", offline, "", "", "SKIPPED: vulnerabilities", ""},
		{"no database for a release", offline, "", "1", "", "RELEASE=1"},
		{"another error", "echo broken >&2; exit 1", "", "", "", "broken"},
		{"no JSON", "echo oops", "", "", "", "decode"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("RELEASE", test.release)
			list := filepath.Join(t.TempDir(), "list")
			if err := os.WriteFile(list, []byte(test.exceptions), 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err := run([]string{"-govulncheck", program(t, test.script), "-exceptions", list, "./..."}, &out)
			if !strings.Contains(out.String(), test.says) || test.says == "" && out.Len() > 0 {
				t.Errorf("it says %q", out.String())
			}
			if (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Errorf("it ends with %v", err)
			}
		})
	}
}
