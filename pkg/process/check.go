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
	c := &l.p.cfg.Checks[i]
	next := l.began.Add(c.Delay)
	open, passes, failures := !c.Gate && !c.Startup, 0, 0
	for {
		if sleepUntil(l.ctx, next) != nil {
			return false
		}
		next = time.Now().Add(max(c.Period, minPeriod))
		err := l.verdict(c, failures)
		switch {
		case l.ctx.Err() != nil:
			return false
		case errors.Is(err, probe.ErrInconclusive):
			continue
		case probe.Passed(err):
			passes, failures = passes+1, 0
		default:
			passes, failures = 0, failures+1
		}
		if c.RestartAfter > 0 && failures >= c.RestartAfter {
			l.end(&CheckError{Name: c.Name, Err: err, stopTimeout: c.StopTimeout})
			return false
		}
		was := open
		switch {
		case c.Startup:
			open = passes >= max(c.ReadyAfter, 1)
		case c.Gate && passes >= max(c.ReadyAfter, 1):
			open = true
		case c.Gate && failures >= max(c.UnreadyAfter, 1):
			open = false
		}
		if open != was {
			l.say(gate{i, open})
		}
		if c.Startup && open {
			return true
		}
	}
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
