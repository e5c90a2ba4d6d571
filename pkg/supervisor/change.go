package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// A Cause is why a unit is stopped, as the cause of its context.
type Cause struct{ text, reason string }

func (c *Cause) Error() string { return c.text }

// Reason names the cause in one word.
func (c *Cause) Reason() string { return c.reason }

// Why units are stopped while the pod runs.
var (
	ErrOperator error = &Cause{"stopped by an operator", "operator"}
	ErrReload   error = &Cause{"the config has changed", "reload"}
)

// What is wrong with a change.
var (
	ErrUnknown = errors.New("there is no such process")
	ErrRuns    = errors.New("it runs already")
)

// Change is what is to be changed while Run serves. Names are of units that are
// known; Put and Amend replace those of the same name.
type Change struct {
	Stop    []string // until somebody starts them again
	Start   []string // that do not run: ended, failed or stopped
	Restart []string // stopped and started again; those that do not run are started

	Remove []string // stopped, then forgotten
	Put    []Unit   // new ones, and ones to be run when the present one has been stopped
	Amend  []Unit   // whose Needs and Essential have changed; what runs goes on

	// Gone is called when a unit of Remove is gone. It must not block.
	Gone func(name string)
}

type change struct {
	Change
	done chan error
}

// Do changes the units. It returns when the change is under way, or with the
// reason why nothing of it is: [ErrShutdown] when the pod is about to end,
// [ErrUnknown], [ErrRuns]. It may be called from the time that Run is.
func (s *Supervisor) Do(ctx context.Context, c Change) error {
	done := make(chan error, 1)
	select {
	case s.changes <- change{c, done}:
		return <-done
	case <-s.halt.Done():
		return ErrShutdown
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// then is what becomes of a unit once it is gone.
type then int

const (
	nothing then = iota
	hold         // an operator may start it again
	again        // run it, or what was put in its place
	remove
)

// change begins what is asked for, all of it or nothing.
func (r *run) change(c Change) error {
	if err := r.halt.Err(); err != nil {
		return ErrShutdown
	}
	if err := r.check(c); err != nil {
		return err
	}
	var fresh []*running // known before others may need them
	for _, unit := range c.Put {
		if r.index[unit.Name] == nil {
			fresh = append(fresh, r.add(unit))
		}
	}
	for _, unit := range c.Amend {
		u := r.index[unit.Name]
		if u.stop != nil {
			r.need(u, -1)
		}
		u.Needs, u.Essential = unit.Needs, unit.Essential
		if u.stop != nil {
			r.need(u, +1)
		}
	}
	for _, name := range c.Stop {
		r.end(r.index[name], hold, ErrOperator)
	}
	for _, name := range c.Restart {
		r.end(r.index[name], again, ErrOperator)
	}
	for _, name := range c.Start {
		r.settleAs(r.index[name], again)
	}
	r.reload(c, fresh)
	return nil
}

// check says what is wrong with a change.
func (r *run) check(c Change) error {
	for _, names := range [][]string{c.Stop, c.Start, c.Restart, c.Remove} {
		for _, name := range names {
			if r.index[name] == nil {
				return fmt.Errorf("%s: %w", name, ErrUnknown)
			}
		}
	}
	for _, unit := range c.Amend {
		if r.index[unit.Name] == nil {
			return fmt.Errorf("%s: %w", unit.Name, ErrUnknown)
		}
	}
	for _, name := range c.Start {
		if u := r.index[name]; u.stop != nil && u.then != hold {
			return fmt.Errorf("%s: %w", name, ErrRuns)
		}
	}
	return nil
}

// reload begins what another config asks for. Units that go are told in the order
// in which they need each other.
func (r *run) reload(c Change, fresh []*running) {
	for _, name := range c.Remove {
		u := r.index[name]
		u.gone = c.Gone
		r.doom(u, remove)
	}
	for _, unit := range c.Put {
		u := r.index[unit.Name]
		if slices.Contains(fresh, u) {
			r.begin(u)
			continue
		}
		u.unit = &unit
		if u.held { // an operator stopped it, and a config does not start it
			r.doom(u, hold)
		} else {
			r.doom(u, again)
		}
	}
	r.cfg.Linger = len(r.units) == 0
	r.releaseDoomed()
}

// end stops a unit for a reason, and notes what becomes of it then.
func (r *run) end(u *running, what then, cause error) {
	if u.stop == nil {
		r.settleAs(u, what)
		return
	}
	u.then, u.told = what, true
	u.stop(cause)
}

// doom has a unit stopped when no other needs it that is to be stopped too.
func (r *run) doom(u *running, what then) {
	if u.stop == nil {
		r.settleAs(u, what)
		return
	}
	if u.then == hold && what == again {
		what = hold // an operator has just stopped it
	}
	u.then, u.doomed = what, true
}

// releaseDoomed tells the doomed units to stop that no other doomed one needs.
func (r *run) releaseDoomed() {
	var needed map[string]bool
	for _, u := range r.units {
		if !u.doomed || u.stop == nil {
			continue
		}
		if needed == nil {
			needed = make(map[string]bool)
		}
		for _, names := range u.Needs {
			for _, name := range names {
				needed[name] = true
			}
		}
	}
	for _, u := range r.units {
		if u.doomed && u.stop != nil && !u.told && !needed[u.Name] {
			u.told = true
			u.stop(ErrReload)
		}
	}
}

// settleAs does with a unit that does not run what is asked for.
func (r *run) settleAs(u *running, what then) {
	if u.stop != nil { // a start while it is being stopped
		u.then = what
		return
	}
	u.then = what
	r.settle(u)
}

// settle does with a unit that is gone what was asked for.
func (r *run) settle(u *running) {
	u.doomed = false
	if u.unit != nil {
		u.Unit = *u.unit
		u.unit = nil
	}
	switch u.then {
	case hold:
		u.held = true
	case again:
		r.begin(u)
	case remove:
		r.drop(u)
	}
}

func (r *run) drop(u *running) {
	delete(r.index, u.Name)
	i := slices.Index(r.units, u)
	r.units = slices.Delete(r.units, i, i+1)
	r.cfg.Linger = len(r.units) == 0
	if u.gone != nil {
		u.gone(u.Name)
	}
}
