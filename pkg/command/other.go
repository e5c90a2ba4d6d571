//go:build !linux

package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// This file lets programs that start processes build and be tried elsewhere. It
// ignores what only Linux has: attributes but groups and sessions, orphans.

// Init does nothing outside Linux.
func Init() {}

// A Reaper starts processes and waits for them.
type Reaper struct {
	waiting  sync.WaitGroup
	mu       sync.Mutex // guards children
	children map[*Child]bool
}

// NewReaper returns a reaper.
func NewReaper() *Reaper { return &Reaper{children: make(map[*Child]bool)} }

// Impaired returns nil.
func (r *Reaper) Impaired() error { return nil }

// Run waits for ctx.
func (r *Reaper) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// A Child is one started process.
type Child struct {
	r      *Reaper
	name   string
	pid    int
	killed bool // guarded by the reaper's mu
	exited chan struct{}
	status Status
}

// Start starts a process.
func (r *Reaper) Start(cmd *Command) (*Child, error) {
	if err := cmd.check(); err != nil {
		return nil, err
	}
	run := exec.Command(cmd.Path, cmd.Args...)
	run.Env, run.Dir = withCookie(cmd.Env, cookie("elsewhere", 1, cmd.Name)), cmd.Dir
	if cmd.Stdout != nil { // a nil *os.File in the interface would not be nil
		run.Stdout = cmd.Stdout
	}
	if cmd.Stderr != nil {
		run.Stderr = cmd.Stderr
	}
	run.SysProcAttr = &syscall.SysProcAttr{Setsid: cmd.Attr.Setsid, Setpgid: !cmd.Attr.Setsid}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := run.Start(); err != nil {
		return nil, &StartError{Step: "exec", Path: cmd.Path, Reason: ReasonOther, Err: err}
	}
	c := &Child{r: r, name: cmd.Name, pid: run.Process.Pid, exited: make(chan struct{})}
	r.children[c] = true
	r.waiting.Go(func() {
		_ = run.Wait() // the status says it
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.children, c)
		c.status.wait, _ = run.ProcessState.Sys().(syscall.WaitStatus)
		c.status.cpu = run.ProcessState.UserTime() + run.ProcessState.SystemTime()
		close(c.exited)
	})
	return c, nil
}

// Dismiss does nothing outside Linux.
func (r *Reaper) Dismiss() {}

// Extend does nothing outside Linux.
func (c *Child) Extend(time.Duration) {}

// Unguard does nothing outside Linux.
func (c *Child) Unguard() {}

// KillRest kills every process that was started and waits for it.
func (r *Reaper) KillRest(context.Context, time.Duration) (int, error) {
	r.mu.Lock()
	rest := slices.Collect(maps.Keys(r.children))
	r.mu.Unlock()
	for _, c := range rest {
		_ = c.Signal(syscall.SIGKILL)
	}
	r.waiting.Wait()
	return len(rest), nil
}

// PID is the process id of its main process.
func (c *Child) PID() int { return c.pid }

// Exited is closed when its main process is dead.
func (c *Child) Exited() <-chan struct{} { return c.exited }

// Status is how it ended.
func (c *Child) Status() Status {
	select {
	case <-c.exited:
		return c.status
	default:
		return Status{}
	}
}

// Signal sends sig to its process group.
func (c *Child) Signal(sig syscall.Signal) error {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if !c.r.children[c] {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(-c.pid, sig); err != nil {
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

// Sweep kills what is left of its group.
func (c *Child) Sweep(context.Context, time.Duration) (int, error) {
	if err := syscall.Kill(-c.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, syscall.EPERM) {
		return 0, fmt.Errorf("sweep %s: %w", c.name, err)
	}
	return 0, nil
}
