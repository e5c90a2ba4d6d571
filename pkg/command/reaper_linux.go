package command

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Reaper starts processes and is the only one to wait for them. A program has
// one; make it with [NewReaper].
type Reaper struct {
	run     string        // random id, for the cookies
	seq     atomic.Uint64 // incarnations so far
	setup   func() error  // once, by the first Start or Run
	running atomic.Bool
	deaf    bool  // we were started with signals blocked; written by setup
	blind   error // why /proc does not show our processes; written by setup

	forkExec func(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error)
	remote   func(fs int64) bool // says of a file system whether it may hang
	forkers  *forkers
	wards    wards

	mu       sync.Mutex     // held while waiting and signalling; guards what follows
	ended    bool           // Run returned
	children map[int]*Child // started and not yet collected, by pid
	flying   int            // forks under way
	early    map[int]Status // collected without an owner while forks were under way
	sweeping map[*Child]int // collected and being swept: calls under way
	adopted  map[int]uint64 // orphans among our children: seq when first seen
	deaths   chan struct{}  // closed, and replaced, when an orphan is collected

	looks  shared[adoption] // of our own children
	passes shared[*census]  // over /proc
}

// NewReaper returns a reaper. Nothing happens before Start or Run.
func NewReaper() *Reaper {
	r := &Reaper{
		run:      rand.Text()[:16],
		forkExec: syscall.ForkExec,
		remote:   isRemote,
		forkers:  newForkers(),
		children: make(map[int]*Child),
		early:    make(map[int]Status),
		sweeping: make(map[*Child]int),
		adopted:  make(map[int]uint64),
		deaths:   make(chan struct{}),
	}
	r.setup = sync.OnceValue(r.prepare)
	return r
}

// prepare makes orphans ours and keeps inherited descriptors from children.
func (r *Reaper) prepare() error {
	r.blind = lookForProc()
	var mask unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &mask); err == nil {
		r.deaf = mask != unix.Sigset_t{}
	}
	var leaks, adopts error
	if err := closeOnExec(); err != nil {
		leaks = fmt.Errorf("mark inherited descriptors close-on-exec: %w", err)
	}
	if os.Getpid() != 1 {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			adopts = fmt.Errorf("become child subreaper: %w", err)
		}
	}
	return errors.Join(leaks, adopts)
}

// closeOnExec marks every descriptor but stdin, stdout and stderr.
func closeOnExec() error {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	return closeOnExecEach() // before Linux 5.11, or where a filter forbids it
}

func closeOnExecEach() error {
	names, err := readDirNames("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, name := range names {
		if fd, err := strconv.Atoi(name); err == nil && fd > 2 {
			unix.CloseOnExec(fd) // the one that listed them is gone: no matter
		}
	}
	return nil
}

// Run collects dead children until ctx ends, then those that are dead by then.
// It sleeps while nothing dies. It may be called once.
func (r *Reaper) Run(ctx context.Context) error {
	if !r.running.CompareAndSwap(false, true) {
		return errors.New("run reaper: it was run before")
	}
	died := make(chan os.Signal, 1)
	signal.Notify(died, unix.SIGCHLD)
	defer signal.Stop(died)
	defer r.end()
	_ = r.setup() // Impaired tells; whatever else is amiss, the dead are to be collected
	r.forkers.warm()
	for {
		r.reap()
		select {
		case <-died:
		case <-ctx.Done():
			r.reap()
			return nil
		}
	}
}

// end refuses further starts.
func (r *Reaper) end() {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.forkers.stop()
}

// reap collects until nothing is dead. The lock is given up in between so that
// others get their turn.
func (r *Reaper) reap() {
	for r.reapOne() {
	}
}

// hang is how long a start takes that seems to hang in the kernel.
const hang = 200 * time.Millisecond

// keepReaping collects now and then from when a start seems to hang until the
// returned function is called. The kernel gives SIGCHLD, like every signal, to one
// thread, the one that forked, and to no other if that one cannot take it.
func (r *Reaper) keepReaping() (stop func()) {
	var over atomic.Bool
	var look func()
	look = func() {
		if !over.Load() {
			r.reap()
			time.AfterFunc(hang, look)
		}
	}
	first := time.AfterFunc(hang, look)
	return func() {
		over.Store(true)
		first.Stop()
	}
}

func (r *Reaper) reapOne() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var status syscall.WaitStatus
	var usage syscall.Rusage
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, &usage)
	if err == syscall.EINTR {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	end := statusOf(status, &usage)
	if c := r.children[pid]; c != nil {
		delete(r.children, pid)
		c.end(end)
		return true
	}
	if r.flying > 0 {
		r.early[pid] = end
	}
	delete(r.adopted, pid)
	close(r.deaths)
	r.deaths = make(chan struct{})
	return true
}

func statusOf(wait syscall.WaitStatus, usage *syscall.Rusage) Status {
	return Status{
		wait:   wait,
		maxRSS: int64(usage.Maxrss) * 1024, // in KiB on Linux
		cpu:    time.Duration(usage.Utime.Nano() + usage.Stime.Nano()),
	}
}

// orphanDied returns a channel that is closed when the next orphan is collected.
func (r *Reaper) orphanDied() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deaths
}

// KillRest ends every process below us, started by us or not, with SIGTERM and,
// after grace or when ctx ends, SIGKILL. Run must be running. It returns how many
// processes were signalled, within a second of SIGKILL.
func (r *Reaper) KillRest(ctx context.Context, grace time.Duration) (int, error) {
	n, err := r.clear(ctx, grace, restWait, quarry{r.below, r.strike})
	if err != nil {
		return n, fmt.Errorf("kill remaining processes: %w", err)
	}
	return n, nil
}

// below returns all our descendants.
func (r *Reaper) below() ([]proc, error) {
	_ = r.setup()
	if r.blind != nil {
		return nil, r.blind
	}
	c := r.passes.do(r.takeCensus)
	return c.below, c.err
}

// shared runs one function at a time for any number of callers. Who calls while
// it runs waits for the next run, together with all others who do.
type shared[T any] struct {
	turn sync.Mutex // held while one runs
	mu   sync.Mutex // guards next
	next *turn[T]   // not yet begun
}

type turn[T any] struct {
	done   chan struct{}
	result T
}

// do returns the result of a run of f that began after the call.
func (s *shared[T]) do(f func() T) T {
	s.mu.Lock()
	if t := s.next; t != nil {
		s.mu.Unlock()
		<-t.done
		return t.result
	}
	t := &turn[T]{done: make(chan struct{})}
	s.next = t
	s.mu.Unlock()

	s.turn.Lock()
	defer s.turn.Unlock()
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()
	t.result = f()
	close(t.done)
	return t.result
}
