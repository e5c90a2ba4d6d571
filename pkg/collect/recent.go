package collect

import (
	"hash/maphash"
	"sync"
)

// recent knows the last ids, to leave out what was sent twice.
type recent struct {
	seed maphash.Seed

	mu    sync.Mutex // guards what follows
	known map[uint64]struct{}
	ring  []uint64
	next  int
}

const recentIDs = 1 << 16

func newRecent() *recent {
	return &recent{seed: maphash.MakeSeed(), known: map[uint64]struct{}{}}
}

// seen reports whether an id is known, and remembers it.
func (r *recent) seen(id string) bool {
	h := maphash.String(r.seed, id)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.known[h]; ok {
		return true
	}
	r.known[h] = struct{}{}
	if len(r.ring) < recentIDs {
		r.ring = append(r.ring, h)
		return false
	}
	delete(r.known, r.ring[r.next])
	r.ring[r.next] = h
	r.next = (r.next + 1) % recentIDs
	return false
}

// forget makes an id unknown again, as its message was not accepted.
func (r *recent) forget(id string) {
	h := maphash.String(r.seed, id)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, h) // its place in the ring runs out
}
