// Licenses lists the modules that are linked into the commands, with their licences.
//
//	licenses -write FILE    writes the list, as Markdown
//	licenses -check FILE    fails where a licence is unknown or not allowed, or the list is out of date
//	licenses -texts FILE    writes the texts themselves, which go with the binaries
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
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// known are the licences under which a binary may be passed on together with its notices, by words
// that only they have. MPL-2.0 asks that the source of its files can be had: the list links to it.
var known = []struct {
	name string
	has  []string
	not  string
}{
	{"Apache-2.0", []string{"apache license version 2.0", "grant of patent license"}, ""},
	{"BSD-2-Clause", []string{"redistribution and use in source and binary forms", "this list of conditions"}, "endorse or promote"},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms", "endorse or promote products derived"}, "advertising materials"},
	{"ISC", []string{"permission to use, copy, modify, and", "with or without fee is hereby granted"}, ""},
	{"MIT", []string{"permission is hereby granted, free of charge, to any person obtaining a copy"}, ""},
	{"MPL-2.0", []string{"mozilla public license version 2.0", "exhibit a - source code form license notice"}, ""},
}

// refused are titles of licences that ask for more than notices.
var refused = regexp.MustCompile(`gnu (affero |lesser |library )?general public license version [0-9.]+ [0-9]+ \w+ [0-9]{4}|` +
	`server side public license|business source license|commons clause|elastic license`)

// linked are the systems whose binaries are released.
var linked = []string{"linux/amd64", "linux/arm64", "darwin/arm64"}

type module struct {
	Path, Version, Dir string
	licenses           []string
	texts              [][]byte
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("licenses", flag.ContinueOnError)
	root := flags.String("root", ".", "directory of the module")
	write := flags.String("write", "", "file to write the list to")
	check := flags.String("check", "", "file that must hold the list")
	texts := flags.String("texts", "", "file to write the texts to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	modules, err := list(*root)
	if err != nil {
		return err
	}
	for i := range modules {
		if err := modules[i].read(); err != nil {
			return err
		}
	}
	var out bytes.Buffer
	if *texts != "" {
		writeTexts(&out, modules)
		return os.WriteFile(*texts, out.Bytes(), 0o644)
	}
	writeList(&out, modules)
	switch {
	case *write != "":
		return os.WriteFile(*write, out.Bytes(), 0o644)
	case *check != "":
		return compare(*check, out.Bytes())
	}
	return errors.New("give -write, -check or -texts")
}

// list returns the modules that the commands of a module link on any released system.
func list(root string) ([]module, error) {
	byPath := map[string]module{}
	for _, system := range linked {
		goos, goarch, _ := strings.Cut(system, "/")
		cmd := exec.Command("go", "list", "-deps", "-json=Module", "./cmd/...")
		cmd.Dir, cmd.Stderr = root, os.Stderr
		cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list for %s: %w", system, err)
		}
		for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
			var p struct {
				Module *struct {
					module
					Main bool
				}
			}
			if err := decoder.Decode(&p); err == io.EOF {
				break
			} else if err != nil {
				return nil, fmt.Errorf("decode what go list says: %w", err)
			}
			if p.Module != nil && !p.Module.Main {
				byPath[p.Module.Path] = p.Module.module
			}
		}
	}
	var all []module
	for _, m := range byPath {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

var (
	licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([-.].*)?$`)
	noticeFile  = regexp.MustCompile(`(?i)^notice([-.].*)?$`)
)

// read finds out what the files of a module say.
func (m *module) read() error {
	files, err := os.ReadDir(m.Dir)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Path, err)
	}
	for _, file := range files {
		license := licenseFile.MatchString(file.Name())
		if !file.Type().IsRegular() || !license && !noticeFile.MatchString(file.Name()) || strings.HasSuffix(file.Name(), ".go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(m.Dir, file.Name()))
		if err != nil {
			return fmt.Errorf("%s: %w", m.Path, err)
		}
		m.texts = append(m.texts, text)
		if !license {
			continue
		}
		found, err := identify(text)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", m.Path, file.Name(), err)
		}
		m.licenses = append(m.licenses, found...)
	}
	slices.Sort(m.licenses)
	if m.licenses = slices.Compact(m.licenses); len(m.licenses) == 0 {
		return fmt.Errorf("%s has no file with a licence: do without it, or find out", m.Path)
	}
	return nil
}

var blanks = regexp.MustCompile(`[\s*#,]+`)

// identify names the licences that a text holds.
func identify(text []byte) ([]string, error) {
	words := " " + blanks.ReplaceAllString(strings.ToLower(string(text)), " ")
	if title := refused.FindString(words); title != "" {
		return nil, fmt.Errorf("it holds the %s, which is not allowed", title)
	}
	var found []string
	for _, license := range known {
		has := func(phrase string) bool { return strings.Contains(words, blanks.ReplaceAllString(phrase, " ")) }
		if !slices.ContainsFunc(license.has, func(phrase string) bool { return !has(phrase) }) && (license.not == "" || !has(license.not)) {
			found = append(found, license.name)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("its licence is not among those that are known and allowed")
	}
	return found, nil
}

func writeList(w *bytes.Buffer, modules []module) {
	w.WriteString("# Licences of what is linked\n\n" +
		"The modules that are in the released binaries; each binary holds some of them, and its bill of materials says which, with versions.\n" +
		"`make licenses` writes this list, `make lint` checks it. The texts are in `THIRD-PARTY-LICENSES.txt` of every archive and package.\n\n" +
		"| module | licence |\n|---|---|\n")
	for _, m := range modules {
		fmt.Fprintf(w, "| [%s](https://pkg.go.dev/%s) | %s |\n", m.Path, m.Path, strings.Join(m.licenses, ", "))
	}
}

func writeTexts(w *bytes.Buffer, modules []module) {
	for _, m := range modules {
		fmt.Fprintf(w, "==== %s %s\n", m.Path, m.Version)
		for _, text := range m.texts {
			fmt.Fprintf(w, "\n%s\n", bytes.TrimSpace(text))
		}
		w.WriteString("\n")
	}
}

func compare(file string, want []byte) error {
	got, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s is out of date: run make licenses, and look at what changed", file)
	}
	return nil
}
