package collect

import (
	"hash/maphash"
	"sync"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// takers is a set of those that an event goes to, by their place.
type takers uint8

// identity is what makes two messages copies of one event.
type identity struct {
	op datagram.Op
	id string
}

// recent knows the last ids, and who took their events, to leave out what was sent
// twice.
type recent struct {
	seed maphash.Seed

	mu    sync.Mutex // guards what follows
	known map[uint64]takers
	ring  []uint64
	next  int
}

const recentIDs = 1 << 16

func newRecent() *recent {
	return &recent{seed: maphash.MakeSeed(), known: map[uint64]takers{}}
}

// claim returns which of all have not had an event, and notes that they have now.
func (r *recent) claim(e identity, all takers) takers {
	h := maphash.Comparable(r.seed, e)
	r.mu.Lock()
	defer r.mu.Unlock()
	had, ok := r.known[h]
	r.known[h] = had | all
	if ok {
		return all &^ had
	}
	if len(r.ring) < recentIDs {
		r.ring = append(r.ring, h)
		return all
	}
	delete(r.known, r.ring[r.next])
	r.ring[r.next] = h
	r.next = (r.next + 1) % recentIDs
	return all
}

// release takes back what was claimed for those that refused it.
func (r *recent) release(e identity, refused takers) {
	h := maphash.Comparable(r.seed, e)
	r.mu.Lock()
	defer r.mu.Unlock()
	if had, ok := r.known[h]; ok {
		r.known[h] = had &^ refused
	}
}
