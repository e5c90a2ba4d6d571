package output

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAnIdleStreamCostsLessThanOneKiB(t *testing.T) {
	pump, _ := runToFile(t)
	pump.warm()
	const n = 1000
	goroutines := runtime.NumGoroutine()
	before := heapBytes()
	streams := make([]*Stream, n)
	ends := make([]int, n) // plain descriptors, as a child would hold them
	for i := range streams {
		s := pump.open(StreamConfig{Name: fmt.Sprint("process_", i), Labels: map[string]string{"region": "eu"}})
		ends[i] = dupFD(t, s.File())
		if err := s.Attach(i); err != nil {
			t.Fatal(err)
		}
		streams[i] = s
	}
	each := (heapBytes() - before) / n
	if each > 1024 && !raceEnabled {
		t.Errorf("%d bytes each", each)
	}
	if got := runtime.NumGoroutine(); got > goroutines {
		t.Errorf("%d goroutines more", got-goroutines)
	}
	t.Logf("%d bytes each", each)
	for i, s := range streams {
		if _, err := unix.Write(ends[i], []byte("last words")); err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(ends[i])
		pump.drain(s)
	}
}

func heapBytes() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestLinesCostNoAllocation(t *testing.T) {
	for name, line := range benchLines {
		p := &Pump{}
		p.enc.setTime(time.Now())
		s := testStream(Auto, map[string]string{"a": "b"})
		chunk := []byte(line)
		p.encode(s, chunk)
		if got := testing.AllocsPerRun(1000, func() { p.encode(s, chunk); p.enc.out = p.enc.out[:0] }); got > 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

func TestAPartialLineIsBoundedAndLetGo(t *testing.T) {
	s := splitter{max: 1000}
	chunk := make([]byte, 300)
	for range 1000 {
		for rest := chunk; ; {
			_, next, _, ok := s.next(rest)
			if !ok {
				break
			}
			rest = next
		}
		if cap(s.partial) > 1024 {
			t.Fatalf("%d bytes are held", cap(s.partial))
		}
	}
	for rest := []byte("\nx\n"); ; {
		_, next, _, ok := s.next(rest)
		if !ok {
			break
		}
		rest = next
	}
	if s.partial != nil {
		t.Errorf("%d bytes are kept", cap(s.partial))
	}
}
