package command

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	noteTime    = 20 * time.Millisecond  // for a guardian without room for a note to have some
	shortLife   = 100 * time.Millisecond // a guardian that ends sooner is not replaced before the next note
	dismissTime = 2 * time.Second        // a program with the race detector takes one to end
)

// wards are what a guardian watches over: processes with a [Command.Deadline]. It is a process of its
// own, our binary, that is there while there are some.
type wards struct {
	mu       sync.Mutex // guards what follows
	guardian *Child     // nil: there is none
	pipe     *os.File   // to it
	notes    map[uint64]note
	left     chan struct{}  // closed when it is left alone
	watching sync.WaitGroup // until a guardian is dead or left alone
}

// Extend moves the time by which a process with a [Command.Deadline] is dead, whatever becomes of us.
func (c *Child) Extend(deadline time.Duration) {
	c.r.wards.mu.Lock()
	defer c.r.wards.mu.Unlock()
	n, ok := c.r.wards.notes[c.seq]
	if !ok {
		return
	}
	n.Deadline = deadline
	_ = c.r.tell(n) // the next one comes soon
}

// Unguard says that nothing is left of a process that had a [Command.Deadline].
func (c *Child) Unguard() { c.r.unguard(c.seq) }

func (r *Reaper) unguard(seq uint64) {
	r.wards.mu.Lock()
	defer r.wards.mu.Unlock()
	if _, ok := r.wards.notes[seq]; ok {
		_ = r.tell(note{Seq: seq}) // if it is gone, the next one is not told of this
	}
}

// expect has a guardian look out for a process that is about to be started.
func (r *Reaper) expect(seq uint64, deadline time.Duration) error {
	r.wards.mu.Lock()
	defer r.wards.mu.Unlock()
	if err := r.tell(note{Seq: seq, Deadline: deadline}); err != nil {
		return &StartError{Step: "start guardian", Reason: ReasonOther, Err: err}
	}
	return nil
}

// born tells it who that is.
func (r *Reaper) born(c *Child) {
	var start uint64
	r.mu.Lock()
	if r.children[c.pid] == c { // else its number may be another's
		if p, err := lookAt(c.pid); err == nil {
			start = p.start
		}
	}
	r.mu.Unlock()
	r.wards.mu.Lock()
	defer r.wards.mu.Unlock()
	if n, ok := r.wards.notes[c.seq]; ok && start > 0 {
		n.PID, n.Start = int64(c.pid), start
		_ = r.tell(n) // it is known by its cookie too
	}
}

// tell writes a note, to a new guardian if need be. The lock of wards is held.
func (r *Reaper) tell(n note) error {
	w := &r.wards
	if w.notes == nil {
		w.notes = make(map[uint64]note)
	}
	if n.Deadline == 0 {
		delete(w.notes, n.Seq)
	} else {
		w.notes[n.Seq] = n
	}
	if w.pipe != nil && w.write(n) == nil {
		return nil
	}
	return r.replace() // it is gone, or hangs
}

// replace has another guardian watch over what there is, and then ends the present one. The lock of
// wards is held.
func (r *Reaper) replace() error {
	w := &r.wards
	defer w.leave()()
	if len(w.notes) == 0 {
		return nil
	}
	if err := r.startGuardian(); err != nil {
		return err
	}
	for _, n := range w.notes {
		if err := w.write(n); err != nil {
			return err
		}
	}
	return nil
}

// write does not wait where there is room, so that a time in which we did not run is not held against
// the guardian.
func (w *wards) write(n note) error {
	conn, err := w.pipe.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Write(func(fd uintptr) bool {
		_, failed = unix.Write(int(fd), n.bytes())
		return true
	})
	if err == nil && errors.Is(failed, unix.EAGAIN) {
		if err := w.pipe.SetWriteDeadline(time.Now().Add(noteTime)); err != nil {
			return err
		}
		_, failed = w.pipe.Write(n.bytes())
		err = w.pipe.SetWriteDeadline(time.Time{})
	}
	return errors.Join(err, failed)
}

// leave forgets the guardian, if there is one, and returns what ends it: it is of no use any more.
func (w *wards) leave() (end func()) {
	c, pipe, left := w.guardian, w.pipe, w.left
	if c == nil {
		return func() {}
	}
	w.guardian, w.pipe = nil, nil
	return func() {
		_ = c.Signal(syscall.SIGKILL) // it may be gone
		_ = pipe.Close()              // of which nothing is expected
		close(left)
	}
}

// watch has a guardian replaced that dies, or nobody would kill for us until the next note.
func (r *Reaper) watch(c *Child, left <-chan struct{}) {
	began := time.Now()
	select {
	case <-c.exited:
	case <-left:
		return
	case <-r.forkers.over:
		return
	}
	r.wards.mu.Lock()
	defer r.wards.mu.Unlock()
	if r.wards.guardian == c && time.Since(began) > shortLife {
		_ = r.replace() // the next note tries again
	}
}

// startGuardian starts our own binary as a guardian. It is in a session of its own: what is sent to ours
// does not reach it.
func (r *Reaper) startGuardian() error {
	take, give, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer take.Close()
	null, err := r.forkers.devNull()
	if err != nil {
		return errors.Join(err, give.Close())
	}
	c := &Child{r: r, name: guardianName, seq: r.seq.Add(1), group: true, exited: make(chan struct{})}
	attr := &syscall.ProcAttr{Dir: "/", Env: []string{"GOMAXPROCS=1"}, Sys: &syscall.SysProcAttr{Setsid: true}}
	if err := r.fork(c, shimExe, []string{guardianName, r.run}, attr, []int{null, null, 2, int(take.Fd())}); err != nil {
		return errors.Join(err, give.Close())
	}
	left := make(chan struct{})
	r.wards.guardian, r.wards.pipe, r.wards.left = c, give, left
	r.wards.watching.Go(func() { r.watch(c, left) })
	return nil
}

// Dismiss ends the guardian, if there is one, and waits until it is gone. Nothing is left then that has a
// [Command.Deadline].
func (r *Reaper) Dismiss() {
	w := &r.wards
	defer w.watching.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.guardian
	if g == nil {
		return
	}
	clear(w.notes)
	late := time.NewTimer(dismissTime)
	defer late.Stop()
	if w.write(farewell) == nil {
		select {
		case <-g.exited:
		case <-late.C:
		}
	}
	w.leave()()
}
