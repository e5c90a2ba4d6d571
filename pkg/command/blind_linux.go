package command

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	errGone   = errors.New("no such process")
	errHidden = errors.New("/proc hides members of its group (hidepid)")
	errNoProc = errors.New("/proc is not mounted")
)

// Impaired returns what is missing here for all that the package promises, nil if
// nothing is. It may be called at any time.
func (r *Reaper) Impaired() error {
	err := r.setup()
	if r.blind != nil {
		err = errors.Join(err, fmt.Errorf("what leaves its process group cannot be found, limits of memory not be watched: %w", r.blind))
	}
	return err
}

// lookForProc returns why /proc does not show us our processes, nil if it does.
func lookForProc() error {
	self, err := os.Readlink("/proc/self")
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errNoProc
	case err != nil:
		return fmt.Errorf("look at /proc: %w", err)
	case self != strconv.Itoa(os.Getpid()):
		return errors.New("/proc is that of another pid namespace: mount one of its own")
	}
	return nil
}

// lacking says whether an error is for want of something that may come again.
func lacking(err error) bool { return reasonOf(err) == ReasonResources }

// A quarry is what clear is after.
type quarry struct {
	// find returns what is there, or why that cannot be seen.
	find func() ([]proc, error)
	// strike signals what it can unseen. It says whether it did, and whether there
	// is anything; signal 0 only asks.
	strike func(sig syscall.Signal) (sent, some bool)
}

// grope is a step of clear without eyes. It says whether it is over.
func (b *broom) grope(q quarry, why error) (over bool) {
	b.blind = why
	sig := b.sig
	if b.struck == sig {
		sig = 0
	}
	sent, some := q.strike(sig)
	if sent && sig != 0 {
		b.struck, b.pause = sig, minLook
	}
	// What is lacking may come again, but not for ever.
	return !some && (!lacking(why) || b.sig == syscall.SIGKILL)
}

// blinded is the error of a clear that saw nothing at the end.
func (b *broom) blinded() error {
	return fmt.Errorf("only its process group was ended: %w", b.blind)
}

// strike signals the child's group unseen. Its number cannot be another's that
// we started: this one's would be in the table.
func (c *Child) strike(sig syscall.Signal) (sent, some bool) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	switch {
	case !c.group || c.r.children[c.pid] != nil:
		return true, false
	case c.r.flying > 0: // the next look comes soon
		return false, true
	}
	return true, !errors.Is(unix.Kill(-c.pid, sig), unix.ESRCH)
}

// strike signals unseen what is below us: as PID 1 all that there is in our pid
// namespace, which ends with us, else the groups of our children.
func (r *Reaper) strike(sig syscall.Signal) (sent, some bool) {
	if os.Getpid() == 1 {
		return true, !errors.Is(unix.Kill(-1, sig), unix.ESRCH)
	}
	r.mu.Lock()
	children := make([]*Child, 0, len(r.children))
	for _, c := range r.children {
		children = append(children, c)
	}
	r.mu.Unlock()
	for _, c := range children {
		_ = c.Signal(sig) // an error means that it is gone, or not ours to end
	}
	return true, len(children) > 0
}
