package wrapper

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxMaps bounds what is read of /proc/self/maps.
const maxMaps = 1 << 20

// dropProgram takes the pages of our own binary out of our memory that only
// start-up needed, which are most. What is used again comes back from the page
// cache, page by page. Only mappings that cannot be written are touched: what
// is dropped is on disk as it was.
func dropProgram() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read from
	lines := bufio.NewScanner(io.LimitReader(f, maxMaps))
	for lines.Scan() {
		from, to, ok := readOnly(lines.Text(), self)
		if !ok {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return lines.Err()
}

// onMainThread tells whether the calling thread is the process's first.
func onMainThread() bool { return unix.Gettid() == unix.Getpid() }

// readOnly returns the addresses of a line of maps(5) that is a private mapping
// of a file and may not be written.
func readOnly(line, file string) (from, to uintptr, ok bool) {
	f := strings.Fields(line) // address perms offset dev inode path
	if len(f) < 6 || strings.Join(f[5:], " ") != file || f[1] != "r-xp" && f[1] != "r--p" {
		return 0, 0, false
	}
	low, high, _ := strings.Cut(f[0], "-")
	a, err := strconv.ParseUint(low, 16, 64)
	b, err2 := strconv.ParseUint(high, 16, 64)
	return uintptr(a), uintptr(b), err == nil && err2 == nil && a < b
}
