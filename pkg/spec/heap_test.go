package spec

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first one made unreachable
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A config is kept for the life of the wrapper; the file that it came from, its
// tree and the tables are not.
func TestAProcessKeepsLittleMemory(t *testing.T) {
	const count = 1000
	note := strings.Repeat("a note that nobody keeps; ", 100)
	var yes, js strings.Builder
	for i := range count {
		fmt.Fprintf(&yes, "- {name: p%d, entrypoint: sh, x-note: %q} # %s\n", i, note, note)
		fmt.Fprintf(&js, `%s{"name": "p%d", "entrypoint": "sh", "x-note": %q}`, strings.Repeat(",", min(i, 1)), i, note)
	}
	for _, tc := range []struct{ name, text string }{
		{"a minimal entry in YAML", yes.String()},
		{"a minimal entry in JSON", "[" + js.String() + "]"},
		{"a replica", fmt.Sprintf("- {name: a, entrypoint: sh, replicas: %d, x-note: %q}", count, note)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := []byte(tc.text)
			before := heap()
			c, err := Parse("x", data, Options{})
			if err != nil || len(c.Processes) != count {
				t.Fatal(err)
			}
			each := (int64(heap()) - int64(before)) / count
			runtime.KeepAlive(c)
			runtime.KeepAlive(data)
			t.Logf("%d bytes each, of which %d are the struct", each, unsafe.Sizeof(Process{}))
			if each > 2<<10 || each < int64(unsafe.Sizeof(Process{})) {
				t.Errorf("%d bytes are kept for each process, want at most 2 KiB", each)
			}
		})
	}
}
