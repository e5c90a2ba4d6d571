package command

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// forkWidth is how many forks are made side by side. While one process gets
	// into its program, which keeps the thread, another core can make the next.
	forkWidth = 2
	// patience is how long a fork may take before it no longer counts among these.
	patience = time.Second
	// unlisted is more than we have open when the first processes start.
	unlisted = 4096
	// maxQueued bounds the forks whose descriptors are on their way.
	maxQueued = 8
)

// forkers are the threads that fork. They end with Run, so that Pdeathsig means our
// death.
//
// A fork copies the descriptor table of its thread, and the exec closes what is left
// of the copy. We hold two pipes for each process, so that with many of them this
// would take longer than all else. Therefore these threads have tables of their own
// with next to nothing in them, and what a process is to get comes to them through
// a socket.
type forkers struct {
	table  func(keep ...int) // gives the calling thread its own
	over   chan struct{}     // closed by stop
	queue  chan *flight
	taking sync.Mutex // held while a flight and then its descriptors are taken

	sending sync.Mutex // held while descriptors and then their flight are queued; guards what follows
	give    int        // the ends of the socket; 0: not made yet
	take    int
	null    int    // /dev/null, by this number in all tables; 0: not opened yet
	flights uint64 // so far

	mu      sync.Mutex // guards what follows
	threads []*forker
	joining sync.WaitGroup
}

// A forker is one thread.
type forker struct {
	since time.Time // when its present flight began, zero while it has none
	gone  chan struct{}
}

// A flight is a fork that is to be made.
type flight struct {
	number uint64
	files  int // how many descriptors it needs
	do     func(files []int, err error)
	taken  atomic.Bool
	done   chan struct{}
}

func newForkers() *forkers {
	return &forkers{table: ownTable, over: make(chan struct{}), queue: make(chan *flight, maxQueued)}
}

// fly runs do on a thread that forks, with these descriptors as they are called
// there; it closes them afterwards. It returns [ErrEnded], and do was not run,
// after stop.
func (f *forkers) fly(files []int, do func(files []int, err error)) error {
	j := &flight{files: len(files), do: do, done: make(chan struct{})}
	if err := f.enqueue(j, files); err != nil {
		return err
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case <-j.done:
			return nil
		case <-late.C:
			f.relieve()
			late.Reset(patience)
		case <-f.over:
			if j.taken.CompareAndSwap(false, true) {
				return ErrEnded
			}
			<-j.done
			return nil
		}
	}
}

func (f *forkers) enqueue(j *flight, files []int) error {
	f.sending.Lock()
	defer f.sending.Unlock()
	if f.ended() {
		return ErrEnded
	}
	if err := f.open(); err != nil {
		return err
	}
	f.relieve()
	f.flights++
	j.number = f.flights
	if len(files) > 0 {
		if err := send(f.give, j.number, files); err != nil {
			return err
		}
	}
	select {
	case f.queue <- j:
	case <-f.over:
		return ErrEnded
	}
	return nil
}

func (f *forkers) ended() bool {
	select {
	case <-f.over:
		return true
	default:
		return false
	}
}

// devNull returns /dev/null, which need not be passed: all threads have it.
func (f *forkers) devNull() (fd int, err error) {
	f.sending.Lock()
	defer f.sending.Unlock()
	if f.null == 0 {
		if fd, err = open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC); err != nil {
			return -1, err
		}
		f.null = fd
	}
	return f.null, nil
}

// warm makes the first thread before it is needed, as far as that is possible.
func (f *forkers) warm() {
	if _, err := f.devNull(); err != nil {
		return // each Start will say so
	}
	f.sending.Lock()
	defer f.sending.Unlock()
	if f.open() == nil {
		f.relieve()
	}
}

// open makes the socket; sending is held.
func (f *forkers) open() error {
	if f.give != 0 {
		return nil
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	f.give, f.take = ends[0], ends[1]
	return nil
}

// relieve adds a thread where all are busy, and fewer than may be make progress;
// open was called.
func (f *forkers) relieve() {
	f.mu.Lock()
	defer f.mu.Unlock()
	work := 0
	for _, t := range f.threads {
		if t.since.IsZero() {
			return
		}
		if time.Since(t.since) < patience {
			work++
		}
	}
	if work >= min(forkWidth, runtime.GOMAXPROCS(0)) || f.ended() {
		return
	}
	t, keep := &forker{gone: make(chan struct{})}, []int{f.take, f.null}
	f.threads = append(f.threads, t)
	f.joining.Go(func() {
		defer close(t.gone)
		onOwnThread(func() { f.serve(t, keep...) })
	})
}

// stop has all threads end, and waits for them but for one whose fork hangs: that
// is in the kernel, and must not hold the end of the program.
func (f *forkers) stop() {
	close(f.over)
	f.mu.Lock()
	idle := f.threads[:0]
	for _, t := range f.threads {
		if t.since.IsZero() {
			idle = append(idle, t)
		}
	}
	f.mu.Unlock()
	for _, t := range idle {
		<-t.gone
	}
	f.sending.Lock()
	defer f.sending.Unlock()
	for _, fd := range []int{f.give, f.take, f.null} {
		if fd != 0 {
			unix.Close(fd)
		}
	}
}

// serve makes forks until stop.
func (f *forkers) serve(t *forker, keep ...int) {
	f.table(keep...)
	for {
		j, files, err := f.next(t)
		if j == nil {
			return
		}
		j.do(files, err)
		for _, fd := range files {
			unix.Close(fd)
		}
		f.mark(t, time.Time{})
		close(j.done)
	}
}

func (f *forkers) mark(t *forker, since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.since = since
}

// next waits for a flight and takes its descriptors.
func (f *forkers) next(t *forker) (j *flight, files []int, err error) {
	f.taking.Lock()
	defer f.taking.Unlock()
	for {
		select {
		case <-f.over:
			return nil, nil, nil
		case j = <-f.queue:
		}
		f.mark(t, time.Now())
		if f.ended() {
			return nil, nil, nil
		}
		if j.files > 0 {
			files, err = receive(f.take, j.number)
		}
		if err == nil && len(files) < j.files {
			err = fmt.Errorf("receive descriptors: %w", unix.EMFILE)
		}
		if j.taken.CompareAndSwap(false, true) {
			return j, files, err
		}
	}
}

// send sends the descriptors of a flight.
func send(socket int, number uint64, files []int) error {
	data := binary.NativeEndian.AppendUint64(nil, number)
	return os.NewSyscallError("sendmsg", unix.Sendmsg(socket, data, unix.UnixRights(files...), nil, 0))
}

// receive returns the descriptors of a flight. Those of an earlier one, which could
// not be taken then, are not taken for them.
func receive(socket int, number uint64) ([]int, error) {
	var data [8]byte
	var control [128]byte // enough for 28
	for {
		_, n, _, _, err := unix.Recvmsg(socket, data[:], control[:], unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvmsg", err)
		}
		files, err := rights(control[:n])
		if err != nil || binary.NativeEndian.Uint64(data[:]) == number {
			return files, err
		}
		for _, fd := range files {
			unix.Close(fd)
		}
	}
}

func rights(control []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	return unix.ParseUnixRights(&messages[0])
}

// onOwnThread runs f on a thread that ends with it. It is not the main one, by
// whose table /proc/self/fd goes.
func onOwnThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		f()
		return // without unlocking
	}
	var other sync.WaitGroup
	locked := make(chan struct{})
	other.Go(func() {
		runtime.LockOSThread()
		close(locked)
		f()
	})
	<-locked
	runtime.UnlockOSThread()
	other.Wait()
}

// ownTable gives this thread a descriptor table of its own and closes in it what
// has a name, a lock or another end, but for what is to be kept. What is anonymous
// stays: the runtime works on any thread with an epoll instance and an eventfd that
// it does not tell. Where that cannot be done (before Linux 5.9), the table stays
// shared, which is only slower.
func ownTable(keep ...int) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return
	}
	known := anonymous(poll)
	unix.Close(poll)
	if !known || unix.CloseRange(math.MaxUint32, math.MaxUint32, unix.CLOSE_RANGE_UNSHARE) != nil {
		return
	}
	for _, fd := range descriptors() {
		if fd > 2 && !slices.Contains(keep, fd) && !anonymous(fd) {
			unix.Close(fd)
		}
	}
}

// anonymous says whether a descriptor is of no kind of file, as those of epoll are.
func anonymous(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == 0
}

// descriptors returns those that are open on this thread. Without /proc it returns
// all below unlisted.
func descriptors() []int {
	names, err := readDirNames("/proc/thread-self/fd")
	if err != nil {
		fds := make([]int, unlisted)
		for i := range fds {
			fds[i] = i
		}
		return fds
	}
	fds := make([]int, 0, len(names))
	for _, name := range names {
		if fd, err := strconv.Atoi(name); err == nil {
			fds = append(fds, fd)
		}
	}
	return fds
}
