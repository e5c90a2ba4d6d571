package wrapper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/api"
	"github.com/process-wrapper/process-wrapper/pkg/command"
	"github.com/process-wrapper/process-wrapper/pkg/output"
	"github.com/process-wrapper/process-wrapper/pkg/process"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
	"github.com/process-wrapper/process-wrapper/pkg/telemetry"
)

const (
	// sweepGrace is what processes get to end that a command left behind.
	sweepGrace = 2 * time.Second
	// drainTimeout is how long to wait for the end of the output of a command
	// of which nothing that we know of is left.
	drainTimeout = time.Second
)

// starter starts the command of one process, and what is run beside it in the
// same environment: probes and hooks. It satisfies process.Starter.
type starter struct {
	p       *spec.Process
	reaper  *command.Reaper
	streams [2]stream // stdout and stderr
	attr    command.Attr
	environ []string // the wrapper's
	ended   func(name string, pid int, cpu time.Duration)
	oom     *telemetry.OOM
	beats   *api.Heartbeats
	queue   *queue  // of all starts
	starts  *starts // nil: nobody asks
	lock    *lock   // nil: none

	keepEnv bool                     // probes or hooks need it
	env     atomic.Pointer[[]string] // of the present incarnation
	child   atomic.Pointer[child]    // the latest one
}

// stream is where one stream of all incarnations goes.
type stream struct {
	pump *output.Pump
	cfg  output.StreamConfig
}

// Start starts the command with new pipes.
func (s *starter) Start(say func(string)) (process.Child, error) {
	leave, err := s.queue.enter()
	if err != nil {
		return nil, &startError{err}
	}
	defer leave()
	env, err := s.newEnv(say)
	if err != nil {
		return nil, &startError{err}
	}
	if s.keepEnv {
		s.env.Store(&env)
	}
	argv := s.p.Exec.Argv(env)
	cmd := s.command(argv, env)
	var c child
	for i := range s.streams {
		if c.streams[i], err = s.streams[i].pump.Open(s.streams[i].cfg); err != nil {
			c.abandon()
			return nil, &startError{err}
		}
	}
	if s.lock != nil {
		cmd.Deadline = s.lock.Last()
	}
	cmd.Stdout, cmd.Stderr = c.streams[0].File(), c.streams[1].File()
	s.beats.Forget(s.p.Name) // those that came are of the incarnation before
	kills := s.oom.Kills()
	c.exit = sync.OnceValue(func() error { return s.exit(c.Child, kills) })
	if c.Child, err = s.reaper.Start(cmd); err != nil {
		c.abandon()
		return nil, &startError{veil(err, &s.p.Exec, argv)}
	}
	if s.starts != nil {
		s.starts.note(time.Now())
	}
	if s.lock != nil {
		s.lock.Follow(c.Extend)
	}
	s.child.Store(&c)
	for _, st := range c.streams {
		if err := st.Attach(c.PID()); err != nil { // the pump has ended, as the pod does
			c.lost = errors.Join(c.lost, err)
		}
	}
	return &c, nil
}

// newEnv is the environment of a new incarnation. Its files may hang with their
// file system, of which people should know.
func (s *starter) newEnv(say func(string)) ([]string, error) {
	if files := s.p.Env.Paths(); len(files) > 0 {
		say("reading " + strings.Join(files, ", "))
		defer say("")
	}
	env, err := s.p.Environ(s.environ, nil)
	if err == nil && s.lock != nil {
		env = spec.AddEnv(env, s.lock.environ())
	}
	return env, err
}

// exit tells what the command used, and returns how it ended. The kernel had
// killed so many for lack of memory before it was started.
func (s *starter) exit(c *command.Child, kills uint64) error {
	st := c.Status()
	s.ended(s.p.Name, c.PID(), st.CPU())
	if st.Success() {
		return nil
	}
	return &process.ExitError{
		Code: st.Code(), Signal: st.Signal(), Core: st.CoreDumped(),
		OOM: st.Signal() == syscall.SIGKILL && !c.Killed() && s.oom.Killed(kills),
	}
}

func (s *starter) command(argv, env []string) *command.Command {
	return &command.Command{Name: s.p.Name, Path: argv[0], Args: argv[1:], Env: env, Dir: s.p.Dir, Attr: s.attr}
}

// lookup finds a variable in the environment of the present incarnation, else
// in the wrapper's.
func (s *starter) lookup(name string) (string, bool) {
	if env := s.env.Load(); env != nil {
		if v, ok := lookupEnv(*env, name); ok {
			return v, true
		}
	}
	return lookupEnv(s.environ, name)
}

// environment is that of the present incarnation, else the wrapper's.
func (s *starter) environment() []string {
	if env := s.env.Load(); env != nil {
		return *env
	}
	return s.environ
}

// outputTail is how much of the output of a probe or hook is kept.
const outputTail = 1024

// run runs a command of a probe or hook to its end, as the process itself
// would be run. Its environment is the process's with that of the command.
func (s *starter) run(ctx context.Context, e *spec.Exec, more []spec.EnvVar) (int, []byte, error) {
	env := spec.AddEnv(spec.AddEnv(s.environment(), more), e.Envs)
	argv := e.Argv(env)
	res, err := s.reaper.Output(ctx, s.command(argv, env), outputTail)
	return res.Status.Code(), res.Output, veil(err, e, argv)
}

// veil names the program of an error as the config does: what its $(NAME) stand
// for may be a secret.
func veil(err error, e *spec.Exec, argv []string) error {
	var start *command.StartError
	if !errors.As(err, &start) || argv[0] == e.Command[0] {
		return err
	}
	veiled := *start
	veiled.Path = strings.ReplaceAll(start.Path, argv[0], e.Command[0])
	return &veiled
}

func lookupEnv(env []string, name string) (string, bool) {
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

// startError is why a command could not be started.
type startError struct{ err error }

func (e *startError) Error() string { return e.err.Error() }
func (e *startError) Unwrap() error { return e.err }

// ExitCode is what a shell would say.
func (e *startError) ExitCode() int {
	var start *command.StartError
	if errors.As(e.err, &start) {
		switch start.Reason {
		case command.ReasonNotFound:
			return 127
		case command.ReasonPermission, command.ReasonFormat:
			return 126
		}
	}
	return 1
}

// child is a running command with its output. It satisfies process.Child.
type child struct {
	*command.Child
	streams [2]*output.Stream
	lost    error
	exit    func() error // the same each time
}

func (c *child) abandon() {
	for _, st := range c.streams {
		if st != nil {
			st.Close()
		}
	}
}

// Exit says how the command ended.
func (c *child) Exit() error { return c.exit() }

// Close ends what the command left behind, then carries its last words, as far as
// they are taken before ctx ends.
func (c *child) Close(ctx context.Context) error {
	_, err := c.Sweep(ctx, sweepGrace)
	c.Unguard()
	drain, cancel := context.WithTimeoutCause(ctx, drainTimeout, errHeld)
	defer cancel()
	var drained [2]error
	var wg sync.WaitGroup
	for i, st := range c.streams {
		wg.Go(func() { drained[i] = st.Drain(drain) })
	}
	wg.Wait()
	if c.lost == nil {
		err = errors.Join(err, drained[0], drained[1])
	}
	if err != nil {
		return fmt.Errorf("clean up after %d: %w", c.PID(), err)
	}
	return nil
}

var errHeld = errors.New("another process holds it")
