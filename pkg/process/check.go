package process

import (
	"context"
	"errors"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// check runs the hook that follows the start, then the checks that hold others
// back, then all others side by side, until the incarnation ends.
func (l *incarnation) check() {
	cfg := &l.p.cfg
	if cfg.PostStart != nil {
		if !l.hook("lifecycle.postStart", cfg.PostStart) {
			return
		}
		l.say(gate{len(cfg.Checks), true})
	}
	for i := range cfg.Checks {
		if cfg.Checks[i].Startup && !l.ask(i) {
			return
		}
	}
	for i := range cfg.Checks {
		if !cfg.Checks[i].Startup {
			l.wg.Go(func() { l.ask(i) })
		}
	}
}

// say hands a verdict to the goroutine that owns the process.
func (l *incarnation) say(g gate) {
	select {
	case l.verdicts <- g:
	case <-l.ctx.Done():
	}
}

// minPeriod keeps a check without a period from being a busy loop.
const minPeriod = time.Millisecond

// ask repeats one check until the incarnation ends, or the check is over for
// good, which it reports.
func (l *incarnation) ask(i int) bool {
	t := tally{Check: &l.p.cfg.Checks[i]}
	t.open = !t.Gate && !t.Startup
	next := l.began.Add(t.Delay)
	for {
		if sleepUntil(l.ctx, next) != nil {
			return false
		}
		next = time.Now().Add(max(t.Period, minPeriod))
		err := l.verdict(t.Check, t.failures)
		if l.ctx.Err() != nil {
			return false
		}
		was := t.open
		if !t.count(err) {
			l.end(&CheckError{Name: t.Name, Err: err, stopTimeout: t.StopTimeout})
			return false
		}
		if t.open != was {
			l.say(gate{i, t.open})
		}
		if t.Startup && t.open {
			return true
		}
	}
}

// tally counts the verdicts of a check.
type tally struct {
	*Check
	passes, failures int // in a row
	open             bool
}

// count takes note of a verdict, and reports whether the command may live on.
func (t *tally) count(err error) bool {
	switch {
	case errors.Is(err, probe.ErrInconclusive):
		return true
	case probe.Passed(err):
		t.passes, t.failures = t.passes+1, 0
	default:
		t.passes, t.failures = 0, t.failures+1
	}
	switch {
	case t.RestartAfter > 0 && t.failures >= t.RestartAfter:
		return false
	case !t.Gate && !t.Startup:
	case t.passes >= max(t.ReadyAfter, 1):
		t.open = true
	case t.Gate && t.failures >= max(t.UnreadyAfter, 1):
		t.open = false
	}
	return true
}

// verdict asks a probe once and writes down what it says.
func (l *incarnation) verdict(c *Check, failures int) error {
	ctx, cancel := l.ctx, context.CancelFunc(func() {})
	if c.Timeout > 0 {
		ctx, cancel = context.WithTimeoutCause(l.ctx, c.Timeout, errTimeout)
	}
	defer cancel()
	began := time.Now()
	err := c.Probe.Check(ctx)
	if l.ctx.Err() != nil {
		return err // asked of a command that is no more
	}
	rec := status.Check{Process: l.p.cfg.Name, Probe: c.Name, Err: err, Time: time.Now(), Duration: time.Since(began)}
	switch {
	case errors.Is(err, probe.ErrInconclusive):
		rec.Result, rec.Failures = status.Unknown, failures
	case probe.Passed(err):
		rec.Result = status.Pass
	default:
		rec.Result, rec.Failures = status.Fail, failures+1
	}
	l.p.board.PutCheck(rec)
	return err
}

// sleepUntil pauses until t, or returns early with the reason ctx ended.
func sleepUntil(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
