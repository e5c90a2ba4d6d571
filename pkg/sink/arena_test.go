package sink

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
)

// resident returns the memory that the process has, in bytes.
func resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("needs /proc")
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

func TestAQueueTakesMemoryOnceItIsUsedAndGivesItBack(t *testing.T) {
	const size = 64 << 20
	q := newQueue(size, 0)
	before := resident(t)
	frame := bytes.Repeat([]byte{7}, 1000)
	n := 0
	for q.put(frame) == nil {
		n++
	}
	full := resident(t) - before
	if n*len(frame) < size*9/10 || full < size/2 || full > 2*size {
		t.Errorf("%d bytes of memory for %d of frames", full, n*len(frame))
	}
	for range size / chunkSize {
		c, ok := q.take()
		if !ok {
			break
		}
		for from := 0; from < len(c.data); from += len(frame) {
			if !bytes.Equal(c.data[from:from+len(frame)], frame) {
				t.Fatal("a frame is not what was put")
			}
		}
		q.free(c)
	}
	if err := q.put(make([]byte, chunkSize+1)); err != nil { // a large one, for which the others make room
		t.Fatal(err)
	}
	if left := resident(t) - before; left > full/2 {
		t.Errorf("%d bytes of memory are left of %d", left, full)
	}
	for range size/chunkSize - 2 {
		if err := q.put(make([]byte, chunkSize)); err != nil {
			t.Fatal(err)
		}
	}
}
