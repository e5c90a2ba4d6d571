package process

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

func (c Condition) String() string {
	switch c {
	case IsStarted:
		return "started"
	case IsCompleted:
		return "completed"
	}
	return "ready"
}

// met reports whether a process in state st has got where it should; an error
// says that it never will.
func (c Condition) met(st status.State) (bool, error) {
	switch {
	case st.Phase == status.Skipped:
		return true, nil
	case st.Phase == status.Failed:
		return false, &dependencyError{st.Name, st.ExitCode}
	}
	switch c {
	case IsStarted:
		return st.Phase.Alive() || st.Phase == status.Completed, nil
	case IsCompleted:
		return st.Phase == status.Completed, nil
	}
	return st.Phase.Ready(), nil
}

// await returns when all dependencies are met, or with the reason why they will
// not be. It looks at all again after it has waited for one: another may have
// gone bad meanwhile.
func (p *Process) await(ctx context.Context) error {
	for {
		if err := p.awaitAll(ctx); !errors.Is(err, errUpdated) {
			return err
		}
	}
}

func (p *Process) awaitAll(ctx context.Context) error {
	for waited := true; waited; {
		waited = false
		for _, d := range p.cfg.DependsOn {
			for _, name := range d.Names {
				w, err := p.awaitOne(ctx, name, d.Condition)
				if err != nil {
					return err
				}
				waited = waited || w
			}
		}
	}
	return nil
}

// errUpdated says that there may be other dependencies now.
var errUpdated = errors.New("the config was updated")

// awaitOne returns when one dependency is met, and whether it had to wait.
func (p *Process) awaitOne(ctx context.Context, name string, want Condition) (waited bool, err error) {
	for {
		st, changed := p.board.Watch(name)
		ok, err := want.met(st)
		if ok || err != nil {
			return waited, err
		}
		waited = true
		p.to(status.Waiting, fmt.Sprintf("for %s to be %s", name, want))
		select {
		case <-changed:
		case <-p.updated:
			p.refresh()
			return waited, errUpdated
		case <-p.cfg.Halt.Done():
			return waited, context.Cause(p.cfg.Halt)
		case <-ctx.Done():
			return waited, context.Cause(ctx)
		}
	}
}

// errPreempted ends the wait for a lock, which another pod should get.
var errPreempted = errors.New("the pod is preempted")

// clear returns when the command may be started: what it depends on is there,
// the pod is not about to be taken away, and the lock is held. An error says
// that it may not be.
func (p *Process) clear(ctx context.Context) error {
	for {
		if err := p.await(ctx); err != nil {
			return err
		}
		held, err := p.held(ctx)
		if err != nil {
			return err
		}
		if held {
			continue // what it depends on may have gone bad meanwhile
		}
		err = p.acquire(ctx)
		if !p.preempted() {
			return err
		}
		if err == nil {
			p.release()
		}
	}
}

func (p *Process) preempted() bool {
	snap, _ := p.board.Load()
	return snap.Pod().Preempted
}

// held returns when nothing holds back what is to be started, and whether it
// had to wait.
func (p *Process) held(ctx context.Context) (waited bool, err error) {
	for {
		pod, changed := p.board.WatchPod()
		if !pod.Preempted {
			return waited, nil
		}
		waited = true
		p.state.UnreadySince = time.Time{} // no reason to call the pod dead: that would end the others
		p.to(status.Waiting, "not started: the pod is preempted")
		select {
		case <-changed:
		case <-p.cfg.Halt.Done():
			return waited, context.Cause(p.cfg.Halt)
		case <-ctx.Done():
			return waited, context.Cause(ctx)
		}
	}
}

// acquire waits for the guard, if there is one, until the pod is preempted or
// nothing is to be started any more. It is a standby from when it learns that it
// has to wait.
func (p *Process) acquire(ctx context.Context) error {
	if p.cfg.Guard == nil {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { p.untilNotWanted(ctx, cancel) })
	defer wg.Wait()
	defer cancel(nil)
	err := p.cfg.Guard.Acquire(ctx, func(detail string) {
		p.to(status.Standby, "waiting for its lock: "+detail)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLock, err)
	}
	return nil
}

// untilNotWanted cancels when the pod is preempted, or nothing is started any more.
func (p *Process) untilNotWanted(ctx context.Context, cancel context.CancelCauseFunc) {
	for {
		pod, changed := p.board.WatchPod()
		if pod.Preempted {
			cancel(errPreempted)
			return
		}
		select {
		case <-changed:
		case <-p.cfg.Halt.Done():
			cancel(context.Cause(p.cfg.Halt))
			return
		case <-ctx.Done():
			return
		}
	}
}
