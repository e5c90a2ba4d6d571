//go:build linux

package command

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hanging makes forks of the program "/hang" hang until the test is over or
// release is called, and says on the channel that one does.
func hanging(t *testing.T, r *Reaper) (hangs <-chan struct{}, release func()) {
	entered, let := make(chan struct{}, 8), make(chan struct{})
	release = sync.OnceFunc(func() { close(let) })
	t.Cleanup(release)
	fork := r.forkExec
	r.forkExec = func(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
		if path != "/hang" {
			return fork(path, argv, attr)
		}
		entered <- struct{}{}
		<-let
		return 0, syscall.EIO
	}
	return entered, release
}

func TestForkThatHangsHoldsNobody(t *testing.T) {
	for name, attr := range map[string]Attr{"without attributes": {}, "with a death signal": {Pdeathsig: syscall.SIGKILL}} {
		t.Run(name, func(t *testing.T) {
			r := NewReaper()
			hangs, release := hanging(t, r)
			stop := background(r)
			old := start(t, r, sh("sleep 1000 & wait"))
			var wg sync.WaitGroup
			defer wg.Wait()
			defer release()
			for range forkWidth {
				wg.Go(func() {
					if _, err := r.Start(&Command{Path: "/hang", Attr: attr}); !errors.Is(err, syscall.EIO) {
						t.Errorf("one that hangs: %v", err)
					}
				})
				<-hangs
			}

			if err := old.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			waitFor(t, old)
			if _, err := old.Sweep(t.Context(), time.Second); err != nil {
				t.Error(err)
			}
			began := time.Now()
			for range 20 { // of which the first waits
				c := sh("exit 7")
				c.Attr = attr
				if s := waitFor(t, start(t, r, c)); s.Code() != 7 {
					t.Error(s)
				}
			}
			if took := time.Since(began); took < patience/2 || took > 15*patience {
				t.Errorf("20 others took %v", took)
			}
			stop() // does not wait for it either
			if _, err := r.Start(sh("")); !errors.Is(err, ErrEnded) {
				t.Errorf("start after the end: %v", err)
			}
		})
	}
}

func TestForksTakeTurns(t *testing.T) {
	r := running(t)
	var mu sync.Mutex
	var now, most int
	fork := r.forkExec
	r.forkExec = func(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			now--
		}()
		return fork(path, argv, attr)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { waitFor(t, start(t, r, sh("exit 0"))) })
	}
	wg.Wait()
	if most < 1 || most > forkWidth {
		t.Errorf("%d at a time", most)
	}
}

func TestExitThatIsSeenBeforeItsOwnerIsNotLost(t *testing.T) {
	r := running(t)
	fork := r.forkExec
	kept := func(pid int) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		_, ok := r.early[pid]
		return ok
	}
	r.forkExec = func(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
		pid, err := fork(path, argv, attr)
		if err == nil {
			eventually(t, "it is collected", func() bool { return kept(pid) })
		}
		return pid, err
	}
	c := start(t, r, sh("exit 7"))
	if s := waitFor(t, c); s.Code() != 7 || s.MaxRSS() == 0 {
		t.Error(s)
	}
	if err := c.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal after the exit: %v", err)
	}
	if n, err := c.Sweep(t.Context(), time.Second); n != 0 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if _, err := r.Start(&Command{Path: "/no/such"}); err == nil {
		t.Error("started")
	}
	if len(r.early) > 0 || len(r.children) > 0 || r.flying != 0 {
		t.Errorf("left over: %v, %v, %d", r.early, r.children, r.flying)
	}
}

func TestExitOfAnEarlierProcessWithThePIDIsNotTaken(t *testing.T) {
	for name, forget := range map[string]bool{"with a pidfd": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			r := running(t)
			fork := r.forkExec
			r.forkExec = func(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
				if forget {
					attr.Sys.PidFD = nil
				}
				pid, err := fork(path, argv, attr)
				r.mu.Lock()
				defer r.mu.Unlock()
				r.early[pid] = Status{wait: 9 << 8} // an orphan's, before this fork
				return pid, err
			}
			c := start(t, r, sh("sleep 1000"))
			if s := c.Status(); s != (Status{}) {
				t.Fatalf("it runs, and has status %v", s)
			}
			if err := c.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			if s := waitFor(t, c); s.Signal() != syscall.SIGTERM {
				t.Error(s)
			}
		})
	}
}

func TestForkThatOutlivesRunLeavesNothing(t *testing.T) {
	r := NewReaper()
	entered, let := make(chan struct{}), make(chan struct{})
	fork, born := r.forkExec, 0
	r.forkExec = func(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
		close(entered)
		<-let
		pid, err := fork(path, argv, attr)
		born = pid
		return pid, err
	}
	stop := background(r)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := r.Start(sh("sleep 1000")); !errors.Is(err, ErrEnded) {
			t.Error(err)
		}
	})
	<-entered
	stop()
	close(let)
	wg.Wait()
	if _, ok := look(born); ok {
		t.Errorf("process %d is left", born)
	}
}

// fanotify makes the kernel ask us before this file is opened or executed, and
// so whoever does it hang. The first to do so is announced by asked.
type fanotify struct {
	fd    int
	asked chan struct{}
	done  sync.WaitGroup
	event int32
}

func holdFile(t *testing.T, path string, mask uint64) *fanotify {
	t.Helper()
	needRoot(t)
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY|unix.O_CLOEXEC)
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("in CI the tests may use fanotify: %v", err)
	default:
		t.Skipf("making an exec hang needs fanotify (CAP_SYS_ADMIN): %v", err)
	}
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD, mask, unix.AT_FDCWD, path); err != nil {
		t.Fatal(err)
	}
	f := &fanotify{fd: fd, asked: make(chan struct{})}
	f.done.Go(func() {
		buf := make([]byte, 4096)
		if n, err := unix.Read(fd, buf); err != nil || n < 24 {
			t.Errorf("read %d bytes of fanotify, %v", n, err)
			return
		}
		f.event = int32(binary.NativeEndian.Uint32(buf[16:])) // fanotify_event_metadata.fd
		close(f.asked)
	})
	return f
}

// release lets everybody have the file.
func (f *fanotify) release(t *testing.T) {
	f.done.Wait()
	if err := unix.FanotifyMark(f.fd, unix.FAN_MARK_FLUSH, 0, unix.AT_FDCWD, "/"); err != nil {
		t.Error(err)
	}
	answer := binary.NativeEndian.AppendUint32(nil, uint32(f.event))
	answer = binary.NativeEndian.AppendUint32(answer, unix.FAN_ALLOW)
	if _, err := unix.Write(f.fd, answer); err != nil {
		t.Error(err)
	}
	unix.Close(int(f.event))
	unix.Close(f.fd)
}

func TestExecThatHangsHoldsNobody(t *testing.T) {
	for _, tt := range []struct {
		name string
		hold uint64
		attr Attr
	}{
		{"in the opening of the program", unix.FAN_OPEN_PERM, Attr{}},
		{"in the exec, which a shim does", unix.FAN_OPEN_EXEC_PERM, Attr{Umask: ptr(0o22)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := running(t)
			prog := t.TempDir() + "/prog"
			write(t, prog, "#!/bin/sh\nexit 7\n", 0o755)
			held := holdFile(t, prog, tt.hold)
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				c, err := r.Start(&Command{Path: prog, Attr: tt.attr})
				if err != nil {
					t.Error(err)
					return
				}
				if s := waitFor(t, c); s.Code() != 7 {
					t.Error(s)
				}
			})
			defer held.release(t)
			<-held.asked

			runtime.GC()          // stops the world, which a thread in vfork would not let happen
			quickest := time.Hour // of some, as others keep this machine busy too
			for range 5 {
				began := time.Now()
				c := start(t, r, sh("sleep 1000"))
				if err := c.Signal(syscall.SIGTERM); err != nil {
					t.Error(err)
				}
				waitFor(t, c)
				quickest = min(quickest, time.Since(began))
			}
			if quickest > patience*3/4 {
				t.Errorf("another one took %v", quickest)
			}
		})
	}
}

func TestShimWhoseExecHangsIsGivenUp(t *testing.T) {
	l := &launch{cmd: &Command{Path: "prog"}, path: "/mnt/prog"}
	for _, tt := range []struct{ name, says, want string }{
		{"it was about to execute", "{}\n", "exec /mnt/prog: connection timed out after 20ms: its file system does not answer"},
		{"it never answered", "", "prepare process: no answer within 20ms: main must call command.Init first"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			orders, give, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer orders.Close()
			take, answers, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer take.Close()
			defer answers.Close()
			if _, err := answers.WriteString(tt.says); err != nil {
				t.Fatal(err)
			}
			err = l.converse([]byte("orders"), give, take, 20*time.Millisecond)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestStatusHasTheCPUTimeOfAllThatWasWaitedFor(t *testing.T) {
	r := running(t)
	began := time.Now()
	c := start(t, r, sh("sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'; exit 3"))
	s := waitFor(t, c)
	if limit := 2 * time.Since(began); s.CPU() < 10*time.Millisecond || s.CPU() > limit {
		t.Errorf("CPU time is %v, of at most %v", s.CPU(), limit)
	}
	idle := waitFor(t, start(t, r, sh("exit 0")))
	if idle.CPU() >= s.CPU() {
		t.Errorf("an idle one took %v, a busy one %v", idle.CPU(), s.CPU())
	}
}
