package output

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// mode is how a destination takes bytes without blocking us, although its descriptor may be a blocking one that others
// share, in which O_NONBLOCK must not be set.
type mode uint8

const (
	direct  mode = iota // a regular file, or a descriptor of our own that does not block
	socket              // send takes a flag for that
	careful             // a blocking pipe or terminal: asked first, and given what it surely takes
)

// terminalStep is the least room of a terminal that poll calls writable.
const terminalStep = 256

// sink is the destination of a pump.
type sink struct {
	file    *os.File // kept, so that its descriptor stays open
	fd      int
	mode    mode
	tty     bool
	base    int // fd and mode as they were before open
	baseM   mode
	reopen  func(fd int) (int, error)
	poller  *poller // made when the destination first was full
	deaf    bool    // the poller cannot wait for it
	midLine bool    // the last byte that it took was not a newline
}

func newSink(file *os.File) (*sink, error) {
	s := &sink{file: file, reopen: reopen}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("open destination %s: %w", file.Name(), err)
	}
	var st unix.Stat_t
	var statErr error
	if err = raw.Control(func(fd uintptr) { // not Fd, which would make the descriptor block
		s.fd = int(fd)
		statErr = unix.Fstat(s.fd, &st)
	}); err == nil {
		err = statErr
	}
	if err != nil {
		return nil, fmt.Errorf("inspect destination %s: %w", file.Name(), err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		s.mode = socket
	case unix.S_IFIFO:
		s.mode = careful
	case unix.S_IFCHR:
		s.mode, s.tty = careful, true
	}
	s.base, s.baseM = s.fd, s.mode
	return s, nil
}

// open gets a descriptor of our own where that is possible; close gives it back.
func (s *sink) open() {
	if s.mode == careful {
		if fd, err := s.reopen(s.fd); err == nil {
			s.fd, s.mode = fd, direct
		}
	}
}

func (s *sink) close() {
	if s.poller != nil {
		s.poller.close()
		s.poller = nil
	}
	if s.fd != s.base {
		_ = unix.Close(s.fd)
		s.fd, s.mode = s.base, s.baseM
	}
}

// write hands over what the destination takes now. EAGAIN means that it is full.
func (s *sink) write(b []byte) (n int, err error) {
	switch s.mode {
	case socket:
		n, err = unix.SendmsgN(s.fd, b, nil, nil, sendFlags)
	case careful:
		if !writable(s.fd) {
			return 0, unix.EAGAIN
		}
		n, err = unix.Write(s.fd, s.piece(b))
	default:
		n, err = unix.Write(s.fd, b)
	}
	if err == nil && n == 0 {
		err = io.ErrShortWrite
	}
	if n > 0 {
		s.midLine = b[n-1] != '\n'
	}
	return max(n, 0), err
}

// piece returns the start of b, as much as a writable destination surely takes at once. A terminal looks for new room
// before and after each control character, so one of these goes alone.
func (s *sink) piece(b []byte) []byte {
	if !s.tty {
		return b[:min(len(b), pipeBuf)]
	}
	n := 0
	for n < min(len(b), terminalStep) && b[n] >= ' ' {
		n++
	}
	return b[:max(n, 1)]
}

func writable(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// unpollablePause is the pause before the next try of a destination that is full but cannot be waited for.
const unpollablePause = 10 * time.Millisecond

// watch prepares wait.
func (s *sink) watch() (err error) {
	if s.poller != nil {
		return nil
	}
	if s.poller, err = newPoller(); err == nil {
		s.deaf = s.poller.add(s.fd, 0, true) != nil
	}
	return err
}

// wait returns when the destination may take more, at until where that is not zero, or when the poller is woken.
func (s *sink) wait(until time.Time) error {
	if pause := time.Now().Add(unpollablePause); s.deaf && (until.IsZero() || pause.Before(until)) {
		until = pause
	}
	_, err := s.poller.wait(nil, until)
	return err
}
