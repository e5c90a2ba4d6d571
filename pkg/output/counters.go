package output

import "sync/atomic"

// Reason says why lines were dropped.
type Reason uint8

// The reasons.
const (
	DroppedByRate  Reason = iota // the stream's rate limit
	DroppedByQueue               // our own line came while the queue of Pump.Write was full
	DroppedByError               // the destination failed, or took nothing until the end

	reasons = int(DroppedByError) + 1
)

// String returns the value of the metric's label: rate, queue or write_error.
func (r Reason) String() string {
	switch r {
	case DroppedByRate:
		return "rate"
	case DroppedByQueue:
		return "queue"
	default:
		return "write_error"
	}
}

// Counters of a stream outlive its incarnations: the caller makes one for each process and stream and gives it to each
// of them. All methods may be called at any time; a nil *Counters counts nothing.
type Counters struct {
	lines   [levels]atomic.Uint64
	dropped [reasons]atomic.Uint64
	bytes   atomic.Uint64
}

// Lines returns how many records of a level were passed on. Lines of Plain streams are Info.
func (c *Counters) Lines(l Level) uint64 {
	if c == nil || int(l) >= levels {
		return 0
	}
	return c.lines[l].Load()
}

// Dropped returns how many lines were dropped for a reason.
func (c *Counters) Dropped(r Reason) uint64 {
	if c == nil || int(r) >= reasons {
		return 0
	}
	return c.dropped[r].Load()
}

// Bytes returns how many bytes were read from the child.
func (c *Counters) Bytes() uint64 {
	if c == nil {
		return 0
	}
	return c.bytes.Load()
}

// tally collects the counts of one read, so that the atomics are touched once for it and not for each line.
type tally struct {
	lines   [levels]uint64
	dropped uint64
}

func (c *Counters) add(t *tally, bytes int) {
	if c != nil {
		for l, n := range t.lines {
			if n > 0 {
				c.lines[l].Add(n)
			}
		}
		if t.dropped > 0 {
			c.dropped[DroppedByRate].Add(t.dropped)
		}
		c.bytes.Add(uint64(bytes))
	}
	*t = tally{}
}

func (c *Counters) drop(r Reason, lines int) {
	if c != nil && lines > 0 {
		c.dropped[r].Add(uint64(lines))
	}
}
