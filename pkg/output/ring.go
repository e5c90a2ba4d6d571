package output

import (
	"bytes"
	"sync"
	"sync/atomic"
)

const (
	ringStart = 4 << 10
	// RingBytes is how much of the latest output of a process is kept at most.
	RingBytes = 256 << 10
	// RingsBytes is how much all rings of a [Rings] keep together.
	RingsBytes = 16 << 20
)

// Rings makes rings that share a bound of memory. Its zero value is ready to use.
type Rings struct{ used atomic.Int64 }

// reserve takes n bytes of the bound, if they are there.
func (r *Rings) reserve(n int) bool {
	if r.used.Add(int64(n)) <= RingsBytes {
		return true
	}
	r.used.Add(int64(-n))
	return false
}

// Ring keeps the latest lines of a process as they went to the destination, for those who look at them later. It takes memory as lines come,
// and forgets the oldest when it is full. Make one with [Rings.New].
type Ring struct {
	rings *Rings

	mu      sync.Mutex // guards what follows
	buf     []byte     // a power of two, or nil
	end     uint64     // bytes ever written
	have    uint64     // of them, the last so many are in buf
	torn    bool       // they begin in the middle of a line
	changed chan struct{}
	closed  bool
}

// New returns an empty ring.
func (r *Rings) New() *Ring { return &Ring{rings: r} }

// write keeps b. It never waits for a reader.
func (r *Ring) write(b []byte) {
	if len(b) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.grow(len(b))
	if r.buf != nil {
		kept := b[max(0, len(b)-len(r.buf)):]
		at := r.end + uint64(len(b)-len(kept))
		n := copy(r.buf[at&uint64(len(r.buf)-1):], kept)
		copy(r.buf, kept[n:])
	}
	r.end += uint64(len(b))
	r.torn = r.have > 0 && r.torn || r.have+uint64(len(b)) > uint64(len(r.buf))
	r.have = min(r.have+uint64(len(b)), uint64(len(r.buf)))
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// grow makes room for n more bytes where there are not as many as may be.
func (r *Ring) grow(n int) {
	size := len(r.buf)
	if r.closed || size == RingBytes || r.have+uint64(n) <= uint64(size) {
		return
	}
	want := max(size, ringStart)
	for want < RingBytes && uint64(want) < r.have+uint64(n) {
		want *= 2
	}
	for ; want > size && want >= ringStart; want /= 2 {
		if r.rings.reserve(want - size) {
			r.move(make([]byte, want))
			return
		}
	}
}

// move goes on in a larger buffer.
func (r *Ring) move(to []byte) {
	for at := r.end - r.have; at < r.end; {
		at += uint64(copy(to[at&uint64(len(to)-1):], r.piece(at)))
	}
	r.buf = to
}

// Close gives the memory back. What is written later is forgotten at once.
func (r *Ring) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rings.used.Add(-int64(len(r.buf)))
	r.buf, r.have, r.closed = nil, 0, true
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// Read copies what follows a place, the number of bytes before it, into b, returns the place after it, how many bytes before what was copied are lost, and a channel that
// is closed when there is more. It copies whole lines where they fit into b.
func (r *Ring) Read(from uint64, b []byte) (n int, next, lost uint64, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := from
	if oldest := r.oldest(); at < oldest {
		at = oldest
		lost = at - from
	}
	for at < r.end && n < len(b) {
		piece := r.piece(at)
		c := copy(b[n:], piece)
		n, at = n+c, at+uint64(c)
	}
	if i := bytes.LastIndexByte(b[:n], '\n'); at < r.end && i >= 0 { // the rest of the line comes next time
		at -= uint64(n - i - 1)
		n = i + 1
	}
	if r.changed == nil {
		r.changed = make(chan struct{})
		if r.closed {
			close(r.changed)
		}
	}
	return n, at, lost, r.changed
}

// piece is what follows a place, up to the end of the buffer or of what is written.
func (r *Ring) piece(at uint64) []byte {
	p := r.buf[at&uint64(len(r.buf)-1):]
	return p[:min(uint64(len(p)), r.end-at)]
}

// oldest is the begin of the first line that is there whole, or the end.
func (r *Ring) oldest() uint64 {
	if r.torn {
		return r.lineAfter(r.end - r.have)
	}
	return r.end - r.have
}

// lineAfter is the begin of the first line after a place, or the end.
func (r *Ring) lineAfter(at uint64) uint64 {
	for at < r.end {
		p := r.piece(at)
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			return at + uint64(i) + 1
		}
		at += uint64(len(p))
	}
	return r.end
}

// Tail is the place before the last so many lines, or the oldest that is there.
func (r *Ring) Tail(lines int) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	oldest := r.oldest()
	at := r.end
	for at > oldest {
		i := (at - 1) & uint64(len(r.buf)-1)
		low := i - min(i, at-1-oldest)
		p := r.buf[low : i+1]
		for len(p) > 0 {
			j := bytes.LastIndexByte(p, '\n')
			if j < 0 {
				at -= uint64(len(p))
				break
			}
			newline := at - uint64(len(p)-j)
			if newline+1 < r.end { // not the one that ends the last line
				if lines--; lines <= 0 {
					return newline + 1
				}
			} else if lines <= 0 {
				return r.end
			}
			at, p = newline, p[:j]
		}
	}
	return oldest
}
