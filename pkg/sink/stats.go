package sink

import (
	"errors"
	"maps"
	"sync"
	"time"
)

// Reasons of Stats.Dropped. The first four mean that Put refused, so nobody was promised anything.
const (
	DroppedFull       = "queue_full"  // ErrFull
	DroppedRefused    = "refused"     // ErrRefused
	DroppedClosed     = "closed"      // ErrClosed
	DroppedTooLarge   = "too_large"   // ErrTooLarge
	DroppedDeadLetter = "dead_letter" // refused by the store, and the dead-letter file is full, broken or not there
	DroppedCorrupt    = "corrupt"     // runs of unreadable bytes in the spool, each at least one event
	DroppedShutdown   = "shutdown"    // unsent at the deadline, and no spool took them
)

// Reasons are the keys of Stats.Dropped: all of them, always.
var Reasons = []string{
	DroppedFull, DroppedRefused, DroppedClosed, DroppedTooLarge, DroppedDeadLetter, DroppedCorrupt, DroppedShutdown,
}

// Errors of Put and Run.
var (
	ErrFull     = errors.New("sink queue is full")
	ErrRefused  = errors.New("sink refuses the event")
	ErrClosed   = errors.New("sink is closed")
	ErrTooLarge = errors.New("event is too large for the sink")
	ErrLost     = errors.New("accepted events were lost")
)

// FlushBounds are the upper bounds of Histogram.Counts, in seconds.
var FlushBounds = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// Histogram is of one request each, failed ones included.
type Histogram struct {
	Counts [len(FlushBounds)]uint64 // cumulative, as Prometheus wants them
	Count  uint64
	Sum    float64 // seconds
}

// Stats is a snapshot. Accepted = Sent + DeadLetter + dropped after Put + what is in queue and spool
// (with what an earlier run left in the spool added to Accepted).
type Stats struct {
	Accepted   uint64            // Put returned nil
	Sent       uint64            // acknowledged by the store
	Retried    uint64            // events sent once more
	DeadLetter uint64            // written to the dead-letter file
	Spooled    uint64            // written to the spool: with SpoolDir all of them
	Dropped    map[string]uint64 // by one of Reasons

	QueueLen, QueueBytes int   // in memory
	SpoolBytes           int64 // in files, unsent
	Up                   bool  // the last request was answered, whatever the answer about single events
	Flush                Histogram
}

// counters is what the goroutines of a sink share of its statistics.
type counters struct {
	mu sync.Mutex // guards what follows
	st Stats
}

func (c *counters) add(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.st.Dropped == nil {
		c.st.Dropped = make(map[string]uint64, len(Reasons))
		for _, r := range Reasons {
			c.st.Dropped[r] = 0
		}
	}
	f(&c.st)
}

func (c *counters) drop(reason string, n int) {
	c.add(func(st *Stats) { st.Dropped[reason] += uint64(n) })
}

func (c *counters) flushed(took time.Duration, up bool) {
	c.add(func(st *Stats) {
		for i, bound := range FlushBounds {
			if took.Seconds() <= bound {
				st.Flush.Counts[i]++
			}
		}
		st.Flush.Count++
		st.Flush.Sum += took.Seconds()
		st.Up = up
	})
}

func (c *counters) snapshot() (st Stats) {
	c.add(func(now *Stats) {
		st = *now
		st.Dropped = maps.Clone(now.Dropped)
	})
	return st
}
