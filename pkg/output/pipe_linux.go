package output

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	pipeBuf    = 4096 // PIPE_BUF: a pipe that poll calls writable takes so much at once
	sendFlags  = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	inqRequest = unix.TIOCINQ
)

// newPipe returns a pipe whose read end does not block. Both ends are closed on exec.
func newPipe() (r, w int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, os.NewSyscallError("pipe2", err)
	}
	if _, err := unix.FcntlInt(uintptr(fds[0]), unix.F_SETFL, unix.O_NONBLOCK); err != nil { // of a new one nothing else is set
		_, _ = unix.Close(fds[0]), unix.Close(fds[1])
		return -1, -1, os.NewSyscallError("fcntl", err)
	}
	return fds[0], fds[1], nil
}

// reopen opens what fd is open on once more, non-blocking, so that this does not show in the descriptor that we share
// with others. It fails for sockets, without /proc, and where the file belongs to somebody else.
func reopen(fd int) (int, error) {
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
}
