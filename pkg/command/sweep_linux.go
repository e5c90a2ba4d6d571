package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxGrace = 2 * time.Second       // of Sweep, from TERM to KILL
	killWait = 5 * time.Second       // for the dead to be gone after KILL
	restWait = time.Second           // the same, at the end of the pod
	minLook  = time.Millisecond      // between two looks, growing …
	maxLook  = 50 * time.Millisecond // … to this
)

// quarry is what is alive of an exited child.
func (c *Child) quarry() quarry { return quarry{c.survivors, c.strike} }

func (c *Child) survivors() ([]proc, error) {
	if c.r.blind != nil {
		return nil, c.r.blind
	}
	a := c.r.looks.do(c.r.lookAtChildren)
	if a.known && a.newest < c.seq && !c.groupExists() {
		return nil, nil // no orphan is younger than the child: it left nobody
	}
	seen := c.r.passes.do(c.r.takeCensus)
	if left := seen.of[c]; len(left) > 0 || seen.err != nil {
		return left, seen.err
	}
	if seen.procs[c.pid] == nil && c.groupExists() && !seen.hasGroup(c.pid) && c.groupExists() {
		return nil, errHidden
	}
	return nil, nil
}

// hasGroup says whether the census saw a member of a group, dead or alive.
func (s *census) hasGroup(pgrp int) bool {
	for _, p := range s.procs {
		if p.pgrp == pgrp {
			return true
		}
	}
	return false
}

// groupExists says whether a group has the child's number, be it the child's.
func (c *Child) groupExists() bool {
	return c.group && syscall.Kill(-c.pid, 0) != syscall.ESRCH
}

// clear signals what there is until there is nothing: TERM first, KILL after
// grace or once ctx ended. For the killed to be gone it waits no longer than wait.
// It returns how many it signalled.
func (r *Reaper) clear(ctx context.Context, grace, wait time.Duration, q quarry) (int, error) {
	b := broom{sig: syscall.SIGTERM, wait: wait, seen: make(map[identity]bool), sent: make(map[identity]bool)}
	over := ctx.Done()
	next, look := time.NewTimer(max(grace, 0)), time.NewTimer(maxLook)
	defer next.Stop()
	defer look.Stop()
	if grace <= 0 || ctx.Err() != nil {
		over = nil
		b.kill(next)
	}
	for {
		died := r.orphanDied()
		left, done, err := b.step(r, q)
		if done {
			return len(b.seen), err
		}
		look.Reset(b.pause)
		select {
		case <-died:
		case <-look.C:
			b.pause = min(2*b.pause, maxLook)
		case <-over:
			over = nil
			b.kill(next)
		case <-next.C:
			if b.sig == syscall.SIGKILL {
				return len(b.seen), b.stuck(left)
			}
			over = nil // it would begin the wait again
			b.kill(next)
		}
	}
}

// step looks for what is left and signals it. It says whether that is all.
func (b *broom) step(r *Reaper, q quarry) (left []proc, done bool, err error) {
	if left, err = q.find(); err == nil {
		left, err = b.dying(left)
	}
	switch {
	case err != nil:
		if b.grope(q, err) {
			return nil, true, b.blinded()
		}
	case len(left) == 0:
		return nil, true, nil
	default:
		b.blind = nil
	}
	if b.sig == syscall.SIGKILL {
		r.noteKills(left)
	}
	b.sweep(left)
	return left, false, nil
}

// noteKills notes which children are about to be killed.
func (r *Reaper) noteKills(left []proc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range left {
		if c := r.children[p.pid]; c != nil {
			c.killed = true
		}
	}
}

// identity of a process, for as long as the machine is up.
type identity struct {
	pid   int
	start uint64
}

// broom is the state of one clear.
type broom struct {
	sig    syscall.Signal
	wait   time.Duration     // after KILL
	pause  time.Duration     // until the next look
	seen   map[identity]bool // were signalled at all
	sent   map[identity]bool // were sent sig
	denied error             // why one could not be signalled
	blind  error             // why nothing was seen the last time
	struck syscall.Signal    // sent unseen
}

// dying adds to what was found the processes that were signalled before and are
// still there. Once its memory is gone a dying process has no cookie that it
// could be found by, but it still has its files and ports.
func (b *broom) dying(left []proc) ([]proc, error) {
	found := make(map[identity]bool, len(left))
	for _, p := range left {
		found[identity{p.pid, p.start}] = true
	}
	for id := range b.seen {
		if found[id] {
			continue
		}
		switch p, err := lookAt(id.pid); {
		case lacking(err):
			return left, err
		case err == nil && p.start == id.start && p.alive():
			left = append(left, p)
		}
	}
	return left, nil
}

// kill goes over to SIGKILL, for which there is a time limit too.
func (b *broom) kill(limit *time.Timer) {
	b.sig, b.pause = syscall.SIGKILL, 0
	clear(b.sent)
	limit.Reset(b.wait)
}

// sweep signals each process once.
func (b *broom) sweep(left []proc) {
	for _, p := range left {
		id := identity{p.pid, p.start}
		if b.sent[id] {
			continue
		}
		changed, err := p.signal(b.sig)
		if lacking(err) {
			b.denied = err
			continue // it is tried again at the next look
		}
		b.pause = 0 // that comes soon
		if err != nil {
			b.denied = fmt.Errorf("send %v to process %d: %w", b.sig, p.pid, err)
		} else if changed {
			continue
		}
		b.seen[id], b.sent[id] = true, true
	}
	b.pause = max(b.pause, minLook)
}

// stuck describes processes that outlived SIGKILL.
func (b *broom) stuck(left []proc) error {
	if b.blind != nil {
		return b.blinded()
	}
	if b.denied != nil {
		return b.denied
	}
	pids := make([]string, 0, 8)
	for _, p := range left[:min(len(left), cap(pids))] {
		pids = append(pids, strconv.Itoa(p.pid)+" (state "+string(p.state)+")")
	}
	return fmt.Errorf("%d processes outlive SIGKILL: %s", len(left), strings.Join(pids, ", "))
}

// signal signals the process, unless it has changed since it was seen: it is gone,
// another has its pid, or it lost its parent and has to be judged again. A pidfd
// pins it between the check and the signal.
func (p proc) signal(sig syscall.Signal) (changed bool, err error) {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err == nil {
		defer unix.Close(fd)
	}
	now, lookErr := lookAt(p.pid)
	switch {
	case lacking(lookErr):
		return false, lookErr
	case lookErr != nil || now.start != p.start || now.ppid != p.ppid:
		return true, nil
	}
	if err == nil {
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		err = syscall.Kill(p.pid, sig) // an old kernel, or a filter that forbids pidfds
	}
	if errors.Is(err, unix.ESRCH) {
		return true, nil
	}
	return false, err
}

// adoption is what we know of orphans among our children at one moment.
type adoption struct {
	known  bool   // false: the kernel cannot list children
	newest uint64 // seq at which the youngest of them was first seen
}

// lookAtChildren finds orphans that came to us. What we started before one was
// first seen may be its ancestor; what we start later cannot.
func (r *Reaper) lookAtChildren() (a adoption) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pids, ok := directChildren()
	if r.flying > 0 { // one that fails collects its child itself, which may have hidden another
		again, _ := directChildren()
		pids = append(pids, again...)
	}
	unowned := 0
	for _, pid := range pids {
		if r.children[pid] != nil {
			continue
		}
		unowned++
		seen, old := r.adopted[pid]
		if !old {
			seen = r.seq.Load()
			r.adopted[pid] = seen
		}
		a.newest = max(a.newest, seen)
	}
	if ok && len(r.adopted) > unowned { // such a child was among them; its pid may come again
		maps.DeleteFunc(r.adopted, func(pid int, _ uint64) bool { return !slices.Contains(pids, pid) })
	}
	a.known = ok
	return a
}

// directChildren lists our children. It is exact while nobody waits:
// a dead child stays in the list until it is collected, an orphan goes to its end.
func directChildren() (pids []int, ok bool) {
	for range 3 {
		tasks, err := readDirNames("/proc/self/task")
		if err != nil {
			return nil, false
		}
		pids = pids[:0]
		for _, t := range tasks {
			b, err := os.ReadFile("/proc/self/task/" + t + "/children")
			if err != nil && !threadGone(t) {
				return nil, false // needs CONFIG_PROC_CHILDREN
			}
			for f := range bytes.FieldsSeq(b) {
				if pid, err := strconv.Atoi(string(f)); err == nil {
					pids = append(pids, pid)
				}
			}
		}
		// Children of a thread that ends move to another one.
		if again, err := readDirNames("/proc/self/task"); err == nil && slices.Equal(tasks, again) {
			return pids, true
		}
	}
	return nil, false
}

func threadGone(tid string) bool {
	_, err := os.Stat("/proc/self/task/" + tid)
	return errors.Is(err, os.ErrNotExist)
}

func readDirNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}
