package process

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// asking are the checks that run now. They end before the incarnation does when
// others take their place.
type asking struct {
	ctx  context.Context
	end  context.CancelFunc
	wg   sync.WaitGroup
	open bool // all gates were open when they began
}

// beginChecks starts to ask all checks. open says that the command is ready: it
// has no start to survive, and its gates stay open until a check fails.
func (l *incarnation) beginChecks(open bool) {
	cfg := &l.p.cfg
	l.gates = l.gates[:0]
	for i := range cfg.Checks {
		c := &cfg.Checks[i]
		l.gates = append(l.gates, open || !c.Gate && !c.Startup)
	}
	if len(cfg.Checks) == 0 {
		return
	}
	if l.verdicts == nil {
		l.verdicts = make(chan gate)
	}
	l.asking = &asking{open: open}
	l.asking.ctx, l.asking.end = context.WithCancel(l.ctx)
	l.asking.wg.Go(l.check)
}

// endChecks returns when no check runs any more.
func (l *incarnation) endChecks() {
	if l.asking != nil {
		l.asking.end()
		l.asking.wg.Wait()
		l.asking = nil
	}
}

// check asks the checks that hold others back, then all others side by side.
func (l *incarnation) check() {
	a, all := l.asking, l.p.cfg.Checks
	for i := range all {
		if all[i].Startup && !a.open && !l.ask(a, i, &all[i]) {
			return
		}
	}
	for i := range all {
		if !all[i].Startup {
			a.wg.Go(func() { l.ask(a, i, &all[i]) })
		}
	}
}

// say hands a verdict to the goroutine that owns the process.
func (l *incarnation) say(a *asking, g gate) {
	select {
	case l.verdicts <- g:
	case <-a.ctx.Done():
	}
}

// minPeriod keeps a check without a period from being a busy loop.
const minPeriod = time.Millisecond

// ask repeats one check until the checks end, or this one is over for good, which
// it reports.
func (l *incarnation) ask(a *asking, i int, c *Check) bool {
	t := tally{Check: c, open: a.open || !c.Gate && !c.Startup}
	next := l.began.Add(t.Delay)
	for {
		if sleepUntil(a.ctx, next) != nil {
			return false
		}
		next = time.Now().Add(max(t.Period, minPeriod))
		err := l.verdict(a.ctx, t.Check, t.failures)
		if a.ctx.Err() != nil {
			return false
		}
		was := t.open
		if !t.count(err) && !l.p.preempted() { // then nothing would come in its place
			l.end(&CheckError{Name: t.Name, Err: err, stopTimeout: t.StopTimeout})
			return false
		}
		if t.open != was {
			l.say(a, gate{i, t.open})
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
func (l *incarnation) verdict(outer context.Context, c *Check, failures int) error {
	ctx, cancel := outer, context.CancelFunc(func() {})
	if c.Timeout > 0 {
		ctx, cancel = context.WithTimeoutCause(outer, c.Timeout, errTimeout)
	}
	defer cancel()
	began := time.Now()
	err := c.Probe.Check(ctx)
	if outer.Err() != nil {
		return err // asked of a command that is no more, or by a check that is none
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
