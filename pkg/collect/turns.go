package collect

import (
	"context"
	"sync"
	"time"
)

const (
	scrapers  = 4                // pages that are written at the same time
	slowAfter = 10 * time.Second // Prometheus gives up then too, by default
)

// turns lets few pages be written at the same time. Who waits for one longer than
// slowAfter is cut off when another wants its turn, so that those who read slowly,
// or not at all, cannot keep others from the page.
type turns struct {
	mu     sync.Mutex // guards what follows
	taken  []*turn    // the oldest first
	change chan struct{}
}

type turn struct {
	since time.Time
	cut   func() // makes its writes fail
}

func newTurns() *turns { return &turns{change: make(chan struct{}, 1)} }

// take waits for a turn until ctx ends. Give it back with done.
func (q *turns) take(ctx context.Context, cut func()) (t *turn, ok bool) {
	for {
		t, wait := q.try(cut)
		if t != nil {
			return t, true
		}
		timer := time.NewTimer(wait)
		select {
		case <-q.change:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			q.signal() // which may have been meant for another
			return nil, false
		}
	}
}

// try returns a turn, or how long to wait for one.
func (q *turns) try(cut func()) (*turn, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.taken) < scrapers {
		t := &turn{time.Now(), cut}
		q.taken = append(q.taken, t)
		return t, 0
	}
	wait := slowAfter - time.Since(q.taken[0].since)
	if wait > 0 {
		return nil, wait
	}
	q.taken[0].cut()
	return nil, 100 * time.Millisecond // it gives its turn back at its next write
}

func (q *turns) done(t *turn) {
	q.mu.Lock()
	for i, o := range q.taken {
		if o == t {
			q.taken = append(q.taken[:i], q.taken[i+1:]...)
			break
		}
	}
	q.mu.Unlock()
	q.signal()
}

func (q *turns) signal() {
	select {
	case q.change <- struct{}{}:
	default:
	}
}
