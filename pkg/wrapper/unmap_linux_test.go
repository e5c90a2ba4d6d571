package wrapper

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestOnlyMappingsThatCannotBeWrittenAreDropped(t *testing.T) {
	const exe = "/usr/bin/process wrapper"
	tests := []struct {
		line     string
		from, to uintptr
	}{
		{"00401000-00abc000 r-xp 00001000 fe:00 131 /usr/bin/process wrapper", 0x401000, 0xabc000},
		{"00abc000-01200000 r--p 006bc000 fe:00 131                  /usr/bin/process wrapper", 0xabc000, 0x1200000},
		{"01200000-01250000 rw-p 00e00000 fe:00 131 /usr/bin/process wrapper", 0, 0},
		{"7f0000000000-7f0000001000 r--p 00000000 fe:00 9 /etc/ld.so.cache", 0, 0},
		{"00abc000-01200000 r--s 006bc000 fe:00 131 /usr/bin/process wrapper", 0, 0},
		{"c000000000-c000400000 rw-p 00000000 00:00 0", 0, 0},
		{"zz-01200000 r--p 006bc000 fe:00 131 /usr/bin/process wrapper", 0, 0},
		{"", 0, 0},
	}
	for _, tt := range tests {
		from, to, ok := readOnly(tt.line, exe)
		if ok != (tt.to > 0) || ok && (from != tt.from || to != tt.to) {
			t.Errorf("%s: %x-%x %v", tt.line, from, to, ok)
		}
	}
}

func TestDroppingTheProgramLeavesMemoryAndTheProgram(t *testing.T) {
	before := resident(t)
	if err := dropProgram(); err != nil {
		t.Fatal(err)
	}
	if after := resident(t); after >= before {
		t.Errorf("%d KiB of files before, %d after", before, after)
	}
	TestOnlyMappingsThatCannotBeWrittenAreDropped(t) // all of it still works
}

// resident returns how many KiB of files are in our memory.
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "RssFile:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
