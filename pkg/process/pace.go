package process

import (
	"math"
	"math/rand/v2"
	"time"
)

// Backoff is how the pauses before restarts grow. A zero Backoff never pauses.
type Backoff struct {
	Initial time.Duration // the first pause
	Max     time.Duration // no pause is longer, 0: no bound
	Factor  float64       // from one pause to the next, < 1 is 1
	Jitter  float64       // share by which a pause varies at random, 0 to 1
	// ResetAfter is the run after which a command is no longer thought to
	// crash in a loop: its next restart comes at once.
	ResetAfter time.Duration
}

// Pause returns the nth pause in a row, counted from 0, without jitter.
func (b Backoff) Pause(n int) time.Duration {
	d := float64(b.Initial) * math.Pow(max(b.Factor, 1), float64(n))
	if b.Max > 0 && d > float64(b.Max) {
		return b.Max
	}
	if d > math.MaxInt64/2 {
		return math.MaxInt64 / 2
	}
	return time.Duration(d)
}

// Limit is how often something may happen; a zero limit is none.
type Limit struct {
	Count  int
	Within time.Duration // 0: ever
}

// pace says when a process may be started again, and for how long it must then
// run before one believes it. It remembers what crash loops look like.
type pace struct {
	backoff Backoff
	limit   Limit

	streak  int           // restarts since the last long run
	paused  time.Duration // before the present incarnation
	ran     time.Duration // by the last one
	history []time.Time   // of restarts within the limit's window, oldest first
}

// begin forgets the past: somebody says that it is to run.
func (p *pace) begin() { *p = pace{backoff: p.backoff, limit: p.limit} }

// next returns the pause before the next start, now that a command has ended
// that ran for some time; false when there may be no other.
func (p *pace) next(now time.Time, ran time.Duration) (time.Duration, bool) {
	if p.limit.Count > 0 {
		for p.limit.Within > 0 && len(p.history) > 0 && now.Sub(p.history[0]) > p.limit.Within {
			p.history = p.history[1:]
		}
		if len(p.history) >= p.limit.Count {
			return 0, false
		}
		p.history = append(p.history, now)
	}
	p.ran = ran
	if p.backoff.ResetAfter > 0 && ran > p.backoff.ResetAfter {
		p.streak, p.paused = 0, 0
		return 0, true
	}
	p.paused = p.backoff.Pause(p.streak)
	p.streak++
	if j := p.backoff.Jitter; j > 0 {
		p.paused += time.Duration(float64(p.paused) * j * (2*rand.Float64() - 1))
	}
	return p.paused, true
}

// settle returns for how long the present incarnation must run before it may
// count as ready. Without it a command that crashes again and again would be
// ready in between, and take traffic that it cannot serve: after one crash it
// must run for as long as it was kept waiting, and in a loop for longer than
// the last time as well (but not longer than the longest pause).
func (p *pace) settle() time.Duration {
	switch p.streak {
	case 0:
		return 0
	case 1:
		return p.paused
	}
	return max(p.paused, min(p.ran+p.ran/8, p.backoff.Max))
}
