package collect

import (
	"sync"
	"sync/atomic"
)

// queue holds datagrams that came while the registry was busy. Its memory is
// bounded: what waits, and as much again that is being read.
type queue struct {
	limit int
	busy  atomic.Int64 // datagrams that wait or are being read
	wake  chan struct{}

	mu      sync.Mutex // guards what follows
	waiting batch
}

// batch is datagrams one after another.
type batch struct {
	data  []byte
	parts []part
}

type part struct {
	end int // in data
	in  *listener
	src uint64 // see limiter
}

const keepBytes = 1 << 20 // of a batch that was read, for the next

func newQueue(limit int) *queue { return &queue{limit: limit, wake: make(chan struct{}, 1)} }

// put copies a datagram, or reports that there is no room.
func (q *queue) put(in *listener, src uint64, data []byte) bool {
	q.mu.Lock()
	w := &q.waiting
	if len(w.data)+len(data) > q.limit || len(w.parts) >= q.most() {
		q.mu.Unlock()
		return false
	}
	w.data = append(w.data, data...)
	w.parts = append(w.parts, part{len(w.data), in, src})
	q.busy.Add(1)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// take returns all that waits. The last batch may be used again.
func (q *queue) take(last batch) batch {
	if cap(last.data) > keepBytes {
		last = batch{}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.waiting
	q.waiting = batch{last.data[:0], last.parts[:0]}
	return b
}

func (q *queue) depth() (n, size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int(q.busy.Load()), len(q.waiting.data)
}

// most is how many datagrams may wait, as each costs memory however small it is.
func (q *queue) most() int { return q.limit / 64 }

// full reports whether bytes or datagrams are above four fifths of what may wait.
func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting.data) > q.limit/5*4 || len(q.waiting.parts) > q.most()/5*4
}
