//go:build !linux

package output

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	pipeBuf    = 512 // PIPE_BUF: a pipe that poll calls writable takes so much at once
	sendFlags  = unix.MSG_DONTWAIT
	inqRequest = 0x4004667f // FIONREAD
)

// newPipe returns a pipe whose read end does not block. Both ends are closed on exec.
func newPipe() (r, w int, err error) {
	var fds [2]int
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := syscall.Pipe(fds[:]); err != nil {
		return -1, -1, os.NewSyscallError("pipe", err)
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_, _ = unix.Close(fds[0]), unix.Close(fds[1])
		return -1, -1, os.NewSyscallError("fcntl", err)
	}
	return fds[0], fds[1], nil
}

func reopen(int) (int, error) { return -1, unix.ENOTSUP }
