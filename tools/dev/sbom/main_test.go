package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func TestABillOfThisTest(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bom")
	if err := run([]string{"-o", file, self}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got bom
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Format != "CycloneDX" || len(got.Metadata.Component.Hashes) != 1 || len(got.Metadata.Component.Hashes[0].Content) != 64 {
		t.Errorf("it says %+v", got)
	}
	if std := got.Components[0]; std.Name != "std" || !strings.HasPrefix(std.Version, "go1.") {
		t.Errorf("the standard library is %+v", std)
	}
}

func TestModulesAreNamedAsTheyAreLinked(t *testing.T) {
	b := describe(&debug.BuildInfo{GoVersion: "go1.26.8", Path: "example.com/m/cmd/it", Main: debug.Module{Path: "example.com/m", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "example.com/a/v2", Version: "v2.0.1+incompatible", Sum: "h1:x"},
			{Path: "example.com/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.0.1"}},
		}}, "00")
	for i, want := range []string{"pkg:golang/std@go1.26.8", "pkg:golang/example.com/a/v2@v2.0.1%2Bincompatible", "pkg:golang/example.com/fork@v1.0.1"} {
		if got := b.Components[i].PURL; got != want {
			t.Errorf("component %d is %s, not %s", i, got, want)
		}
	}
	if got := b.Metadata.Component; got.Name != "it" || got.PURL != "pkg:golang/example.com/m" {
		t.Errorf("the program is %+v", got)
	}
}

func TestWhatIsNoGoBinaryIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "it")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-o", file + "-bom", file}, {"-o", file + "-bom", file + "-gone"}, nil, {file}} {
		if err := run(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
