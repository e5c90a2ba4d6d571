package supervisor

import "time"

const (
	// reserve is left of the life of a machine after the kill, and leastGrace is
	// what units get however short it is.
	reserve    = time.Second
	leastGrace = 2 * time.Second
)

// within is the time from now to KILL.
func (c *Config) within() time.Duration {
	if c.Until == nil {
		return c.Deadline
	}
	left := time.Until(c.Until())
	if left <= 0 { // nobody knows, or somebody's clock is wrong
		return c.Deadline
	}
	return min(c.Deadline, max(left-reserve, leastGrace))
}

// deadline is the time at which units are killed.
type deadline struct {
	at     time.Time
	timer  *time.Timer
	killed bool
}

func newDeadline(mode Mode, graceful time.Duration) *deadline {
	d := &deadline{at: time.Now().Add(graceful), timer: time.NewTimer(graceful)}
	d.shorten(mode)
	return d
}

// shorten brings the deadline forward to what the mode allows, and reports
// whether there is no time for order.
func (d *deadline) shorten(mode Mode) (hurry bool) {
	at := d.at
	switch mode {
	case Fast:
		at = time.Now().Add(fastDeadline)
	case Now:
		at = time.Now()
	}
	if !d.killed && at.Before(d.at) {
		d.at = at
		d.timer.Reset(time.Until(at))
	}
	return mode != Graceful
}

// hurry returns the mode after another request to stop: the second one that
// somebody asked for kills.
func hurry(q, again request) Mode {
	if q.asked {
		return Now
	}
	return max(q.mode, again.mode)
}
