package output

import (
	"bytes"
	"testing"
)

func TestDelimitersAreFoundAtEachPlaceAndBesideEachByte(t *testing.T) {
	for c := range 256 {
		for size := 1; size <= 24; size++ {
			for at := range size {
				for _, next := range []byte{'a', 0, 0x21, 0x23, 0x7e, 0x80, 0xff} {
					b := bytes.Repeat([]byte{'x'}, size)
					b[at] = byte(c)
					if at+1 < size {
						b[at+1] = next
					}
					checkIndex(t, "indexDelimiter", b, indexDelimiter(b, at/2), func(c byte) bool { return !bare(c) })
					checkIndex(t, "indexUnsafe", b, indexUnsafe(b), unsafeByte)
				}
			}
		}
	}
}

func checkIndex(t *testing.T, name string, b []byte, got int, hit func(byte) bool) {
	t.Helper()
	want := 0
	for want < len(b) && !hit(b[want]) {
		want++
	}
	if got != want {
		t.Errorf("%s(%q) is %d, want %d", name, b, got, want)
	}
}
