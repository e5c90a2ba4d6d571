// Package supervisor runs a set of units, changes it while it runs, and takes it
// down in order.
//
//	Stop(Graceful)  out of service ─ drain delay ─ each unit once all that need it are gone ─ deadline: KILL
//	Stop(Fast)      out of service ─ all units at once ─ 1 s: KILL
//	Stop(Now)       KILL, and so does a second Stop that is no echo
//
// The pod also ends by itself: when an essential unit has ended for good, and
// when no unit is left that will run again, unless an operator has stopped one:
// that can be started again.
package supervisor

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Why units are stopped, as causes of contexts.
var (
	ErrShutdown = errors.New("the pod is shutting down")
	ErrKill     = errors.New("the time to stop is over")
)

// Mode is how to stop.
type Mode int

// The modes, from the gentlest.
const (
	Graceful Mode = iota // in reverse dependency order, within the deadline
	Fast                 // all at once, within a second
	Now                  // kill
)

const (
	// fastDeadline is what units get to end in a Fast stop.
	fastDeadline = time.Second
	// echo is how long after a request to stop another one is the same: a
	// terminal, make or timeout signal a process and its group, so two come.
	echo = 100 * time.Millisecond
	// unkillable is how long to wait after a kill. What is still there then
	// hangs in the kernel, and the end of the pod must not hang with it.
	unkillable = 2 * time.Second
)

// ExitKilled is the exit code after a stop in which units had to be killed.
const ExitKilled = 128 + 9

// Unit is what is run: a process.
type Unit struct {
	Name string
	// Run returns when the unit is gone: nil when it completed, else an error,
	// whose method ExitCode() int says the code, and Killed() bool that it was
	// stopped by force.
	Run       func(ctx context.Context) error
	Needs     [][]string // names of units that must outlive this one
	Essential bool       // its end is the end of the pod
}

// Config is what a supervisor runs, and how it stops it.
type Config struct {
	Units      []Unit
	DrainDelay time.Duration // between OnDrain and the first stop
	Deadline   time.Duration // from the request to stop to KILL
	// Until, where set, is when the machine will be gone, zero where nobody
	// knows: units are killed a second before.
	Until func() time.Time
	// OnDrain takes the pod out of service. It is called once, before the
	// first unit is told to stop, with the time until KILL.
	OnDrain func(reason string, within time.Duration)
	// Linger keeps a pod alive that has nothing to run.
	Linger bool
}

// Supervisor owns the units' lifetimes. Make one with [New].
type Supervisor struct {
	stops   chan request
	changes chan change
	halt    context.Context
	kill    context.Context

	cancelHalt, cancelKill context.CancelCauseFunc
}

type request struct {
	mode   Mode
	reason string
	asked  bool // by Stop, not by the pod's own end
}

// New returns a supervisor of nothing: units are made with its contexts first.
func New() *Supervisor {
	s := &Supervisor{stops: make(chan request, 4), changes: make(chan change)}
	s.halt, s.cancelHalt = context.WithCancelCause(context.Background())
	s.kill, s.cancelKill = context.WithCancelCause(context.Background())
	return s
}

// Halt ends when nothing may be started any more.
func (s *Supervisor) Halt() context.Context { return s.halt }

// Kill ends when units must be ended by force.
func (s *Supervisor) Kill() context.Context { return s.kill }

// Stop asks for the end of the pod; the reason is for people. It never blocks
// and may be called at any time, also before Run.
func (s *Supervisor) Stop(mode Mode, reason string) {
	select {
	case s.stops <- request{mode, reason, true}:
	default: // with so many waiting, the last word is among them
	}
}

// End asks for the end of the pod as if it came by itself: gracefully, with exit
// code 0. A Stop that follows hurries nothing, and one that came before stands.
func (s *Supervisor) End(reason string) {
	select {
	case s.stops <- request{Graceful, reason, false}:
	default: // it ends anyway
	}
}

// Run runs all units until Stop is called, ctx ends, an essential unit ends or
// none is left. It returns the exit code of the pod once all units are gone.
func (s *Supervisor) Run(ctx context.Context, cfg Config) int {
	r := newRun(s, cfg)
	defer close(r.over)
	select {
	case q := <-s.stops: // a signal during start-up: nothing is started
		return r.shutdown(q)
	default:
	}
	r.start(context.WithoutCancel(ctx))
	return r.shutdown(r.serve(ctx))
}

// run is the state of one call of Run, owned by its goroutine.
type run struct {
	*Supervisor
	cfg   Config
	ctx   context.Context // of all units
	units []*running
	index map[string]*running
	ends  chan end
	over  chan struct{} // nobody reads ends any more
	left  int           // units that are not gone
	ended int           // how many ends there were
	code  int           // of the pod, where a unit or a request decides it; -1: none has
	force bool          // was needed to stop a unit
	wg    sync.WaitGroup
}

type running struct {
	Unit
	stop  context.CancelCauseFunc // nil while it does not run
	users int                     // units that need this one and are not gone
	told  bool                    // to stop
	then  then                    // what becomes of it when it is gone
	unit  *Unit                   // to be run in its place

	doomed bool              // by a reload: to be told once no other doomed one needs it
	gone   func(name string) // says that it was removed

	held   bool // by an operator, who may start it again
	failed int  // its exit code, where it has failed for good
	nth    int  // of all ends
}

type end struct {
	unit *running
	err  error
}

func newRun(s *Supervisor, cfg Config) *run {
	return &run{
		Supervisor: s,
		cfg:        cfg,
		index:      make(map[string]*running, len(cfg.Units)),
		ends:       make(chan end, len(cfg.Units)),
		over:       make(chan struct{}),
		code:       -1,
	}
}

func (r *run) start(ctx context.Context) {
	r.ctx = ctx
	for _, unit := range r.cfg.Units {
		r.add(unit)
	}
	for _, u := range r.units {
		r.begin(u)
	}
}

// add makes a unit known.
func (r *run) add(unit Unit) *running {
	u := &running{Unit: unit}
	r.units = append(r.units, u)
	r.index[u.Name] = u
	return u
}

// begin runs a unit that does not run.
func (r *run) begin(u *running) {
	r.left++
	r.need(u, +1)
	u.told, u.held, u.failed, u.then, u.unit = false, false, 0, nothing, nil
	var ctx context.Context
	ctx, u.stop = context.WithCancelCause(r.ctx)
	exec := u.Run
	r.wg.Go(func() {
		e := end{u, exec(ctx)}
		select {
		case r.ends <- e:
		case <-r.over:
		}
	})
}

// serve returns the reason why the pod ends.
func (r *run) serve(ctx context.Context) request {
	for r.left > 0 || r.cfg.Linger || r.holds() {
		select {
		case q := <-r.stops:
			r.code = 0 // asked for, so what failed before is no failure of the pod
			return q
		case <-ctx.Done():
			r.code = 0
			return request{Graceful, context.Cause(ctx).Error(), true}
		case c := <-r.changes:
			c.done <- r.change(c.Change)
		case e := <-r.ends:
			if r.gone(e) {
				r.code = exitCode(e.err)
				return request{Graceful, e.unit.Name + " has ended and is essential", false}
			}
		}
	}
	r.code = r.firstFailure()
	return request{Graceful, "no process is left to run", false}
}

// holds says whether an operator has stopped a unit.
func (r *run) holds() bool {
	for _, u := range r.units {
		if u.held {
			return true
		}
	}
	return false
}

// firstFailure is the code of the unit that failed first, of those that have not
// been run again since; 0 where there is none.
func (r *run) firstFailure() int {
	code, first := 0, 0
	for _, u := range r.units {
		if u.failed != 0 && (first == 0 || u.nth < first) {
			code, first = u.failed, u.nth
		}
	}
	return code
}

// gone takes note that a unit is gone, and does with it what was asked for. It
// says whether that is the end of the pod.
func (r *run) gone(e end) (essential bool) {
	u := e.unit
	asked := u.told || u.then != nothing
	r.forget(e)
	if !asked && e.err != nil {
		u.failed = exitCode(e.err)
	}
	r.settle(u)
	r.releaseDoomed()
	return u.Essential && !asked
}

// forget takes note that a unit does not run any more.
func (r *run) forget(e end) {
	u := e.unit
	var said interface{ Killed() bool }
	r.force = r.force || errors.As(e.err, &said) && said.Killed()
	r.left--
	r.ended++
	u.nth = r.ended
	u.stop(nil)
	u.stop = nil
	r.need(u, -1)
}

// need adds n to the users of all that a unit needs.
func (r *run) need(u *running, n int) {
	for _, names := range u.Needs {
		for _, name := range names {
			if needed, ok := r.index[name]; ok {
				needed.users += n
			}
		}
	}
}

// shutdown stops all units and returns the exit code of the pod.
func (r *run) shutdown(q request) int {
	r.cancelHalt(ErrShutdown)
	r.force = false // what a restart took does not count
	d := newDeadline(q.mode, r.cfg.within())
	defer d.timer.Stop()
	drained := r.drain(q, time.Until(d.at))
	for asked := time.Now(); r.left > 0; {
		select {
		case e := <-r.ends:
			r.forget(e)
			if drained == nil {
				r.release(q.mode)
			}
		case c := <-r.changes:
			c.done <- ErrShutdown
		case <-drained:
			drained = nil
			r.release(q.mode)
		case again := <-r.stops:
			if !again.asked || again.echoes(q) && time.Since(asked) < echo {
				continue
			}
			q.mode = hurry(q, again)
			q.asked, asked = true, time.Now()
			if d.shorten(q.mode) {
				drained = nil
				r.release(q.mode)
			}
		case <-d.timer.C:
			if d.killed {
				return ExitKilled
			}
			r.killAll(d)
		}
	}
	r.wg.Wait()
	return r.exitCode(d.killed)
}

// drain takes the pod out of service. The first units are told to stop now, or
// once there is something to receive.
func (r *run) drain(q request, within time.Duration) <-chan time.Time {
	if r.cfg.OnDrain != nil {
		r.cfg.OnDrain(q.reason, max(0, within))
	}
	if r.cfg.DrainDelay > 0 && q.mode == Graceful {
		return time.After(r.cfg.DrainDelay)
	}
	r.release(q.mode)
	return nil
}

// exitCode returns the code of the pod, all of whose units are gone.
func (r *run) exitCode(killed bool) int {
	if killed && r.force && r.code <= 0 {
		return ExitKilled
	}
	return max(r.code, 0)
}

// killAll has all units end by force, which takes no longer than a moment.
func (r *run) killAll(d *deadline) {
	d.killed = true
	d.timer.Reset(unkillable)
	r.cancelKill(ErrKill)
	r.release(Now)
}

// echoes reports whether a request may be the one before it, heard twice.
func (q request) echoes(before request) bool { return before.asked && q.mode == before.mode }

// release tells every unit to stop that no other needs any more, or all when
// there is no time for order.
func (r *run) release(mode Mode) {
	for _, u := range r.units {
		if u.stop != nil && !u.told && (mode != Graceful || u.users == 0) {
			u.told = true
			u.stop(ErrShutdown)
		}
	}
}

// exitCode returns the exit code that an error stands for: 0 for nil, what the
// error itself says, else 1.
func exitCode(err error) int {
	var said interface{ ExitCode() int }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &said):
		return said.ExitCode()
	}
	return 1
}
