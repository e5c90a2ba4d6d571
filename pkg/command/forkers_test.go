//go:build linux

package command

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// beforeFork has f run on the thread that forks, right before each fork.
func beforeFork(r *Reaper, f func()) {
	fork := r.forkExec
	r.forkExec = func(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
		f()
		return fork(path, argv, attr)
	}
}

// pipes makes many pipes, which the test closes at its end.
func pipes(t *testing.T, n int) (read, write []*os.File) {
	t.Helper()
	for range n {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		read, write = append(read, r), append(write, w)
	}
	return read, write
}

func TestThreadThatForksHoldsNothingOfOthers(t *testing.T) {
	ends, others := pipes(t, 300)
	file, err := os.Create(t.TempDir() + "/prog")
	if err != nil {
		t.Fatal(err)
	}
	r := running(t)
	var mu sync.Mutex
	var open []int // in the thread's table, at each fork
	beforeFork(r, func() {
		names, err := readDirNames("/proc/thread-self/fd")
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		open = append(open, len(names))
	})
	for range 20 {
		if got := run(t, r, sh("echo x >&2")); got != "x" {
			t.Errorf("it wrote %q", got)
		}
	}
	if _, err := file.WriteString("#!/bin/sh\necho y"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Chmod(0o755), file.Close()); err != nil {
		t.Fatal(err)
	}
	if got := run(t, r, &Command{Path: file.Name()}); got != "y" { // nobody may have it open to write
		t.Errorf("it wrote %q", got)
	}
	if most := 40; open[0] > most || open[19] > open[0] {
		t.Errorf("it has %v descriptors: more than %d, or ever more", open, most)
	}
	others[0].Close()
	if err := ends[0].SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := ends[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a pipe that is closed elsewhere has another end: %v", err)
	}
	name := "/proc/self/fd/" + strconv.Itoa(int(others[1].Fd()))
	if _, err := os.Readlink(name); err != nil {
		t.Errorf("the table of the process is not the one of all others: %v", err)
	}
}

// The runtime uses the thread that it happens to be on: for a collection that an
// allocation made due, and to wake its poller for a timer.
func TestRuntimeWorksOnThreadsThatFork(t *testing.T) {
	ends, others := pipes(t, 1)
	r := running(t)
	beforeFork(r, func() {
		runtime.GC()
		fired := make(chan struct{})
		time.AfterFunc(time.Millisecond, func() { close(fired) })
		<-fired
	})
	var reading sync.WaitGroup
	defer reading.Wait()
	defer others[0].Close()
	reading.Go(func() { _, _ = io.Copy(io.Discard, ends[0]) }) // through the runtime's poller
	for range 50 {
		if got := run(t, r, sh("echo x")); got != "x" {
			t.Errorf("it wrote %q", got)
		}
	}
}

func TestForksWithoutATableOfTheirOwn(t *testing.T) {
	r := runningAs(t, func(r *Reaper) { r.forkers.table = func(...int) {} })
	for range 20 {
		if got := run(t, r, sh("echo x; ls /proc/self/fd | wc -l")); strings.Join(strings.Fields(got), " ") != "x 4" { // the fourth is that of ls
			t.Errorf("it wrote %q", got)
		}
	}
}

func TestForksLeaveNoDescriptors(t *testing.T) {
	r := running(t)
	count := func() int {
		names, err := readDirNames("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	run(t, r, sh("echo x"))
	before := count()
	for range 20 {
		run(t, r, sh("echo x"))
		if _, err := r.Start(&Command{Path: "/no/such"}); err == nil {
			t.Error("started")
		}
	}
	eventually(t, "as few descriptors as before", func() bool { return count() <= before }) // those of the last are closed after it is told
}

func TestClosedDescriptorIsNotSent(t *testing.T) {
	f := newForkers()
	defer f.stop()
	err := f.fly([]int{-1}, func([]int, error) { t.Error("flown") })
	if !errors.Is(err, unix.EBADF) {
		t.Error(err)
	}
	if err := f.fly(nil, func(files []int, err error) {
		if len(files) > 0 || err != nil {
			t.Error(files, err)
		}
	}); err != nil {
		t.Error(err)
	}
}

func TestDescriptorsOfAnotherFlightAreNotTaken(t *testing.T) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	read, write := pipes(t, 2)
	for i, w := range write { // the first is left there by somebody who could not take it
		if err := send(ends[0], uint64(i+1), []int{int(w.Fd())}); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	files, err := receive(ends[1], 2)
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if n, err := read[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the other pipe is not closed: %d bytes, %v", n, err)
	}
	if _, err := unix.Write(files[0], []byte("x")); err != nil {
		t.Error(err)
	}
	unix.Close(files[0])
	if text, err := io.ReadAll(read[1]); string(text) != "x" || err != nil {
		t.Errorf("read %q, %v", text, err)
	}
}
