package command

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// A Child is one started process. Its methods may be called at any time from any
// goroutine.
type Child struct {
	r     *Reaper
	name  string
	pid   int
	seq   uint64 // of the cookie
	group bool   // leads a process group
	// guarded says that a guardian knows of it.
	guarded bool
	killed  bool // by us; guarded by the reaper's mu
	exited  chan struct{}
	status  Status // written before exited is closed
}

// PID is the process id of its main process, also after the exit.
func (c *Child) PID() int { return c.pid }

// Exited is closed as soon as its main process is dead and collected.
func (c *Child) Exited() <-chan struct{} { return c.exited }

// Status is how it ended. Before Exited is closed it is the zero value.
func (c *Child) Status() Status {
	select {
	case <-c.exited:
		return c.status
	default:
		return Status{}
	}
}

// end makes known how it ended.
func (c *Child) end(status Status) {
	c.status = status
	close(c.exited)
}

// Signal sends sig to its whole process group, or to its main process if it has
// no group of its own. After the exit it returns [os.ErrProcessDone]: what is left
// of the group is Sweep's.
func (c *Child) Signal(sig syscall.Signal) error {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if c.r.children[c.pid] != c {
		return os.ErrProcessDone
	}
	// It is not yet collected, so neither its number nor its group's can be another's.
	var err error
	if c.group {
		err = syscall.Kill(-c.pid, sig)
	}
	if now, e := syscall.Getpgid(c.pid); !c.group || e == nil && now != c.pid { // it may have left its group
		err = syscall.Kill(c.pid, sig)
	}
	if err != nil {
		return fmt.Errorf("send %v to process %d: %w", sig, c.pid, err)
	}
	c.killed = c.killed || sig == syscall.SIGKILL
	return nil
}

// Killed says whether we sent it SIGKILL.
func (c *Child) Killed() bool {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	return c.killed
}

// Sweep ends, after the exit, what the process left behind: members of its group
// and descendants that left it get SIGTERM at once and SIGKILL after grace, at
// most 2 s, or at once when ctx ends. It returns when none is left, with how many
// it signalled, or with an error that says which ones would not die. Where it
// cannot see what is there, it ends the group alone, and the error says so.
func (c *Child) Sweep(ctx context.Context, grace time.Duration) (int, error) {
	c.r.mu.Lock()
	if c.r.children[c.pid] == c {
		c.r.mu.Unlock()
		return 0, fmt.Errorf("sweep %s: process %d still runs", c.name, c.pid)
	}
	c.r.sweeping[c]++
	c.r.mu.Unlock()
	defer func() {
		c.r.mu.Lock()
		defer c.r.mu.Unlock()
		if c.r.sweeping[c]--; c.r.sweeping[c] == 0 {
			delete(c.r.sweeping, c)
		}
	}()

	n, err := c.r.clear(ctx, min(grace, maxGrace), killWait, c.quarry())
	if err != nil {
		return n, fmt.Errorf("sweep %s: %w", c.name, err)
	}
	return n, nil
}
