package process

import (
	"context"
	"fmt"

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

// met reports whether a process in state st is what the dependency asks for;
// an error says that it never will be.
func (d Dependency) met(st status.State) (bool, error) {
	switch {
	case st.Phase == status.Skipped:
		return true, nil
	case st.Phase == status.Failed:
		return false, fmt.Errorf("%w: %s", ErrDependency, d.Name)
	}
	switch d.Condition {
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
	for waited := true; waited; {
		waited = false
		for _, d := range p.cfg.DependsOn {
			w, err := p.awaitOne(ctx, d)
			if err != nil {
				return err
			}
			waited = waited || w
		}
	}
	return nil
}

// awaitOne returns when one dependency is met, and whether it had to wait.
func (p *Process) awaitOne(ctx context.Context, d Dependency) (waited bool, err error) {
	for {
		st, changed := p.board.Watch(d.Name)
		ok, err := d.met(st)
		if ok || err != nil {
			return waited, err
		}
		waited = true
		p.to(status.Waiting, fmt.Sprintf("for %s to be %s", d.Name, d.Condition))
		select {
		case <-changed:
		case <-p.cfg.Halt.Done():
			return waited, context.Cause(p.cfg.Halt)
		case <-ctx.Done():
			return waited, context.Cause(ctx)
		}
	}
}
