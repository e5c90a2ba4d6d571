package command

import (
	"errors"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a fork may take before the next one goes beside it.
const patience = time.Second

// A gate lets one through at a time, so that forks do not take a thread each.
// One that has not come out after patience is passed by, once for all who wait.
type gate struct {
	queue sync.Mutex    // held by who is next; guards the rest
	out   chan struct{} // closed when who went in last came out
	since time.Time     // when that one went in
}

// enter waits for its turn and returns the function that ends it.
func (g *gate) enter() (leave func()) {
	g.queue.Lock()
	defer g.queue.Unlock()
	if g.out != nil {
		g.await()
	}
	out := make(chan struct{})
	g.out, g.since = out, time.Now()
	return func() { close(out) }
}

func (g *gate) await() {
	select {
	case <-g.out:
		return
	default:
	}
	late := time.NewTimer(time.Until(g.since.Add(patience)))
	defer late.Stop()
	select {
	case <-g.out:
	case <-late.C:
	}
}

// fork starts the process and makes c its owner.
//
// Nothing that others need is held meanwhile: exec may hang. So the wait loop may
// collect the process before it is known whose it is. While a fork is under way
// the loop keeps each status without an owner, in early, and claim looks there.
func (r *Reaper) fork(c *Child, path string, argv []string, attr *syscall.ProcAttr, keep bool) error {
	defer r.gate.enter()()
	k, err := r.takeOff(keep)
	if err != nil {
		return err
	}
	pidfd := -1
	attr.Sys.PidFD = &pidfd
	fork := func() { c.pid, err = r.forkExec(path, argv, attr) }
	if k == nil {
		fork()
	} else {
		err = ErrEnded
		k.do(fork)
	}
	if err != nil {
		r.land(nil, -1, k)
		return err
	}
	if !r.land(c, pidfd, k) { // Run has returned: nobody would know of it
		_ = syscall.Kill(c.pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(c.pid, nil, 0, nil)
		err = ErrEnded
	}
	if pidfd >= 0 {
		unix.Close(pidfd)
	}
	return err
}

// takeOff notes that a fork is under way, and chooses its thread where that must
// be kept.
func (r *Reaper) takeOff(keep bool) (k *keeper, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return nil, ErrEnded
	}
	if keep {
		k = r.keeper()
	}
	r.flying++
	return k, nil
}

// land notes the outcome of a fork: c is nil if it failed. It says whether c owns
// its process.
func (r *Reaper) land(c *Child, pidfd int, k *keeper) (owned bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k != nil {
		k.busy = false
	}
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

// A keeper is a thread that lives until Run returns.
type keeper struct {
	work chan func()
	gone chan struct{}
	busy bool // with a fork; guarded by the reaper's mu
}

// keeper returns one that has nothing to do; mu is held. There is one, unless its
// fork hangs and was passed by.
func (r *Reaper) keeper() *keeper {
	for _, k := range r.keepers {
		if !k.busy {
			k.busy = true
			return k
		}
	}
	k := &keeper{work: make(chan func()), gone: make(chan struct{}), busy: true}
	r.keepers = append(r.keepers, k)
	r.keeping.Go(func() {
		defer close(k.gone)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for {
			select {
			case f := <-k.work:
				f()
			case <-r.over:
				return
			}
		}
	})
	return k
}

// do runs f on the thread, or not at all if that has ended.
func (k *keeper) do(f func()) {
	done := make(chan struct{})
	select {
	case k.work <- func() { f(); close(done) }:
		<-done
	case <-k.gone:
	}
}
