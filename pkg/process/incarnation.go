package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// once is one incarnation: wait, lock, start, watch, stop, clean up.
func (p *Process) once(ctx context.Context) verdict {
	if err := p.await(ctx); err != nil {
		return p.unstarted(ctx, err)
	}
	if p.cfg.Guard != nil {
		p.to(status.Standby, "waiting for its lock")
		if err := p.cfg.Guard.Acquire(ctx); err != nil {
			return p.unstarted(ctx, fmt.Errorf("%w: %w", ErrLock, err))
		}
		defer p.cfg.Guard.Release()
	}
	if ctx.Err() != nil || p.cfg.Halt.Err() != nil {
		return p.unstarted(ctx, nil)
	}
	p.board.ForgetChecks(p.cfg.Name)
	p.to(status.Starting, "")
	child, err := p.cfg.Starter.Start()
	if err != nil {
		p.state.ExitCode = ExitCode(err)
		return p.unstarted(ctx, &startError{err})
	}
	p.state.PID = child.PID()
	p.to(status.Running, "")
	return p.finish(ctx, child, p.live(ctx, child))
}

// unstarted ends an incarnation that never had a command.
func (p *Process) unstarted(ctx context.Context, err error) verdict {
	cause, reason := p.state.Cause, p.state.Reason
	next := p.decide(ctx, err, 0)
	if next.phase == status.Stopped { // nothing new was learnt
		p.state.Cause, p.state.Reason = cause, reason
	}
	p.to(next.phase, "")
	return next
}

// finish ends an incarnation whose command is gone: it publishes at once that
// it is no longer there, then ends what it left behind.
func (p *Process) finish(ctx context.Context, child Child, cause error) verdict {
	exit := child.Exit()
	p.state.ExitCode = ExitCode(exit)
	if cause == nil {
		cause = exit
	}
	next := p.decide(ctx, cause, time.Since(p.state.Started))
	switch next.phase {
	case status.Backoff, status.Failed:
		p.to(next.phase, "")
	case status.Stopped:
		p.to(status.Stopping, "")
	}
	if err := child.Close(p.cfg.Kill); err != nil && next.phase == status.Backoff {
		p.to(status.Backoff, err.Error())
	}
	if next.phase == status.Backoff && (ctx.Err() != nil || p.cfg.Halt.Err() != nil) {
		next.phase = status.Stopped
	}
	p.to(next.phase, p.state.Detail)
	return next
}

// live watches a running command until its main process is gone. It returns
// why the command had to be replaced, or nil when it ended by itself.
func (p *Process) live(ctx context.Context, child Child) error {
	life, end := context.WithCancelCause(ctx)
	l := &incarnation{p: p, child: child, ctx: life, end: end, began: time.Now()}
	defer l.join()
	l.begin()
	settled := l.settling()
	for {
		select {
		case v := <-l.verdicts:
			l.gates[v.check] = v.open
		case <-l.hooked:
			l.hookDone = true
		case <-settled:
			l.settled = true
		case <-child.Exited():
			return nil
		case <-life.Done():
			cause := context.Cause(life)
			p.stop(l, cause)
			return cause
		}
		l.update()
	}
}

// incarnation is a running command with all that was started for it.
type incarnation struct {
	p     *Process
	child Child
	ctx   context.Context
	end   context.CancelCauseFunc
	began time.Time
	wg    sync.WaitGroup

	verdicts chan gate     // what checks say; nil without any
	hooked   chan struct{} // OnReady has succeeded
	gates    []bool        // by check; true where it is open or none
	settled  bool
	hookRuns bool
	hookDone bool
}

type gate struct {
	check int
	open  bool
}

// begin starts everything that lives as long as the command.
func (l *incarnation) begin() {
	cfg := &l.p.cfg
	if g := cfg.Guard; g != nil {
		l.wg.Go(func() {
			if err := g.Hold(l.ctx); err != nil {
				l.end(fmt.Errorf("%w: %w", ErrLock, err))
			}
		})
	}
	for _, w := range cfg.Watch {
		l.wg.Go(func() {
			if err := w(l.ctx, l.child.PID()); err != nil && l.ctx.Err() == nil {
				l.end(err)
			}
		})
	}
	l.hookDone = cfg.OnReady == nil
	if len(cfg.Checks) == 0 && cfg.PostStart == nil {
		l.update()
		return
	}
	l.verdicts = make(chan gate)
	l.gates = make([]bool, len(cfg.Checks)+1)
	for i, c := range cfg.Checks {
		l.gates[i] = !c.Gate && !c.Startup
	}
	l.gates[len(cfg.Checks)] = cfg.PostStart == nil
	l.wg.Go(l.check)
}

// join ends and awaits all that was started for the command.
func (l *incarnation) join() {
	l.end(nil)
	l.wg.Wait()
}

// settling returns a channel that delivers when the command has run for long
// enough to be called ready.
func (l *incarnation) settling() <-chan time.Time {
	d := l.p.pace.settle()
	if d == 0 && !slices.ContainsFunc(l.p.cfg.Checks, func(c Check) bool { return c.Gate || c.Startup }) {
		d = l.p.cfg.Settle
	}
	if d <= 0 {
		l.settled = true
		l.update()
		return nil
	}
	return time.After(d) // collected when nobody holds it
}

// update publishes whether the command is ready, and runs the hook when it
// would be for the first time.
func (l *incarnation) update() {
	if slices.Contains(l.gates, false) || !l.settled {
		l.p.to(status.Running, "")
		return
	}
	if l.hookDone {
		l.p.to(status.Ready, "")
		return
	}
	l.p.to(status.Running, "")
	if l.hookRuns {
		return
	}
	l.hookRuns, l.hooked = true, make(chan struct{}, 1)
	l.wg.Go(func() {
		if l.hook("postStart", l.p.cfg.OnReady) {
			l.hooked <- struct{}{}
		}
	})
}

// hook runs a hook, whose failure ends the command.
func (l *incarnation) hook(name string, h Hook) bool {
	err := h(l.ctx)
	if err != nil && l.ctx.Err() == nil {
		l.end(fmt.Errorf("%s %w: %w", name, ErrHook, err))
	}
	return err == nil
}

// extraGrace is what a command gets to end whose preStop hook used up all of
// its time.
const extraGrace = 2 * time.Second

// stop asks the command to end and, when its time is over, makes it.
func (p *Process) stop(l *incarnation, cause error) {
	p.to(status.Stopping, "")
	grace := p.cfg.StopTimeout
	var failed *CheckError
	if errors.As(cause, &failed) && failed.stopTimeout != nil {
		grace = *failed.stopTimeout
	}
	ctx, cancel := context.WithTimeout(p.cfg.Kill, grace)
	defer cancel()
	p.preStop(ctx, l)
	if ctx.Err() != nil && p.cfg.PreStop != nil && grace > 0 {
		// The hook took it all: as in Kubernetes, a moment more.
		cancel()
		ctx, cancel = context.WithTimeout(p.cfg.Kill, extraGrace)
		defer cancel()
	}
	if ctx.Err() == nil {
		_ = l.child.Signal(p.cfg.StopSignal) // an error means that it is gone
	}
	select {
	case <-l.child.Exited():
		return
	case <-ctx.Done():
	}
	_ = l.child.Signal(syscall.SIGKILL)
	<-l.child.Exited()
}

// preStop runs the hook before the stop signal. Its failure is no reason not
// to stop.
func (p *Process) preStop(ctx context.Context, l *incarnation) {
	if p.cfg.PreStop == nil {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-l.child.Exited():
			cancel(errGone)
		case <-ctx.Done():
		}
	})
	if err := p.cfg.PreStop(ctx); err != nil && ctx.Err() == nil {
		p.to(status.Stopping, "preStop hook: "+err.Error())
	}
	cancel(nil)
	wg.Wait()
}
