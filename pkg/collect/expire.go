package collect

import (
	"context"
	"time"
)

const (
	sweepEvery = 250 * time.Millisecond
	sweepChunk = 200 // series in one go, about 0.1 ms
)

// expiries is a heap of what may be due, the soonest first. A series that was
// touched meanwhile is put back when its turn comes, so that to touch it costs
// nothing.
type expiries []expiry

type expiry struct {
	at int64
	s  *series
}

func (h *expiries) push(e expiry) {
	q := append(*h, e)
	i := len(q) - 1
	for i > 0 {
		up := (i - 1) / 4
		if q[up].at <= e.at {
			break
		}
		q[i] = q[up]
		i = up
	}
	q[i] = e
	*h = q
}

func (h *expiries) pop() expiry {
	q := *h
	top, e := q[0], q[len(q)-1]
	q[len(q)-1] = expiry{}
	q = q[:len(q)-1]
	*h = q
	i := 0
	for {
		least := 4*i + 1
		if least >= len(q) {
			break
		}
		for c := least + 1; c < min(4*i+5, len(q)); c++ {
			if q[c].at < q[least].at {
				least = c
			}
		}
		if e.at <= q[least].at {
			break
		}
		q[i] = q[least]
		i = least
	}
	if len(q) > 0 {
		q[i] = e
	}
	if cap(q) > 1024 && len(q) < cap(q)/4 {
		*h = append(make(expiries, 0, 2*len(q)), q...)
	}
	return top
}

// touch keeps a series alive.
func (r *Registry) touch(s *series, ttl time.Duration, now int64) {
	if ttl > 0 {
		s.ttl, s.family.ttl = ttl, ttl
	}
	if s.ttl <= 0 {
		return
	}
	s.expires = now + int64(s.ttl)
	if s.due == 0 || s.expires < s.due {
		s.due = s.expires
		r.heap.push(expiry{s.due, s})
	}
}

// Run removes series whose time is over, until ctx ends.
func (r *Registry) Run(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for r.sweep(r.at(now)) && ctx.Err() == nil {
			}
		}
	}
}

// sweep removes some of what is due, and reports whether there may be more.
func (r *Registry) sweep(now int64) (more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range sweepChunk {
		if len(r.heap) == 0 || r.heap[0].at > now {
			return false
		}
		e := r.heap.pop()
		switch s := e.s; {
		case s.pos < 0 || e.at != s.due: // gone, or the heap has it twice
		case s.expires > now:
			s.due = s.expires
			r.heap.push(expiry{s.due, s})
		default:
			r.remove(s)
			r.expired++
		}
	}
	return true
}
