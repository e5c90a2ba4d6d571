package wrapper

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/process"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
	"github.com/process-wrapper/process-wrapper/pkg/status"
	"github.com/process-wrapper/process-wrapper/pkg/supervisor"
)

// askReload has the config read again, soon. Of requests that come meanwhile
// one is kept.
func (p *pod) askReload(why string) {
	select {
	case p.reloads <- why:
	default: // it will be read after this moment
	}
}

func (p *pod) serveReloads(ctx context.Context) {
	for {
		select {
		case why := <-p.reloads:
			r, err := p.reload(ctx)
			if err != nil {
				p.log.Error("the config was not reloaded: nothing is changed", "by", why, "err", err)
				continue
			}
			p.logReload(why, r)
		case <-ctx.Done():
			return
		}
	}
}

func (p *pod) logReload(why string, r reloaded) {
	p.log.Info("the config was reloaded", "by", why, "started", len(r.started), "restarted", len(r.restarted),
		"updated", len(r.updated), "removed", len(r.removed), "unchanged", r.unchanged)
}

// reloaded is what a reload did, by name.
type reloaded struct {
	started, restarted, updated, removed []string
	unchanged                            int
}

// plan is a reload that nothing can stop any more but the end of the pod.
type plan struct {
	reloaded
	states  *status.Snapshot
	crew    crew
	change  supervisor.Change
	declare []status.State
	update  []*member // in the new crew, whose process goes on
}

// rereadWithin is how long it may take to read the config again.
const rereadWithin = 10 * time.Second

// reload reads the config again and makes the pod what it says. On an error
// nothing is changed. It returns when the changes are under way.
func (p *pod) reload(ctx context.Context) (reloaded, error) {
	if err := p.reloadable(); err != nil {
		return reloaded{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, rereadWithin, errReread)
	defer cancel()
	cfg, err := p.reread(ctx)
	if err != nil {
		return reloaded{}, err
	}
	defer func() { <-p.turn }()
	p.reloading.Lock()
	defer p.reloading.Unlock()
	if err := p.startable(); err != nil { // a notice came meanwhile
		return reloaded{}, err
	}
	for _, w := range cfg.Warnings {
		p.log.Warn("config", "warning", w.Error())
	}
	skip := skipped(p.flags.SkipCommands, cfg, p.log)
	next, err := p.plan(cfg, skip)
	if err != nil {
		return reloaded{}, err
	}
	if len(next.declare) > 0 {
		p.board.Declare(next.declare...)
	}
	if err := p.units.Do(ctx, next.change); err != nil {
		return reloaded{}, err
	}
	for _, m := range next.update {
		m.proc.Update(m.cfg)
	}
	p.crew = next.crew
	for name, m := range p.crew {
		if m.starter.lock == nil {
			p.locks.forget(name) // it may have had one
		}
	}
	pages := pagesOf(cfg.Processes, skip)
	p.pages.Store(&pages)
	return next.reloaded, nil
}

var errReread = fmt.Errorf("the config could not be read within %v: does its file system answer?", rereadWithin)

// reread reads the config, and takes the turn of those that reload: what is read
// later is put into force later. A file that hangs, which nobody can interrupt,
// keeps the turn, but neither operators nor the end of the pod waiting.
func (p *pod) reread(ctx context.Context) (*spec.Config, error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	var cfg *spec.Config
	var err error
	late := abandon(ctx, func() { cfg, err = load(p.flags, p.env) }, func() { <-p.turn })
	switch {
	case late:
		return nil, context.Cause(ctx)
	case err != nil:
		<-p.turn
	}
	return cfg, err
}

// abandon runs f, which may hang with a file system, and returns true when ctx
// ends first. What f writes must not be looked at then; whenever it ends, after
// is run.
func abandon(ctx context.Context, f, after func()) bool {
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() { f(); close(done) })
	select {
	case <-done:
		return false
	case <-ctx.Done():
	}
	wg.Go(func() { <-done; after() })
	return true
}

// reloadable says why there is nothing to be read again.
func (p *pod) reloadable() error {
	if err := p.startable(); err != nil {
		return err
	}
	switch {
	case p.flags.Run.config != nil:
		return errors.New("it came from the command line, which cannot change: give -config a file")
	case p.flags.Config == "-":
		return errors.New("it came from standard input, which cannot be read again: give -config a file")
	case p.flags.Config != "":
		return nil
	case p.env.config != "":
		return errors.New("it came from the environment variable CONFIG, which cannot change: give -config a file")
	}
	return errors.New("there is none: -config names it")
}

// plan compares a config with what there is.
func (p *pod) plan(cfg *spec.Config, skip func(*spec.Process) bool) (*plan, error) {
	n := &plan{crew: make(crew, len(cfg.Processes))}
	n.states, _ = p.board.Load()
	for _, s := range cfg.Processes {
		m, err := p.builder.member(s, p.board)
		if err != nil {
			return nil, err
		}
		m.skipped = skip(s)
		n.crew[s.Name] = m
		n.compare(p.crew[s.Name], m)
	}
	for name, old := range p.crew {
		if n.crew[name] == nil {
			n.remove(p, name, old)
		}
	}
	n.change.Gone = p.forget
	return n, nil
}

// compare plans what becomes of one process; old is nil where it is new.
func (n *plan) compare(old, m *member) {
	name := m.spec.Name
	switch {
	case m.skipped && old != nil && !old.skipped: // it has become a replica of what is skipped
		n.removed = append(n.removed, name)
		n.change.Remove = append(n.change.Remove, name)
		return
	case m.skipped:
		st := m.proc.State()
		st.Phase = status.Skipped
		n.declare = append(n.declare, st)
		return
	case old == nil || old.skipped:
		n.started = append(n.started, name)
		n.declare = append(n.declare, m.proc.State())
		n.change.Put = append(n.change.Put, m.unit())
		return
	}
	switch m.differs(old, n.states) {
	case none:
		n.unchanged++
		n.crew[name] = old
	case around:
		n.updated = append(n.updated, name)
		m.proc = old.proc
		m.starter.adopt(old.starter)
		m.cfg.Guard = old.cfg.Guard
		n.change.Amend = append(n.change.Amend, m.unit())
		n.update = append(n.update, m)
	case another:
		n.restarted = append(n.restarted, name)
		if st, _ := n.states.Get(name); st.Phase == status.Failed {
			st.Phase = status.Waiting // before what depends on it looks, which would fail with it
			n.declare = append(n.declare, st)
		}
		m.proc.After(old.proc)
		n.change.Put = append(n.change.Put, m.unit())
	}
}

// differs compares a process with what it was. One that has ended for good is run
// again where the config says so now, or where only a dependency kept it from
// running.
func (m *member) differs(old *member, states *status.Snapshot) difference {
	d := compare(old.spec, m.spec)
	st, _ := states.Get(m.spec.Name)
	switch {
	case st.Phase == status.Failed && errors.Is(st.Cause, process.ErrDependency):
		return another
	case d == around && (st.Phase == status.Failed || st.Phase == status.Completed) && !samePolicy(old.spec, m.spec):
		return another
	}
	return d
}

func samePolicy(a, b *spec.Process) bool {
	return a.RestartPolicy == b.RestartPolicy && reflect.DeepEqual(a.MaxRestarts, b.MaxRestarts)
}

func (n *plan) remove(p *pod, name string, old *member) {
	n.removed = append(n.removed, name)
	if old.skipped {
		p.forget(name)
		return
	}
	n.change.Remove = append(n.change.Remove, name)
}

// forget drops all that is known of a process that is gone for good.
func (p *pod) forget(name string) {
	p.board.Remove(name)
	p.beats.Forget(name)
	p.metrics.Forget(name)
	p.counts.forget(name)
	p.events.Forget(name)
	p.outbox.Forget(name)
	p.rings.forget(name)
	p.locks.forget(name)
}

// adopt takes over what another starter of the same command knows.
func (s *starter) adopt(old *starter) {
	env := old.env.Load()
	if env == nil && s.keepEnv {
		if now, err := s.p.Environ(s.environ, nil); err == nil { // else its checks have the wrapper's
			env = &now
		}
	}
	s.lock = old.lock
	s.env.Store(env)
	s.child.Store(old.child.Load())
	if s.starts != nil && old.starts != nil {
		s.starts.adopt(old.starts)
	}
}
