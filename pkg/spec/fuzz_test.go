package spec

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"
)

func FuzzParse(f *testing.F) {
	addFiles(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		start := time.Now()
		c, err := Parse("fuzz", data, Options{})
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%d bytes took %v", len(data), took)
		}
		if err == nil {
			checkConfig(t, c)
			return
		}
		var errs Errors
		if !errors.As(err, &errs) || len(errs) == 0 {
			t.Fatalf("%T: %v", err, err)
		}
		checkErrors(t, errs, data)
	})
}

func addFiles(f *testing.F) {
	for _, dir := range []string{"bad", "good"} {
		files, err := os.ReadDir("testdata/" + dir)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile("testdata/" + dir + "/" + file.Name())
			if err != nil {
				f.Fatal(err)
			}
			if !bytes.HasSuffix([]byte(file.Name()), []byte(".txt")) {
				f.Add(data)
			}
		}
	}
}

// checkErrors checks that errors point into the file.
func checkErrors(t *testing.T, errs Errors, data []byte) {
	t.Helper()
	lines := 1
	for _, end := range []string{"\n", "\r", "\u2028", "\u2029", "\u0085", "\n\x00", "\r\x00", "\x00\n", "\x00\r"} {
		lines += bytes.Count(data, []byte(end))
	}
	for _, e := range errs[:min(len(errs), maxProblems)] {
		if e.Line < 1 || e.Column < 1 || e.Line > lines {
			t.Errorf("no position in the file: %v", e)
		}
	}
}

// checkConfig checks what every accepted config promises.
func checkConfig(t *testing.T, c *Config) {
	t.Helper()
	seen := map[string]bool{}
	for _, p := range c.Processes {
		switch {
		case seen[p.Name], !goodName(p.Name):
			t.Errorf("name %q", p.Name)
		case len(p.Exec.Command) == 0 || p.Exec.Command[0] == "":
			t.Errorf("%s has no command", p.Name)
		case p.Readiness.Period <= 0, p.Readiness.StartupDeadline <= 0, p.Readiness.FailureThreshold < 1, p.Backoff.Initial <= 0, p.Backoff.Max < p.Backoff.Initial:
			t.Errorf("%s lacks a default: %+v", p.Name, p)
		}
		seen[p.Name] = true
	}
	for _, p := range c.Processes {
		for _, dep := range p.DependsOn {
			for _, name := range dep.Processes {
				if !seen[name] {
					t.Errorf("%s depends on %s", p.Name, name)
				}
			}
		}
	}
}
