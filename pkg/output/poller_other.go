//go:build !linux || output_poll

package output

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// event says that a descriptor is ready; slot is what add was told.
type event struct{ slot int32 }

// poller waits for many descriptors with poll(2), and is woken through a pipe: a simple stand-in where there is no epoll.
// The tag output_poll builds it on Linux too, to be tested there.
type poller struct {
	wakeR, wakeW int
	mu           sync.Mutex // guards watched
	watched      map[int]watch
	fds          []unix.PollFd
}

type watch struct {
	slot  int32
	write bool
}

func newPoller() (*poller, error) {
	r, w, err := newPipe()
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(w, true); err != nil {
		_, _ = unix.Close(r), unix.Close(w)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &poller{wakeR: r, wakeW: w, watched: make(map[int]watch)}, nil
}

// add watches a descriptor until remove. It may be called at any time and from any goroutine, as may remove and wake.
func (p *poller) add(fd int, slot int32, write bool) error {
	p.mu.Lock()
	p.watched[fd] = watch{slot, write}
	p.mu.Unlock()
	p.wake()
	return nil
}

func (p *poller) remove(fd int) {
	p.mu.Lock()
	delete(p.watched, fd)
	p.mu.Unlock()
}

// wait appends the descriptors that are ready to events. It returns none when it was woken and when until, where it is
// not zero, has come. Only one goroutine may wait.
func (p *poller) wait(events []event, until time.Time) ([]event, error) {
	p.mu.Lock()
	p.fds = append(p.fds[:0], unix.PollFd{Fd: int32(p.wakeR), Events: unix.POLLIN})
	for fd, w := range p.watched {
		ev := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		if w.write {
			ev.Events = unix.POLLOUT
		}
		p.fds = append(p.fds, ev)
	}
	p.mu.Unlock()
	timeout := -1
	if !until.IsZero() {
		timeout = int(max(time.Until(until)+time.Millisecond-1, 0) / time.Millisecond)
	}
	if _, err := unix.Poll(p.fds, timeout); err != nil && err != unix.EINTR {
		return events, os.NewSyscallError("poll", err)
	}
	if p.fds[0].Revents != 0 {
		var buf [64]byte
		_, _ = unix.Read(p.wakeR, buf[:])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fd := range p.fds[1:] {
		if w, ok := p.watched[int(fd.Fd)]; ok && fd.Revents != 0 {
			events = append(events, event{w.slot})
		}
	}
	return events, nil
}

// wake makes the current wait return, or the next one.
func (p *poller) wake() { _, _ = unix.Write(p.wakeW, newline) }

func (p *poller) close() {
	_ = unix.Close(p.wakeR)
	_ = unix.Close(p.wakeW)
}
