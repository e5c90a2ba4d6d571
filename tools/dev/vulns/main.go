// Vulns runs govulncheck over packages and fails for what is not in its list of exceptions.
//
//	vulns [-govulncheck PROGRAM] [-exceptions FILE] PACKAGE...
//
// Where the database cannot be asked it says so; with RELEASE=1 that is a failure too.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// exception is a line of the file: ID MODULE REASON.
type exception struct{ id, module, reason string }

// finding says that the code of a vulnerability is reached.
type finding struct{ id, module, function string }

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "vulns:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("vulns", flag.ContinueOnError)
	program := flags.String("govulncheck", "govulncheck", "the program to run")
	file := flags.String("exceptions", "", "file of findings that are allowed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	exceptions, err := readExceptions(*file)
	if err != nil {
		return err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(*program, append([]string{"-format", "json"}, flags.Args()...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if !strings.Contains(stderr.String(), "fetching vulnerabilities") {
			return fmt.Errorf("govulncheck: %w: %s", err, stderr.Bytes())
		}
		if os.Getenv("RELEASE") == "1" {
			return fmt.Errorf("RELEASE=1 and the database of vulnerabilities cannot be asked: %s", bytes.TrimSpace(stderr.Bytes()))
		}
		fmt.Fprintln(out, "SKIPPED: vulnerabilities, as their database cannot be asked:", strings.TrimSpace(stderr.String()))
		return nil
	}
	findings, err := read(&stdout)
	if err != nil {
		return fmt.Errorf("decode what govulncheck says: %w", err)
	}
	return judge(findings, exceptions, out)
}

// readExceptions reads lines of an id, a module and a reason; # begins a comment.
func readExceptions(file string) ([]exception, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []exception
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case len(fields) < 3:
			return nil, fmt.Errorf("%s: %q must be an id, a module and the reason", file, strings.TrimSpace(line))
		default:
			all = append(all, exception{fields[0], fields[1], strings.Join(fields[2:], " ")})
		}
	}
	return all, nil
}

// read returns the findings whose code is reached: those with a function. Others are of modules
// that are required, and of packages that are imported, without a way to the code.
func read(r io.Reader) ([]finding, error) {
	var all []finding
	for decoder := json.NewDecoder(r); ; {
		var message struct {
			Finding *struct {
				OSV   string
				Trace []struct{ Module, Package, Function string }
			}
		}
		if err := decoder.Decode(&message); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		if f := message.Finding; f != nil && len(f.Trace) > 0 && f.Trace[0].Function != "" {
			found := finding{f.OSV, f.Trace[0].Module, f.Trace[0].Package + "." + f.Trace[0].Function}
			if !slices.Contains(all, found) {
				all = append(all, found)
			}
		}
	}
}

func judge(findings []finding, exceptions []exception, out io.Writer) error {
	used, bad := map[int]bool{}, false
	for _, f := range findings {
		i := slices.IndexFunc(exceptions, func(e exception) bool { return e.id == f.id && e.module == f.module })
		if used[i] = true; i < 0 {
			bad = true
			fmt.Fprintf(out, "%s: %s is reached; https://pkg.go.dev/vuln/%s\n", f.id, f.function, f.id)
		}
	}
	for i, e := range exceptions {
		if !used[i] {
			fmt.Fprintf(out, "the exception for %s is not needed any more\n", e.id)
		}
	}
	if bad {
		return errors.New("mend what is reached, or write down in the list of exceptions why it does no harm")
	}
	return nil
}
