package e2e

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

func TestAReaderThatStopsReadingIsNoReasonToKill(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := start(t, options{config: script("chatter", `exec yes 0123456789012345678901234567890123456789`), stdout: w})
	w.Close()
	p.ready()
	eventually(t, "the pipe is full", func() error { return full(r) })
	began := time.Now()
	p.signal(syscall.SIGINT)
	if got := p.wait(); got != 0 {
		t.Errorf("exit code %d, and nobody was killed", got)
	}
	within(t, began, 2500*time.Millisecond, "the end")
}

func TestAFullDiskForStdoutIsToldAndStopsNobody(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	w := start(t, options{config: script("chatter", `i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done; echo written >&2; exec sleep 1000`), stdout: full})
	w.ready()
	w.stderr.waitFor(t, regexp.MustCompile(`level=error msg="lines are lost because stdout cannot be written" err="no space left on device" dropped=\d`))
	w.stderr.waitFor(t, regexp.MustCompile(`msg="written"`))
	before := cpu(t, w.pid)
	quietly(t, 2*time.Second, func() error { return nil })
	if used := cpu(t, w.pid) - before; used > 500*time.Millisecond {
		t.Errorf("%v of CPU time in 2 idle seconds", used)
	}
	if n := strings.Count(w.stderr.String(), "stdout cannot be written"); n != 1 {
		t.Errorf("told %d times", n)
	}
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}

// full returns why a pipe that nobody reads does not count as full.
func full(r *os.File) error {
	var held int32
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, r.Fd(), syscall.TIOCINQ, uintptr(unsafe.Pointer(&held))); errno != 0 {
		return errno
	}
	if held < 56<<10 {
		return fmt.Errorf("it holds %d bytes", held)
	}
	return nil
}

// cpu returns the CPU time that a process has used, of itself.
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
}
