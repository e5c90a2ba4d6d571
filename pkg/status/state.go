// Package status holds what is known about every process, in one place.
//
// One goroutine per process writes; everyone else reads. Level and edge are
// separate outputs of that one writer:
//
//   - level: [Board.Load] returns the latest [Snapshot] and a channel that is
//     closed when it is out of date; [Board.Watch] does so for one process.
//   - edge: an [Observer] sees every transition, in order.
//
// A snapshot is immutable. It is stored as a persistent array of small chunks,
// so that publishing one transition among 1,000 processes copies about 64
// pointers, and whether the pod is ready is counted, not searched.
package status

import "time"

// Phase is where a process is in its life.
type Phase string

// The phases, in the order in which a healthy process meets them.
const (
	Waiting   Phase = "waiting"   // for its dependencies
	Standby   Phase = "standby"   // waiting for its lock: another pod runs it
	Starting  Phase = "starting"  // fork and exec
	Running   Phase = "running"   // alive, not ready
	Ready     Phase = "ready"     // alive, checks pass, hooks done
	Stopping  Phase = "stopping"  // told to end, not yet gone
	Backoff   Phase = "backoff"   // gone, will be started again
	Completed Phase = "completed" // ended with exit code 0, not to be started again
	Failed    Phase = "failed"    // ended otherwise, not to be started again
	Stopped   Phase = "stopped"   // ended because the pod or an operator said so
	Skipped   Phase = "skipped"   // configured, but not to be run
)

// Phases lists all phases.
func Phases() []Phase {
	return []Phase{Waiting, Standby, Starting, Running, Ready, Stopping, Backoff, Completed, Failed, Stopped, Skipped}
}

// Ready reports whether a process in this phase counts as ready.
func (p Phase) Ready() bool { return p == Ready || p == Completed }

// Counted reports whether a process in this phase has a say in whether the
// pod is ready and alive. One that waits for its lock, or is not to be run,
// has none, unless [State.StandbyUnready] says so.
func (p Phase) Counted() bool { return p != Standby && p != Skipped }

// Alive reports whether a process in this phase has a pid.
func (p Phase) Alive() bool { return p == Running || p == Ready || p == Stopping }

// Final reports whether a process in this phase starts no more by itself.
func (p Phase) Final() bool {
	return p == Completed || p == Failed || p == Stopped || p == Skipped
}

// State is what is known of one process. It is a value: copies never change.
type State struct {
	Name     string
	Phase    Phase
	PID      int       // 0 when it is not alive
	Restarts int       // how often it was started again
	Since    time.Time // of the phase
	Started  time.Time // of the current or last incarnation, zero before the first
	Ended    time.Time // of the last incarnation, zero before the first end
	Next     time.Time // when it is to be started again, in Backoff
	KillAt   time.Time // when it is killed, or was, in Stopping; zero once it is gone
	Cause    error     // of the last end, nil before the first and after exit code 0
	Reason   string    // the cause as one of a few words, for metrics
	ExitCode int       // of the last end, -1 before the first
	Detail   string    // what it waits for, in the phases in which it waits

	// UnreadySince is when the process was first started or last ready,
	// whichever is later; zero while it is ready or was never started.
	UnreadySince time.Time
	// StartupDeadline is how long it may stay un-ready before the pod counts
	// as dead; zero is forever.
	StartupDeadline time.Duration
	// StandbyUnready says that it keeps the pod from being ready while it waits
	// for its lock.
	StandbyUnready bool
}

// Dead reports whether the process makes the pod count as dead at now.
func (s State) Dead(now time.Time) bool {
	switch s.Phase {
	case Failed:
		return true
	case Ready, Completed, Stopped, Skipped, Standby:
		return false
	}
	return s.StartupDeadline > 0 && !s.UnreadySince.IsZero() && now.Sub(s.UnreadySince) > s.StartupDeadline
}

// Pod is what is known of all processes together. Its zero value is a pod in
// service.
type Pod struct {
	Draining  bool      // it is leaving service for good
	Preempted bool      // its node is about to be taken away
	Reason    string    // why, for people
	Deadline  time.Time // when it will be gone, zero where nobody said
}

// InService reports whether the pod may be sent traffic.
func (p Pod) InService() bool { return !p.Draining && !p.Preempted }

// Result is the verdict of one check.
type Result string

// The verdicts. An unknown one says that the checker failed, not the process;
// it changes nothing.
const (
	Pass    Result = "success"
	Fail    Result = "failure"
	Unknown Result = "unknown"
)

// Check is the last verdict of one probe of one process.
type Check struct {
	Process  string
	Probe    string // its name, unique in the process
	Result   Result
	Err      error // why it failed or is unknown; a warning where it passed
	Time     time.Time
	Duration time.Duration
	Failures int // in a row
}

// Observer sees every transition of every process, in order and before
// readers do. Both are equal in all but what changed. It must not block.
type Observer interface {
	Observe(old, new State)
}

// CheckObserver is an [Observer] that also sees the verdict of every check.
type CheckObserver interface {
	ObserveCheck(Check)
}
