package search

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/sink"
)

// Whatever judge believes has an item with a status for each document.
func FuzzJudge(f *testing.F) {
	f.Add([]byte(`{"items":[{"create":{"status":201}},{"create":{"status":429,"error":{"type":"t","reason":"r"}}}]}`), 2)
	f.Add([]byte(`{"errors":false,"items":[]}`), 1)
	f.Add([]byte(`{"items":[{"create":{"status":201},"index":{}}]}`), 1)
	f.Fuzz(func(t *testing.T, answer []byte, n int) {
		if n < 1 || n > 1000 {
			n = 1
		}
		answers := make([]sink.Answer, n)
		if judge(answer, answers) != nil {
			return
		}
		var reply map[string]json.RawMessage
		if err := json.Unmarshal(answer, &reply); err != nil {
			t.Fatalf("believed %q: %v", answer, err)
		}
		items := 0
		for key, raw := range reply {
			var list []map[string]struct{ Status float64 }
			if strings.EqualFold(key, "items") && json.Unmarshal(raw, &list) == nil {
				items = max(items, len(list))
			}
		}
		if items < n {
			t.Fatalf("believed %q for %d documents", answer, n)
		}
	})
}

// What comes out of Encode is two lines of JSON, whatever goes in.
func FuzzBulk(f *testing.F) {
	f.Add("name", "id", "label", "value", "index")
	f.Add("\n", "\"}}\n", "\xff", "\u2028", "app-x")
	f.Fuzz(func(t *testing.T, name, id, label, value, index string) {
		c, err := Config{URL: "http://x"}.complete()
		if err != nil {
			t.Fatal(err)
		}
		b := &backend{config: c, run: "run"}
		m := datagram.Message{Op: datagram.Index, Name: name, ID: id, Index: index, Labels: []datagram.Label{{Name: label, Value: value}}}
		var r sink.Record
		if err := b.Encode(&m, &r); err != nil {
			if checkIndex(index) == nil || !errors.Is(err, sink.ErrRefused) {
				t.Fatal(err)
			}
			return
		}
		lines := bytes.Split(appendBulk(nil, &r), []byte("\n"))
		if len(lines) != 3 || len(lines[2]) != 0 || !json.Valid(lines[0]) || !json.Valid(lines[1]) {
			t.Fatalf("%q", lines)
		}
	})
}
