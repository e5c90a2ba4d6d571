package sink

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// arena is memory for chunks outside Go's heap: the collector lets a heap grow to twice what is in
// use, which for a full queue is all that its bound allows once more. It is the kernel's until it is
// used.
type arena struct {
	limit int      // 0 once it is taken
	size  int      // of a chunk, a multiple of that of a page
	fresh [][]byte // chunks that take no memory yet
}

// chunk returns an empty chunk, from the heap where the kernel gives no memory.
func (a *arena) chunk() []byte {
	if a.limit > 0 {
		a.reserve()
	}
	last := len(a.fresh) - 1
	if last < 0 {
		return make([]byte, 0, a.size)
	}
	b := a.fresh[last]
	a.fresh = a.fresh[:last]
	return b
}

// reserve takes the addresses of all chunks, once.
func (a *arena) reserve() {
	size := a.limit / a.size * a.size
	a.limit = 0
	all, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return
	}
	runtime.AddCleanup(a, func(all []byte) { _ = unix.Munmap(all) }, all)
	for end := size; end > 0; end -= a.size {
		a.fresh = append(a.fresh, all[end-a.size:end-a.size:end])
	}
}

// release gives the memory of unused chunks back to the kernel, and keeps their addresses.
func (a *arena) release(chunks [][]byte) {
	for _, b := range chunks {
		if unix.Madvise(b[:cap(b)], unix.MADV_DONTNEED) == nil {
			a.fresh = append(a.fresh, b[:0])
		}
	}
}
