package command

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	guardianName = "process-wrapper-guardian" // argv[0] by which Init knows it; argv[1] is the run of the cookies
	guardianFD   = 3                          // where its notes come from

	lateBirth = time.Second            // for a process to show up that was being forked when we died
	retryKill = 100 * time.Millisecond // between two looks for what outlives SIGKILL
	killTime  = 2 * time.Second        // of looking without a pause in between
)

// note is what a guardian is told of one incarnation: 0 as its deadline says that nothing is left
// of it. It is written at once, so that it comes whole or not at all.
type note struct {
	Seq      uint64
	PID      int64         // 0: it is not known yet
	Start    uint64        // clock ticks since boot: with PID, its identity
	Deadline time.Duration // by CLOCK_BOOTTIME
}

const noteSize = 4 * 8

// farewell is the note that there will be no more: nothing is to be killed.
var farewell = note{Deadline: -1}

func (n *note) bytes() []byte {
	b := make([]byte, 0, noteSize)
	b = binary.NativeEndian.AppendUint64(b, n.Seq)
	b = binary.NativeEndian.AppendUint64(b, uint64(n.PID))
	b = binary.NativeEndian.AppendUint64(b, n.Start)
	return binary.NativeEndian.AppendUint64(b, uint64(n.Deadline))
}

func readNote(b []byte) note {
	return note{
		Seq: binary.NativeEndian.Uint64(b), PID: int64(binary.NativeEndian.Uint64(b[8:])),
		Start: binary.NativeEndian.Uint64(b[16:]), Deadline: time.Duration(binary.NativeEndian.Uint64(b[24:])),
	}
}

// guardian is what the process of that name does: it waits, and kills what it was told of when the
// deadline has passed, or when who told it is gone.
type guardian struct {
	run   string
	wards map[uint64]*ward
	timer int // descriptor of a timer on CLOCK_BOOTTIME
	rest  []byte
}

// ward is one incarnation that may have to be killed.
type ward struct {
	note
	seen map[identity]bool // found to be of it
}

// beGuardian runs until there is nothing left to do.
func beGuardian(run string) error {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTSTP)
	runtime.LockOSThread()
	// Where that is allowed: it sleeps until it must not be late. Of this thread, and of its session, within which alone the former
	// counts where the kernel groups tasks by session.
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
	_ = os.WriteFile("/proc/self/autogroup", []byte("-20"), 0)
	debug.SetGCPercent(20)
	debug.FreeOSMemory() // of what packages keep that are not used here
	unix.CloseOnExec(guardianFD)
	timer, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(guardianFD, true)
	}
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	g := &guardian{run: run, wards: make(map[uint64]*ward), timer: timer}
	for {
		if err := g.wait(); err != nil {
			return err
		}
		over, err := g.read() // all of it, before it is judged which deadline has passed
		switch {
		case err != nil:
			g.end()
			return nil
		case over:
			return nil
		}
		g.killLate()
	}
}

// wait returns when there is a note, or a deadline has passed.
func (g *guardian) wait() error {
	next := time.Duration(0)
	for _, w := range g.wards {
		if next == 0 || w.Deadline < next {
			next = w.Deadline
		}
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(next.Nanoseconds())} // 0: never
	if err := unix.TimerfdSettime(g.timer, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	fds := []unix.PollFd{{Fd: guardianFD, Events: unix.POLLIN}, {Fd: int32(g.timer), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait: %w", err)
		}
	}
}

// read takes all notes that have come. The error is [io.EOF] when who wrote them is gone.
func (g *guardian) read() (over bool, err error) {
	buf := make([]byte, 128*noteSize)
	for {
		n, err := unix.Read(guardianFD, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("read notes: %w", err)
		case n == 0:
			return false, io.EOF
		}
		g.rest = append(g.rest, buf[:n]...)
		for len(g.rest) >= noteSize {
			if g.take(readNote(g.rest)) {
				return true, nil
			}
			g.rest = g.rest[noteSize:]
		}
	}
}

func (g *guardian) take(n note) (over bool) {
	w := g.wards[n.Seq]
	switch {
	case n == farewell:
		return true
	case n.Deadline == 0:
		delete(g.wards, n.Seq)
	case w == nil:
		g.wards[n.Seq] = &ward{note: n, seen: make(map[identity]bool)}
	default:
		w.note = n
	}
	return false
}

// killLate kills the wards whose deadline has passed.
func (g *guardian) killLate() {
	now := boottime()
	var late []*ward
	for _, w := range g.wards {
		if w.Deadline <= now {
			late = append(late, w)
		}
	}
	if len(late) == 0 {
		return
	}
	g.kill(late, now+killTime)
	for _, w := range late {
		w.Deadline = boottime() + retryKill // nothing of it may live until we are told otherwise
	}
}

// end kills all wards, since nobody is there any more who could.
func (g *guardian) end() {
	all := make([]*ward, 0, len(g.wards))
	until := boottime() + killTime
	for _, w := range g.wards {
		all = append(all, w)
		if w.PID == 0 {
			until = boottime() + killTime + lateBirth
		}
	}
	g.kill(all, until)
}

// kill kills all that is there of wards, until nothing is or the time is over. Of one whose process is
// not known it looks for as long as that may take to show up.
func (g *guardian) kill(wards []*ward, until time.Duration) {
	pause := minLook
	began := boottime()
	for {
		left := 0
		procs, err := readProcs()
		for _, w := range wards {
			if err != nil {
				w.strikeBlind()
				continue
			}
			// Those who have no more than the cookie are found by reading that of each process there is,
			// of which one that is busy may keep us waiting.
			for _, run := range []string{"", g.run} {
				for _, p := range w.find(procs, run) {
					_, _ = p.signal(syscall.SIGKILL) // it is looked for again
					left++
				}
			}
			if w.PID == 0 && boottime() < began+lateBirth {
				left++
			}
		}
		if left == 0 && err == nil || boottime() >= until {
			return
		}
		_, _ = unix.Poll(nil, int(pause/time.Millisecond))
		pause = min(2*pause, maxLook)
	}
}

// strikeBlind kills what can be killed unseen.
func (w *ward) strikeBlind() {
	if w.PID > 0 {
		_ = unix.Kill(-int(w.PID), syscall.SIGKILL) // it may be gone
	}
}

// find returns what is alive of a ward, parents before their children: who is killed first cannot
// react to the end of the other. Without a run no cookie is looked at.
func (w *ward) find(procs map[int]*proc, run string) []proc {
	root := procs[int(w.PID)]
	h := hunt{w, procs, run, root != nil && root.start == w.Start, make(map[int]bool, len(procs))}
	var left []proc
	for _, p := range procs {
		if p.pid != os.Getpid() && h.owned(p) && p.alive() {
			left = append(left, *p)
		}
	}
	slices.SortFunc(left, func(a, b proc) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.pid, b.pid)) })
	return left
}

// hunt is one look for what belongs to a ward: its process, known by pid and start; what is in that
// one's group or session as long as it is there, dead or alive, since nobody else can have its number;
// what has the cookie; what did belong to it before; and all that is below any of these.
type hunt struct {
	*ward
	procs    map[int]*proc
	run      string
	stable   bool // its process is there
	verdicts map[int]bool
}

func (h *hunt) owned(p *proc) bool {
	if v, ok := h.verdicts[p.pid]; ok {
		return v
	}
	h.verdicts[p.pid] = false // ends a circle, which only a torn read can make
	id := identity{p.pid, p.start}
	v := h.seen[id] || h.named(p)
	if parent := h.procs[p.ppid]; !v && parent != nil && parent.start <= p.start {
		v = h.owned(parent)
	}
	if !v && h.run != "" {
		seq, _ := readCookie(p.pid, h.run) // it may be gone, or not ours to read
		v = seq == h.Seq
	}
	h.verdicts[p.pid] = v
	if v {
		h.seen[id] = true
	}
	return v
}

func (h *hunt) named(p *proc) bool {
	root := int(h.PID)
	return h.stable && (p.pid == root || p.pgrp == root || p.sid == root)
}

// boottime goes on while the machine is suspended, as Go's own clock does not.
func boottime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // it exists since Linux 2.6.39
	return time.Duration(ts.Nano())
}
