package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// A file in JSON says the same to us as to encoding/json, which is what Prometheus reads it with.
func FuzzFileSD(f *testing.F) {
	for _, s := range []string{`[{"targets": ["h:1", "h:2"], "labels": {"a": "\ud83d\ude00\/\n\u0000", "__scheme__": "https"}}]`, "- targets: [a]\n  labels: {b: c}\n", "[]"} {
		f.Add([]byte(s))
	}
	path := filepath.Join(f.TempDir(), "sd")
	f.Fuzz(func(t *testing.T, in []byte) {
		if err := os.WriteFile(path, in, 0o600); err != nil {
			t.Fatal(err)
		}
		targets, _ := parseSD(path)
		for _, tg := range targets {
			if checkURL(tg.URL) != nil {
				t.Errorf("%q has the URL %q", tg.Name, tg.URL)
			}
		}
		var want, got []sdGroup
		dec := json.NewDecoder(bytes.NewReader(in))
		dec.DisallowUnknownFields()
		if !json.Valid(in) || dec.Decode(&want) != nil || decode(in, &got) != nil {
			return // yaml refuses keys that are there twice, for one
		}
		if len(got) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("read as %q, not %q", got, want)
		}
	})
}
