//go:build linux && !output_poll

package output

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// event says that a descriptor is ready; slot is what add was told.
type event struct{ slot int32 }

// poller waits for many descriptors with an epoll instance that is itself waited for through the runtime's poller: that
// takes no thread, and the read deadline of its file serves as the timer and as the wake-up. Since the runtime sees
// edges only, it waits just after the instance had nothing more to say.
type poller struct {
	file   *os.File
	raw    syscall.RawConn
	fd     int
	poll   func(uintptr) bool // made once, to allocate nothing
	ready  []unix.EpollEvent
	n      int
	err    error
	until  time.Time
	stale  bool // the file's deadline is no longer until
	waking atomic.Bool
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else os.NewFile would not give it to the runtime's poller
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll"), fd: fd, ready: make([]unix.EpollEvent, 64)}
	p.poll = func(fd uintptr) bool {
		p.n, p.err = unix.EpollWait(int(fd), p.ready, 0)
		if errors.Is(p.err, unix.EINTR) {
			p.n, p.err = 0, nil
			return true
		}
		return p.n > 0 || p.err != nil
	}
	if p.raw, err = p.file.SyscallConn(); err == nil {
		err = p.file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = p.file.Close()
		return nil, err
	}
	return p, nil
}

// add watches a descriptor until remove. It may be called at any time and from any goroutine, as may remove and wake.
func (p *poller) add(fd int, slot int32, write bool) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: slot}
	if write {
		ev.Events = unix.EPOLLOUT
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &ev))
}

// remove must come before the close: a copy of the descriptor in a child that has not called exec yet would keep it here.
func (p *poller) remove(fd int) {
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil)
}

// wait appends the descriptors that are ready to events. It returns none when it was woken and when until, where it is
// not zero, has come. Only one goroutine may wait.
func (p *poller) wait(events []event, until time.Time) ([]event, error) {
	if p.stale || !until.Equal(p.until) {
		if err := p.file.SetReadDeadline(until); err != nil {
			return events, err
		}
		p.until, p.stale = until, false
	}
	p.n, p.err = 0, nil
	if p.waking.Swap(false) {
		p.stale = true
		p.poll(uintptr(p.fd))
	} else if err := p.raw.Read(p.poll); errors.Is(err, os.ErrDeadlineExceeded) {
		p.stale, p.n = true, 0
		p.waking.Store(false)
	} else if err != nil {
		return events, err
	}
	if p.err != nil {
		return events, os.NewSyscallError("epoll_wait", p.err)
	}
	for _, ev := range p.ready[:p.n] {
		events = append(events, event{ev.Fd})
	}
	return events, nil
}

// wake makes the current wait return, or the next one.
func (p *poller) wake() {
	if !p.waking.Swap(true) {
		_ = p.file.SetReadDeadline(time.Unix(1, 0))
	}
}

func (p *poller) close() { _ = p.file.Close() }
