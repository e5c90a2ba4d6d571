package wrapper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/process-wrapper/process-wrapper/pkg/api"
	"github.com/process-wrapper/process-wrapper/pkg/output"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
	"github.com/process-wrapper/process-wrapper/pkg/supervisor"
)

var _ api.Operator = (*operator)(nil)

// operator does to processes what is asked for on the control socket.
type operator struct{ *pod }

// notFound is an error that says that there is no such process.
type notFound struct{ error }

func (notFound) NotFound() bool { return true }

// Names returns the processes that a name stands for: itself, or all replicas of
// it.
func (o operator) Names(name string) ([]string, error) {
	o.reloading.Lock()
	defer o.reloading.Unlock()
	var names []string
	for _, m := range o.crew {
		if m.spec.Name == name || m.spec.Base == name {
			names = append(names, m.spec.Name)
		}
	}
	if len(names) == 0 {
		return nil, notFound{fmt.Errorf("there is no process %q: status lists them", name)}
	}
	slices.Sort(names)
	return names, nil
}

// members returns the members that a name stands for, none of which is skipped.
func (o operator) members(name string) ([]*member, []string, error) {
	names, err := o.Names(name)
	if err != nil {
		return nil, nil, err
	}
	o.reloading.Lock()
	defer o.reloading.Unlock()
	var all []*member
	for _, n := range names {
		m := o.crew[n]
		if m == nil {
			continue // it was removed just now
		}
		if m.skipped {
			return nil, nil, fmt.Errorf("%s is skipped: -skip-commands names it", n)
		}
		all = append(all, m)
	}
	return all, names, nil
}

// Do begins to start, stop or restart processes.
func (o operator) Do(ctx context.Context, verb api.Verb, name string) ([]string, error) {
	_, names, err := o.members(name)
	if err != nil {
		return nil, err
	}
	if err := o.startable(); err != nil && verb != api.Stop {
		return nil, err
	}
	var c supervisor.Change
	switch verb {
	case api.Start:
		if len(names) > 1 {
			names = o.resting(names) // of replicas, those that do not run
		}
		c.Start = names
	case api.Stop:
		c.Stop = names
	case api.Restart:
		c.Restart = names
	}
	if err := o.units.Do(ctx, c); err != nil {
		return nil, err
	}
	o.log.Info("an operator asked", "verb", string(verb), "process", name)
	return names, nil
}

// resting leaves out what runs, unless all does.
func (o operator) resting(names []string) []string {
	snap, _ := o.board.Load()
	rest := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		st, _ := snap.Get(name)
		return !st.Phase.Final()
	})
	if len(rest) == 0 {
		return names
	}
	return rest
}

// Signal sends a signal to the groups of processes that run.
func (o operator) Signal(name, signal string) ([]string, error) {
	sig, ok := spec.ParseSignal(signal)
	if !ok {
		return nil, fmt.Errorf("%q is no signal: a name such as HUP, or a number", signal)
	}
	all, _, err := o.members(name)
	if err != nil {
		return nil, err
	}
	var done []string
	for _, m := range all {
		c := m.starter.child.Load()
		if c == nil {
			continue
		}
		err := c.Signal(sig)
		if errors.Is(err, os.ErrProcessDone) {
			continue
		}
		if err != nil {
			return done, fmt.Errorf("signal %s: %w", m.spec.Name, err)
		}
		done = append(done, m.spec.Name)
	}
	if len(done) == 0 {
		return nil, fmt.Errorf("%s does not run", name)
	}
	o.log.Info("an operator sent a signal", "signal", spec.SignalName(sig), "process", name)
	return done, nil
}

// reloadJSON is what a reload did.
type reloadJSON struct {
	Started   []string `json:"started"`
	Restarted []string `json:"restarted"`
	Updated   []string `json:"updated"`
	Removed   []string `json:"removed"`
	Unchanged int      `json:"unchanged"`
}

// Reload reads the config again.
func (o operator) Reload(ctx context.Context) (any, error) {
	r, err := o.reload(ctx)
	if err != nil {
		return nil, err
	}
	o.logReload("an operator", r)
	for _, list := range []*[]string{&r.started, &r.restarted, &r.updated, &r.removed} {
		slices.Sort(*list)
		if *list == nil {
			*list = []string{}
		}
	}
	return reloadJSON{r.started, r.restarted, r.updated, r.removed, r.unchanged}, nil
}

// Logs returns the latest lines of a process.
func (o operator) Logs(name string) api.Lines {
	if r := o.rings.load(name); r != nil {
		return r
	}
	return nil
}

// rings are the latest lines of all processes, by name.
type rings struct {
	output.Rings

	mu  sync.Mutex // guards all
	all map[string]*output.Ring
}

// of returns the ring of a process.
func (r *rings) of(name string) *output.Ring {
	r.mu.Lock()
	defer r.mu.Unlock()
	ring := r.all[name]
	if ring == nil {
		ring = r.New()
		if r.all == nil {
			r.all = make(map[string]*output.Ring)
		}
		r.all[name] = ring
	}
	return ring
}

func (r *rings) load(name string) *output.Ring {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[name]
}

// forget drops the lines of a process that is no more.
func (r *rings) forget(name string) {
	r.mu.Lock()
	ring := r.all[name]
	delete(r.all, name)
	r.mu.Unlock()
	if ring != nil {
		ring.Close()
	}
}
