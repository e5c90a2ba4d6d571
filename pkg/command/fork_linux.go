package command

import (
	"cmp"
	"errors"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// fork starts the process, with these descriptors from 0 on, the first of which is
// /dev/null, and makes c its owner.
//
// Nothing that others need is held meanwhile: exec may hang. So the wait loop may
// collect the process before it is known whose it is. While a fork is under way
// the loop keeps each status without an owner, in early, and claim looks there.
func (r *Reaper) fork(c *Child, path string, argv []string, attr *syscall.ProcAttr, files []int) (err error) {
	null := files[0]
	send := slices.DeleteFunc(slices.Clone(files), func(fd int) bool { return fd == null })
	flown := r.forkers.fly(send, func(got []int, e error) {
		if err = e; err != nil {
			return
		}
		for _, fd := range files {
			if fd != null {
				fd, got = got[0], got[1:]
			}
			attr.Files = append(attr.Files, uintptr(fd))
		}
		err = r.forkHere(c, path, argv, attr)
	})
	if err = cmp.Or(flown, err); err == nil && c.guarded {
		r.born(c)
	}
	return err
}

// forkHere forks on this thread.
func (r *Reaper) forkHere(c *Child, path string, argv []string, attr *syscall.ProcAttr) error {
	if !r.takeOff() {
		return ErrEnded
	}
	pidfd := -1
	attr.Sys.PidFD = &pidfd
	var err error
	if c.pid, err = r.forkExec(path, argv, attr); err != nil {
		r.land(nil, -1)
		return err
	}
	if !r.land(c, pidfd) { // Run has returned: nobody would know of it
		_ = syscall.Kill(c.pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(c.pid, nil, 0, nil)
		err = ErrEnded
	}
	if pidfd >= 0 {
		unix.Close(pidfd)
	}
	return err
}

// takeOff notes that a fork is under way. It fails after Run returned.
func (r *Reaper) takeOff() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	r.flying++
	return true
}

// land notes the outcome of a fork: c is nil if it failed. It says whether c owns
// its process.
func (r *Reaper) land(c *Child, pidfd int) (owned bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c != nil {
		owned = r.claim(c, pidfd)
	}
	if r.flying--; r.flying == 0 {
		clear(r.early)
	}
	return owned
}

// claim makes c the owner of the process that was forked for it; mu is held. It
// fails after Run returned.
//
// A status in early may be of an earlier process with this pid: an orphan that
// was collected after the fork was under way and before the kernel chose the pid.
// And the pid may be in use again after our process was collected. The pidfd,
// which was made with the process, tells: as long as ours is there to be waited
// for, the status is not its own, and nobody else can have the pid.
func (r *Reaper) claim(c *Child, pidfd int) bool {
	if status, ok := r.early[c.pid]; ok && collected(c.pid, pidfd) {
		delete(r.early, c.pid)
		c.end(status)
		return true
	}
	delete(r.adopted, c.pid) // a look may have taken it for an orphan
	if r.ended {
		return false
	}
	r.children[c.pid] = c
	return true
}

// collected says whether a process that was our child is none any more. Where the
// kernel has no pidfds (before Linux 5.4) it goes by the pid, which is as good
// unless all pids were used once within the time of this fork.
func collected(pid, pidfd int) bool {
	const peek = unix.WEXITED | unix.WNOHANG | unix.WNOWAIT
	err := error(unix.EINVAL)
	if pidfd >= 0 {
		err = unix.Waitid(unix.P_PIDFD, pidfd, nil, peek, nil)
	}
	if errors.Is(err, unix.EINVAL) {
		err = unix.Waitid(unix.P_PID, pid, nil, peek, nil)
	}
	return errors.Is(err, unix.ECHILD)
}
