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
//
// While a command runs, the frames of Run, once and watch are all that is on
// the stack. What else is needed on the way is in functions of its own: with
// small frames a stack is 4 KiB rather than 8, for each of many processes.
func (p *Process) once(ctx context.Context) verdict {
	child, next := p.launch(ctx)
	if child == nil {
		return next
	}
	l := p.begin(ctx, child)
	err := l.watch()
	l.join()
	if err == nil {
		err = l.lost() // that is why it ended
	}
	next = p.finish(ctx, l, err)
	l.unguard()
	p.release()
	return next
}

// launch waits for what the command needs and starts it. Without a child it
// returns what becomes of the process.
func (p *Process) launch(ctx context.Context) (Child, verdict) {
	if err := p.clear(ctx); err != nil {
		return nil, p.unstarted(ctx, err)
	}
	if ctx.Err() != nil || p.cfg.Halt.Err() != nil {
		p.release()
		return nil, p.unstarted(ctx, nil)
	}
	p.board.ForgetChecks(p.cfg.Name)
	p.to(status.Starting, "")
	child, err := p.cfg.Starter.Start(func(detail string) { p.to(status.Starting, detail) })
	if err != nil {
		p.release()
		p.state.ExitCode = ExitCode(err)
		return nil, p.unstarted(ctx, &startError{err})
	}
	p.state.PID = child.PID()
	p.to(status.Running, "")
	return child, verdict{}
}

func (p *Process) release() {
	if p.cfg.Guard != nil {
		p.cfg.Guard.Release()
	}
}

// unstarted ends an incarnation that never had a command.
func (p *Process) unstarted(ctx context.Context, err error) verdict {
	cause, reason, ended := p.state.Cause, p.state.Reason, p.state.Ended
	next := p.decide(ctx, err, 0)
	if next.phase == status.Stopped { // nothing new was learnt
		p.state.Cause, p.state.Reason, p.state.Ended = cause, reason, ended
	}
	p.to(next.phase, "")
	return next
}

// finish ends an incarnation whose command is gone: it publishes at once that
// it is no longer there, then ends what it left behind.
func (p *Process) finish(ctx context.Context, l *incarnation, cause error) verdict {
	exit := l.child.Exit()
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
	if err := l.child.Close(l.kill); err != nil && next.phase == status.Backoff {
		p.to(status.Backoff, err.Error())
	}
	if next.phase == status.Backoff && (ctx.Err() != nil || p.cfg.Halt.Err() != nil) {
		next.phase = status.Stopped
	}
	p.to(next.phase, p.state.Detail)
	return next
}

// watch follows a running command until its main process is gone. It returns
// why the command had to be replaced, or nil when it ended by itself.
func (l *incarnation) watch() error {
	for {
		select {
		case v := <-l.verdicts:
			l.gates[v.check] = v.open
		case <-l.posted:
			l.posted = nil
			l.beginChecks(false)
		case <-l.p.updated:
			l.renew()
		case <-l.hooked:
			l.hookDone = true
		case <-l.settling:
			l.settled = true
		case <-l.child.Exited():
			return nil
		case <-l.ctx.Done():
			return l.stop()
		}
		l.update()
	}
}

// incarnation is a running command with all that was started for it.
type incarnation struct {
	p     *Process
	child Child
	outer context.Context // of the process
	ctx   context.Context // of this incarnation
	end   context.CancelCauseFunc
	kill  context.Context // when it ends the command is killed
	began time.Time
	wg    sync.WaitGroup

	guarding func() // ends the goroutine that holds the guard, until nothing is left of the command; nil without one

	verdicts chan gate     // what checks say; nil without any
	asking   *asking       // nil without checks
	gates    []bool        // by check; true where it is open or none
	posted   chan struct{} // PostStart has succeeded; nil once it has, or where there is none
	hooked   chan struct{} // OnReady has succeeded
	settling <-chan time.Time
	settled  bool
	hookRuns bool
	hookDone bool
}

type gate struct {
	check int
	open  bool
}

// begin starts everything that lives as long as the command.
func (p *Process) begin(ctx context.Context, child Child) *incarnation {
	life, end := context.WithCancelCause(ctx)
	l := &incarnation{p: p, child: child, outer: ctx, ctx: life, end: end, kill: p.cfg.Kill, began: time.Now()}
	l.hookDone = p.cfg.OnReady == nil
	l.beginWatchers()
	l.beginHook()
	l.settle()
	l.update()
	return l
}

func (l *incarnation) beginWatchers() {
	cfg := &l.p.cfg
	if cfg.Guard != nil {
		l.guard(cfg.Guard)
	}
	for _, w := range cfg.Watch {
		l.wg.Go(func() {
			if err := w(l.ctx, l.child.PID()); err != nil && l.ctx.Err() == nil {
				l.end(err)
			}
		})
	}
}

// guard kills the command, and all that it started, when the guard is lost. No
// hook or check delays that, whatever else is going on.
func (l *incarnation) guard(g Guard) {
	kill, lose := context.WithCancelCause(l.kill)
	hold, over := context.WithCancel(context.WithoutCancel(l.ctx))
	l.kill = kill
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := g.Hold(hold); err != nil {
			err = fmt.Errorf("%w: %w", ErrLock, err)
			lose(err)
			select {
			case <-l.child.Exited(): // what it left behind is being killed
			default:
				_ = l.child.Signal(syscall.SIGKILL) // an error means that it is gone
			}
			l.end(err)
		}
	})
	l.guarding = func() {
		over()
		wg.Wait()
		lose(nil)
	}
}

// lost is why the guard was lost.
func (l *incarnation) lost() error {
	if err := context.Cause(l.kill); errors.Is(err, ErrLock) {
		return err
	}
	return nil
}

func (l *incarnation) unguard() {
	if l.guarding != nil {
		l.guarding()
	}
}

// beginHook runs PostStart, which the checks wait for.
func (l *incarnation) beginHook() {
	hook := l.p.cfg.PostStart
	if hook == nil {
		l.beginChecks(false)
		return
	}
	l.posted = make(chan struct{}, 1)
	l.wg.Go(func() {
		if l.hook("lifecycle.postStart", hook) {
			l.posted <- struct{}{}
		}
	})
}

// renew takes over an updated config while the command runs.
func (l *incarnation) renew() {
	ready := l.p.state.Phase.Ready()
	l.endChecks()
	l.p.refresh()
	l.p.board.ForgetChecks(l.p.cfg.Name)
	if l.posted == nil {
		l.beginChecks(ready)
	}
}

// join ends and awaits all that was started for the command.
func (l *incarnation) join() {
	l.end(nil)
	l.endChecks()
	l.wg.Wait()
}

// settle makes a timer for when the command has run for long enough to be
// called ready.
func (l *incarnation) settle() {
	d := l.p.pace.settle()
	if d == 0 && !slices.ContainsFunc(l.p.cfg.Checks, func(c Check) bool { return c.Gate || c.Startup }) {
		d = l.p.cfg.Settle
	}
	if l.settled = d <= 0; !l.settled {
		l.settling = time.After(d) // collected when nobody holds it
	}
}

// update publishes whether the command is ready, and runs the hook when it
// would be for the first time.
func (l *incarnation) update() {
	if l.posted != nil || slices.Contains(l.gates, false) || !l.settled {
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
	hook := l.p.cfg.OnReady
	if hook == nil { // an update took it away
		l.hookDone = true
		l.p.to(status.Ready, "")
		return
	}
	l.hookRuns, l.hooked = true, make(chan struct{}, 1)
	l.wg.Go(func() {
		if l.hook("postStart", hook) {
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

// stop asks the command to end and, when its time is over, makes it. It returns
// why.
func (l *incarnation) stop() error {
	p, cause := l.p, context.Cause(l.ctx)
	p.killed = false
	why := ""
	if l.outer.Err() == nil { // else the pod or an operator says so
		why = cause.Error()
	}
	grace := p.cfg.StopTimeout
	var failed *CheckError
	if errors.As(cause, &failed) && failed.stopTimeout != nil {
		grace = *failed.stopTimeout
	}
	p.stopping(why, time.Now().Add(grace))
	ctx, cancel := context.WithTimeout(l.kill, grace)
	defer cancel()
	if ctx.Err() == nil {
		l.preStop(ctx)
	}
	if ctx.Err() != nil && p.cfg.PreStop != nil && grace > 0 {
		// The hook took it all: as in Kubernetes, a moment more.
		cancel()
		p.stopping(p.state.Detail, time.Now().Add(extraGrace))
		ctx, cancel = context.WithTimeout(l.kill, extraGrace)
		defer cancel()
	}
	if ctx.Err() == nil {
		_ = l.child.Signal(p.cfg.StopSignal) // an error means that it is gone
	}
	select {
	case <-l.child.Exited():
		return cause
	case <-ctx.Done():
	}
	if l.lost() == nil { // else who watches the guard does it
		_ = l.child.Signal(syscall.SIGKILL)
	}
	p.stopping(p.state.Detail, time.Now())
	<-l.child.Exited()
	var exit *ExitError // it may have ended in time, and nobody looked
	p.killed = errors.As(l.child.Exit(), &exit) && exit.Signal == syscall.SIGKILL
	return cause
}

// preStop runs the hook before the stop signal. Its failure is no reason not
// to stop.
func (l *incarnation) preStop(ctx context.Context) {
	p := l.p
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
