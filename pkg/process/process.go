// Package process runs one command for as long as its context lives, as
// Kubernetes runs a container: it starts it, checks it, starts it again when
// it ends, and stops it in time.
//
// One goroutine per process is the only writer of its state, and one call of
// once is one incarnation; the call stack is the state machine:
//
//	──▶ waiting ──dependencies──▶ standby ──lock──▶ starting ──exec──▶ running ◀─checks─▶ ready
//	      ▲                                            │                  │                 │
//	      │                                            │ error            ├── its own end ──┤
//	      │                                            │                  │                 │
//	      │                                            │                  └─ a reason to ───┤
//	      │                                            │                     replace it     ▼
//	      └──────────pause over────────── backoff ◀────┴────────────────────────────── stopping
//
// While the pod is preempted nothing is started, replaced or locked: what would
// be started waits for the pod to be left alone again.
//
// When the restart policy says no more, the process is completed (exit code 0)
// or failed. When ctx ends it is stopped. Everything that an incarnation
// starts lives under one context, whose cause is why it ended, and is joined
// before the next one begins: no timer and no check outlives the command that
// it was made for.
package process

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// Child is a started command.
type Child interface {
	PID() int
	// Exited is closed when the command itself has ended, whatever it left.
	Exited() <-chan struct{}
	// Exit is nil for exit code 0, else an [ExitError]; valid after Exited.
	Exit() error
	// Signal reaches the whole process group.
	Signal(syscall.Signal) error
	// Close ends what the command left behind and carries the rest of its
	// output. It is called after Exited, and hurries when ctx ends.
	Close(ctx context.Context) error
}

// Starter starts a command. Its errors may have a method Reason() string, one
// of a few words, and ExitCode() int, what a shell would say.
type Starter interface {
	// Start calls say when it waits for something that may take long, and with ""
	// when it does no more.
	Start(say func(detail string)) (Child, error)
}

// Guard is held for the whole life of a command and of all that it started, such
// as a lock. When it is lost they are killed at once.
type Guard interface {
	// Acquire waits until it is held, and calls say when it learns why it is not.
	Acquire(ctx context.Context, say func(detail string)) error
	Hold(ctx context.Context) error // returns why it was lost, or nil when ctx ends
	Release()
}

// A Watcher looks at a running command until ctx ends or it finds a reason to
// replace the command, which it returns.
type Watcher func(ctx context.Context, pid int) error

// A Hook is run at one moment in the life of a command. It honours ctx.
type Hook func(ctx context.Context) error

// Check asks a probe again and again, and says what its verdicts mean. The
// counts are of verdicts in a row.
type Check struct {
	Name    string // unique in the process
	Probe   probe.Probe
	Delay   time.Duration // from the start of the command to the first check
	Period  time.Duration // from the start of a check to that of the next
	Timeout time.Duration // of one check, 0: none

	Startup      bool // holds other checks back until it passes, and is then over
	Gate         bool // the process is ready only while this passes
	ReadyAfter   int  // passes until the gate opens, 0 is 1
	UnreadyAfter int  // failures until it closes, 0 is 1
	RestartAfter int  // failures until the command is replaced, 0: never

	// StopTimeout, where set, is how long a command has to end that this
	// check replaces.
	StopTimeout *time.Duration
}

// RestartPolicy says after which ends a command is started again.
type RestartPolicy int

// The restart policies, as in Kubernetes.
const (
	Always RestartPolicy = iota
	OnFailure
	Never
)

// Condition is what a dependency must have reached.
type Condition int

// The conditions of a dependency.
const (
	IsReady     Condition = iota // ready, or completed
	IsStarted                    // running, ready or not, or completed
	IsCompleted                  // ended with exit code 0, for good
)

// Dependency are processes that must have got somewhere before this one starts.
type Dependency struct {
	Names     []string
	Condition Condition
}

// Config is a process with its collaborators. Only Name and Starter are needed.
type Config struct {
	Name      string
	Starter   Starter
	DependsOn []Dependency
	Guard     Guard
	// StandbyUnready says that waiting for Guard keeps the pod from being ready.
	StandbyUnready bool
	Checks         []Check
	Watch          []Watcher

	PostStart Hook // right after the start; checks wait for it
	OnReady   Hook // after all gates have opened for the first time
	PreStop   Hook // before the stop signal, within the stop timeout

	Restart     RestartPolicy
	Backoff     Backoff
	MaxRestarts Limit // more than these fail the process

	StopSignal  syscall.Signal // 0 is SIGTERM
	StopTimeout time.Duration  // from then to SIGKILL, 0: at once

	// Settle is how long a command without checks must run before it counts
	// as ready, so that one that ends at once never does.
	Settle time.Duration
	// StartupDeadline is how long it may stay un-ready before the pod counts
	// as dead, 0 is forever.
	StartupDeadline time.Duration

	Halt context.Context // when it ends nothing is started any more
	Kill context.Context // when it ends commands are killed rather than stopped

	// Close, where set, ends what checks and hooks keep. It is called when Run
	// returns, after which they may be used again, and when [Process.Update] has
	// put another config in the place of this one.
	Close func()
}

// Process is one supervised command.
type Process struct {
	cfg   Config // Run is its only writer
	board *status.Board
	state status.State // Run is its only writer
	pace  pace

	before  *Process               // whose state Run goes on from
	next    atomic.Pointer[Config] // to be put in the place of cfg
	updated chan struct{}          // says that there may be a next

	killed bool // the last command needed SIGKILL to stop
}

// New returns a process that publishes its state to board.
func New(cfg Config, board *status.Board) *Process {
	p := &Process{
		board:   board,
		state:   status.State{Name: cfg.Name, Phase: status.Waiting, ExitCode: -1},
		updated: make(chan struct{}, 1),
	}
	p.configure(cfg)
	return p
}

// After says that p takes the place of another process, whose Run has returned
// before p's is called: its restarts count on.
func (p *Process) After(other *Process) { p.before = other }

func (p *Process) configure(cfg Config) {
	if cfg.StopSignal == 0 {
		cfg.StopSignal = syscall.SIGTERM
	}
	if cfg.Halt == nil {
		cfg.Halt = context.Background()
	}
	if cfg.Kill == nil {
		cfg.Kill = context.Background()
	}
	p.cfg = cfg
	p.pace.backoff, p.pace.limit = cfg.Backoff, cfg.MaxRestarts
	p.state.StartupDeadline, p.state.StandbyUnready = cfg.StartupDeadline, cfg.StandbyUnready
}

// Update puts another config in the place of the present one, soon, and without
// a restart: a command that runs goes on, is checked by the new checks from now
// on, and stays ready until they say otherwise. Name and Guard must be the same,
// and Starter must start the same command. It may be called at any time.
func (p *Process) Update(cfg Config) {
	if old := p.next.Swap(&cfg); old != nil && old.Close != nil {
		old.Close() // it was never used
	}
	select {
	case p.updated <- struct{}{}:
	default: // Run has not seen the last one yet
	}
}

// refresh takes over the config of the last Update, if there is one.
func (p *Process) refresh() {
	next := p.next.Swap(nil)
	if next == nil {
		return
	}
	over := p.cfg.Close
	p.configure(*next)
	if over != nil {
		over()
	}
}

// State returns what the board should know of the process before Run is called.
func (p *Process) State() status.State {
	st := p.state
	st.Since = time.Now()
	return st
}

// Run keeps the command running until ctx ends, then stops it. It returns when
// the command and everything started for it are gone: nil when it completed,
// a [*Failure] when it failed for good, [ErrStopped] when ctx ended it, wrapped
// in an error with a method Killed() bool where that took SIGKILL. It may be
// called again after that, and then begins with a clean slate.
func (p *Process) Run(ctx context.Context) error {
	if p.before != nil {
		p.state, p.before = p.before.state, nil
		p.state.StartupDeadline, p.state.StandbyUnready = p.cfg.StartupDeadline, p.cfg.StandbyUnready
	}
	p.killed = false
	p.pace.begin()
	p.state.UnreadySince = time.Time{}
	defer func() {
		if p.cfg.Close != nil {
			p.cfg.Close()
		}
	}()
	for {
		p.refresh()
		next := p.once(ctx)
		switch next.phase {
		case status.Completed:
			return nil
		case status.Failed:
			return p.failure()
		case status.Stopped:
			if p.killed {
				return killedError{ErrStopped}
			}
			return ErrStopped
		}
		if err := p.pause(ctx, next.at); err != nil {
			p.to(status.Stopped, "")
			return ErrStopped
		}
	}
}

// failure is how the process failed for good.
func (p *Process) failure() *Failure {
	code := p.state.ExitCode
	if errors.Is(p.state.Cause, ErrDependency) {
		code = ExitCode(p.state.Cause)
	}
	return &Failure{Name: p.cfg.Name, Code: max(code, 1), Err: p.state.Cause}
}

// pause waits for the time of the next start, or returns early with the reason
// why there will be none.
func (p *Process) pause(ctx context.Context, until time.Time) error {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return nil
		case <-p.updated:
			p.refresh()
		case <-p.cfg.Halt.Done():
			return context.Cause(p.cfg.Halt)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// verdict is what becomes of the process after an incarnation.
type verdict struct {
	phase status.Phase
	at    time.Time // of the next start
}

// decide applies the restart policy to the end of an incarnation that ran for
// some time.
func (p *Process) decide(ctx context.Context, err error, ran time.Duration) verdict {
	now := time.Now()
	p.state.Ended = now
	p.state.PID, p.state.KillAt = 0, time.Time{}
	p.state.Cause = err
	p.state.Reason = Reason(err)
	switch {
	case ctx.Err() != nil || p.cfg.Halt.Err() != nil:
		return verdict{phase: status.Stopped}
	case errors.Is(err, ErrDependency):
		return verdict{phase: status.Failed}
	case err == nil && p.cfg.Restart != Always:
		return verdict{phase: status.Completed}
	case err != nil && p.cfg.Restart == Never:
		return verdict{phase: status.Failed}
	}
	wait, ok := p.pace.next(now, ran)
	if !ok {
		p.state.Cause = &tooManyRestarts{p.cfg.MaxRestarts, err}
		return verdict{phase: status.Failed}
	}
	p.state.Next = now.Add(wait)
	return verdict{phase: status.Backoff, at: p.state.Next}
}

// stopping publishes that the command has until a time to end.
func (p *Process) stopping(detail string, killAt time.Time) {
	same := p.state.Phase == status.Stopping && p.state.Detail == detail
	p.state.KillAt = killAt
	p.to(status.Stopping, detail)
	if same {
		p.board.Put(p.state)
	}
}

// to publishes that the process is in a phase.
func (p *Process) to(phase status.Phase, detail string) {
	if p.state.Phase == phase && p.state.Detail == detail {
		return
	}
	now := time.Now()
	if p.state.Phase != phase || p.state.Since.IsZero() {
		p.state.Since = now
	}
	switch {
	case phase == status.Standby || phase.Ready():
		p.state.UnreadySince = time.Time{}
	case p.state.Phase.Ready(), phase == status.Starting && p.state.UnreadySince.IsZero():
		p.state.UnreadySince = now
	}
	if phase != status.Backoff {
		p.state.Next = time.Time{}
	}
	if phase == status.Starting && p.state.Phase != status.Starting {
		if !p.state.Started.IsZero() {
			p.state.Restarts++
		}
		p.state.Started = now
	}
	p.state.Phase, p.state.Detail = phase, detail
	p.board.Put(p.state)
}
