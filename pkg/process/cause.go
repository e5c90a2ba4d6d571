package process

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Why an incarnation ends, other than by the exit of the command itself.
var (
	ErrStopped    = errors.New("stopped")
	ErrLock       = errors.New("lock")
	ErrHook       = errors.New("hook")
	ErrDependency = errors.New("dependency failed")

	errTimeout = errors.New("no answer in time")
	errGone    = errors.New("process is gone")
)

// ExitError says how a command ended, other than with exit code 0.
type ExitError struct {
	Code   int            // 128+n for a signal
	Signal syscall.Signal // 0 where it exited by itself
	Core   bool           // it left a core dump
	OOM    bool           // the kernel killed it for lack of memory
}

func (e *ExitError) Error() string {
	switch {
	case e.Signal == 0:
		return fmt.Sprintf("exited with code %d", e.Code)
	case e.OOM:
		return fmt.Sprintf("killed by signal %d (%s): out of memory (the container's memory limit)", int(e.Signal), e.Signal)
	case e.Core:
		return fmt.Sprintf("killed by signal %d (%s), core dumped", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("killed by signal %d (%s)", int(e.Signal), e.Signal)
}

// ExitCode returns the code as a shell would show it.
func (e *ExitError) ExitCode() int { return e.Code }

// Reason names the error in one word.
func (e *ExitError) Reason() string {
	switch {
	case e.OOM:
		return "oom"
	case e.Signal != 0:
		return "signal"
	}
	return "exit"
}

// CheckError says which check had a command replaced, and its last error.
type CheckError struct {
	Name string
	Err  error

	stopTimeout *time.Duration
}

func (e *CheckError) Error() string { return e.Name + ": " + e.Err.Error() }
func (e *CheckError) Unwrap() error { return e.Err }

// Reason names the error in one word.
func (e *CheckError) Reason() string { return "probe" }

// Failure is how a process ended that will not be started again.
type Failure struct {
	Name string
	Code int // of the process, 1 where it has none
	Err  error
}

func (e *Failure) Error() string { return fmt.Sprintf("%s: %v", e.Name, e.Err) }
func (e *Failure) Unwrap() error { return e.Err }

// ExitCode returns the code of the process.
func (e *Failure) ExitCode() int { return e.Code }

// killedError is the end of a process that did not end when it was told to.
type killedError struct{ error }

func (killedError) Killed() bool    { return true }
func (e killedError) Unwrap() error { return e.error }

type startError struct{ err error }

func (e *startError) Error() string  { return "start: " + e.err.Error() }
func (e *startError) Unwrap() error  { return e.err }
func (e *startError) Reason() string { return "start" }

type tooManyRestarts struct {
	limit Limit
	err   error
}

func (e *tooManyRestarts) Error() string {
	if e.limit.Within == 0 {
		return fmt.Sprintf("more than %d restarts; the last end: %v", e.limit.Count, text(e.err))
	}
	return fmt.Sprintf("more than %d restarts within %v; the last end: %v", e.limit.Count, e.limit.Within, text(e.err))
}
func (e *tooManyRestarts) Unwrap() error { return e.err }

// dependencyError is why a process is not started. It fails with the code of
// what it waits for: which of the two ends first is a race that nobody should
// see.
type dependencyError struct {
	name string
	code int
}

func (e *dependencyError) Error() string { return ErrDependency.Error() + ": " + e.name }
func (e *dependencyError) Unwrap() error { return ErrDependency }
func (e *dependencyError) ExitCode() int { return max(e.code, 1) }

func text(err error) string {
	if err == nil {
		return "exited with code 0"
	}
	return err.Error()
}

// Reason names the cause of an end in one of a few words, for metrics: what
// the error itself says, else completed, lock, hook, dependency or other.
func Reason(err error) string {
	var said interface{ Reason() string }
	switch {
	case err == nil:
		return "completed"
	case errors.As(err, &said):
		return said.Reason()
	case errors.Is(err, ErrLock):
		return "lock"
	case errors.Is(err, ErrHook):
		return "hook"
	case errors.Is(err, ErrDependency):
		return "dependency"
	}
	return "other"
}

// ExitCode returns the exit code that an error stands for: 0 for nil, what the
// error itself says, else 1.
func ExitCode(err error) int {
	var said interface{ ExitCode() int }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &said):
		return said.ExitCode()
	}
	return 1
}
