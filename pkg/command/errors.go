package command

import "errors"

// ErrEnded is returned by Start after Run returned.
var ErrEnded = errors.New("the reaper has ended")

// Reasons of a [StartError]: a small closed set, fit for a metric's label.
const (
	ReasonNotFound   = "not_found"  // no such program, interpreter or loader
	ReasonPermission = "permission" // not executable, or not by this user
	ReasonFormat     = "format"     // not a program for this machine
	ReasonDir        = "dir"        // working directory or chroot
	ReasonUser       = "user"       // unknown, or not ours to become
	ReasonAttribute  = "attribute"  // limit, capability, priority …
	ReasonResources  = "resources"  // out of pids, memory, descriptors
	ReasonOther      = "other"
)

// A StartError says why a process could not be started.
type StartError struct {
	Step   string // what was done: "exec", "change directory", "set rlimit nofile=8:8"
	Path   string // of the file concerned; may be empty
	Reason string // one of the Reason constants
	Err    error
}

func (e *StartError) Error() string {
	if e.Path == "" {
		return e.Step + ": " + e.Err.Error()
	}
	return e.Step + " " + e.Path + ": " + e.Err.Error()
}

// Unwrap returns the cause, often a [syscall.Errno].
func (e *StartError) Unwrap() error { return e.Err }
