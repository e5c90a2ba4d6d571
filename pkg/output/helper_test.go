package output

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// dup returns a copy of a file that blocks, as a child gets it.
func dup(tb testing.TB, f *os.File) *os.File {
	tb.Helper()
	return os.NewFile(uintptr(dupFD(tb, f)), f.Name())
}

func dupFD(tb testing.TB, f *os.File) int {
	tb.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	fd := -1
	if err := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || fd < 0 {
		tb.Fatal(err)
	}
	return fd
}

// openFiles counts the descriptors of this process.
func openFiles(tb testing.TB) (n int) {
	tb.Helper()
	for fd := range uintptr(4096) {
		if _, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}
