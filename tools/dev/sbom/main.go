// Sbom writes the bill of materials of a Go binary, as CycloneDX 1.6: what the go command recorded
// in it. The same binary gives the same bytes.
//
//	sbom -o FILE BINARY
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"runtime/debug"
)

type bom struct {
	Format      string      `json:"bomFormat"`
	SpecVersion string      `json:"specVersion"`
	Version     int         `json:"version"`
	Metadata    metadata    `json:"metadata"`
	Components  []component `json:"components"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version,omitempty"`
	PURL       string     `json:"purl"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 || args[0] != "-o" {
		return errors.New("usage: sbom -o FILE BINARY")
	}
	file, binary := args[1], args[2]
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read %s: %w", binary, err)
	}
	sum, err := digest(binary)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(describe(info, sum), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

func digest(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// describe lists the modules that are linked, and Go's standard library as one.
func describe(info *debug.BuildInfo, sha256 string) bom {
	main := library(&info.Main)
	main.Type, main.Name = "application", path.Base(info.Path)
	main.Hashes = []hash{{"SHA-256", sha256}}
	for _, setting := range info.Settings {
		if setting.Key == "GOOS" || setting.Key == "GOARCH" {
			main.Properties = append(main.Properties, property{"go:" + setting.Key, setting.Value})
		}
	}
	std := library(&debug.Module{Path: "std", Version: info.GoVersion})
	b := bom{Format: "CycloneDX", SpecVersion: "1.6", Version: 1, Metadata: metadata{main}, Components: []component{std}}
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		b.Components = append(b.Components, library(module))
	}
	return b
}

func library(module *debug.Module) component {
	purl := "pkg:golang/" + (&url.URL{Path: module.Path}).EscapedPath()
	version := module.Version
	if version == "(devel)" {
		version = ""
	}
	if version != "" {
		purl += "@" + url.QueryEscape(version)
	}
	c := component{Type: "library", Ref: purl, Name: module.Path, Version: version, PURL: purl}
	if module.Sum != "" {
		c.Properties = []property{{"go:sum", module.Sum}}
	}
	return c
}
