//go:build linux

package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStatusSaysHowAProcessEnded(t *testing.T) {
	r := running(t)
	for _, tt := range []struct {
		name, script, text string
		code               int
		signal             syscall.Signal
	}{
		{"it exits with zero", "exit 0", "exit code 0", 0, 0},
		{"it exits with a code", "exit 3", "exit code 3", 3, 0},
		{"it exits with a code that looks like a signal", "exit 143", "exit code 143", 143, 0},
		{"a signal ends it", "kill -TERM $$", "terminated", 143, syscall.SIGTERM},
		{"it is killed", "kill -KILL $$", "killed", 137, syscall.SIGKILL},
		{"it dies of a closed pipe, whose signal is not ignored", "kill -PIPE $$", "broken pipe", 141, syscall.SIGPIPE},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, r, sh(tt.script))
			s := waitFor(t, c)
			if s.Code() != tt.code || s.Signal() != tt.signal || s.String() != tt.text || s.Success() != (tt.code == 0) {
				t.Errorf("got code %d, signal %d, %q", s.Code(), s.Signal(), s)
			}
			if s.MaxRSS() < 100<<10 {
				t.Errorf("max RSS is %d bytes", s.MaxRSS())
			}
		})
	}
}

func TestStartWorksBeforeRun(t *testing.T) {
	r := NewReaper()
	c := start(t, r, sh("exit 7"))
	if c.Status() != (Status{}) {
		t.Errorf("has status %v before its end was seen", c.Status())
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	if s := waitFor(t, c); s.Code() != 7 {
		t.Error(s)
	}
	cancel()
	wg.Wait()
	if _, err := r.Start(sh("")); !errors.Is(err, ErrEnded) {
		t.Errorf("start after the end: %v", err)
	}
	if err := r.Run(ctx); err == nil {
		t.Error("it could be run twice")
	}
}

func TestEveryExitCodeIsRightAndNoOrphanStays(t *testing.T) {
	r := running(t)
	rounds := 20
	if testing.Short() {
		rounds = 2
	}
	for range rounds {
		var wg sync.WaitGroup
		slots := make(chan struct{}, 64)
		for i := range 600 {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				script := fmt.Sprintf("exit %d", i%200)
				if i%3 == 0 { // leaves an orphan that ends a little later
					script = "(sleep 0.0" + strconv.Itoa(i%10) + " &); " + script
				}
				c, err := r.Start(sh(script))
				if err != nil {
					t.Error(err)
					return
				}
				<-c.Exited()
				if got := c.Status().Code(); got != i%200 {
					t.Errorf("%d: exit code %d", i, got)
				}
			})
		}
		wg.Wait()
	}
	eventually(t, "no zombies", func() bool { return len(zombies()) == 0 })
}

func TestThousandOrphansLeaveNoZombies(t *testing.T) {
	r := running(t)
	c := start(t, r, sh("i=0; while [ $i -lt 1000 ]; do (sleep 0.1 &) ; i=$((i+1)); done"))
	if s := waitFor(t, c); !s.Success() {
		t.Fatal(s)
	}
	eventually(t, "no zombies and no orphans", func() bool {
		pids, ok := directChildren()
		return ok && len(pids) == 0
	})
}

func TestThousandChildrenNeedFewThreads(t *testing.T) {
	r := running(t)
	n := 1000
	if testing.Short() {
		n = 100
	}
	var wg sync.WaitGroup
	children := make([]*Child, n)
	slots := make(chan struct{}, 32)
	for i := range children {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			c, err := r.Start(&Command{Name: "sleeper", Path: "sleep", Args: []string{"1000"}, Env: []string{"PATH=/bin:/usr/bin"}})
			if err != nil {
				t.Error(err)
				return
			}
			children[i] = c
		})
	}
	wg.Wait()
	threads, err := readDirNames("/proc/self/task")
	if err != nil || len(threads) > 24 { // the test has some of its own
		t.Errorf("%d threads, %v", len(threads), err)
	}
	t.Logf("%d threads at %d children", len(threads), n)

	began := time.Now()
	for _, c := range children {
		wg.Go(func() {
			if c == nil {
				return
			}
			if err := c.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			<-c.Exited()
			if n, err := c.Sweep(t.Context(), time.Second); n != 0 || err != nil {
				t.Errorf("swept %d, %v", n, err)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	t.Logf("%d stopped and swept in %v", n, took)
	if took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

func TestChildSeesThreeDescriptors(t *testing.T) {
	inherited, err := unix.Dup(1) // without close-on-exec, as we might have inherited it
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	r := running(t)
	list := `for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 30 40 50 60 70 80 90 100 ` + strconv.Itoa(inherited) + `; do [ -e /proc/$$/fd/$i ] && echo $i; done; readlink /proc/$$/fd/0`
	umask := 0o22
	for name, attr := range map[string]Attr{"started directly": {}, "started by the shim": {Umask: &umask}} {
		t.Run(name, func(t *testing.T) {
			c := sh(list)
			c.Attr = attr
			if got := run(t, r, c); got != "0\n1\n2\n/dev/null" {
				t.Errorf("the child has descriptors %q", got)
			}
		})
	}
}

func TestDescriptorsAreMarkedOnOldKernelsToo(t *testing.T) {
	inherited, err := unix.Dup(1)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	if err := closeOnExecEach(); err != nil {
		t.Fatal(err)
	}
	for fd, want := range map[int]int{1: 0, inherited: unix.FD_CLOEXEC} {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags != want {
			t.Errorf("descriptor %d has flags %d, %v", fd, flags, err)
		}
	}
}

func TestSignalsReachTheGroupAndNobodyElse(t *testing.T) {
	r := running(t)
	c := start(t, r, sh("sleep 1000 & sleep 1000 & wait"))
	own := start(t, r, sh("kill -KILL $$"))
	other := start(t, r, &Command{Path: "sleep", Args: []string{"1000"}, Env: os.Environ()})
	eventually(t, "both in the background", func() bool { return len(groupOf(c.PID())) == 3 })
	if err := c.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitFor(t, c)
	eventually(t, "the group is gone", func() bool { return len(groupOf(c.PID())) == 0 })
	if err := c.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal after the exit: %v", err)
	}
	if p, ok := look(other.PID()); !ok || !p.alive() {
		t.Error("another process was hit")
	}
	waitFor(t, own)
	if c.Killed() || own.Killed() {
		t.Error("it counts as killed by us")
	}
}

func groupOf(pgrp int) (pids []int) {
	for pid, p := range everybody() {
		if p.pgrp == pgrp && p.alive() {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestSameGroupIsSignalledAlone(t *testing.T) {
	r := running(t)
	c := sh("sleep 1000")
	c.Attr.SameGroup = true
	child := start(t, r, c)
	if p, _ := look(child.PID()); p.pgrp != syscall.Getpgrp() {
		t.Errorf("its group is %d", p.pgrp)
	}
	if err := child.Signal(syscall.SIGKILL); err != nil { // and we survive
		t.Fatal(err)
	}
	if s := waitFor(t, child); s.Code() != 137 || !child.Killed() {
		t.Errorf("%v, killed by us: %v", s, child.Killed())
	}
}

func TestSharedRunServesAllWhoCameBefore(t *testing.T) {
	var s shared[int32]
	var runs atomic.Int32
	first, gate := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		s.do(func() int32 { close(first); <-gate; return runs.Add(1) })
	})
	<-first
	for range 50 {
		wg.Go(func() {
			if n := s.do(func() int32 { return runs.Add(1) }); n < 2 {
				t.Errorf("was served by run %d, which began before", n)
			}
		})
	}
	eventually(t, "one waits", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.next != nil })
	close(gate)
	wg.Wait()
	if n := runs.Load(); n > 51 {
		t.Errorf("%d runs", n)
	}
}

func TestKillRestEndsEverythingBelowUs(t *testing.T) {
	r := running(t)
	c := self("kill-rest")
	c.Dir = t.TempDir()
	if got := run(t, r, c); got != "" {
		t.Error(got)
	}
}

// nobodyLeft waits for the dead to be collected.
func nobodyLeft() error {
	tick, late := time.NewTicker(5*time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for {
		pids, ok := directChildren()
		if ok && len(pids) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-late:
			return fmt.Errorf("children %v are left", pids)
		}
	}
}

// helperKillRest leaves what no rule can attribute, beside a living child, and
// ends it all.
func helperKillRest() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := NewReaper()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = r.Run(ctx) })
	child, err := r.Start(sh("sleep 1000 & trap '' TERM; : >deaf; while :; do sleep 1; done"))
	if err != nil {
		return err
	}
	// It ends once what it leaves is in a session of its own, and the child ignores SIGTERM.
	gone, err := r.Start(sh("env -i /usr/bin/setsid -f /bin/sh -c ': >away; exec /bin/sleep 1000'; until [ -e away ] && [ -e deaf ]; do sleep 0.01; done"))
	if err != nil {
		return err
	}
	<-gone.Exited()
	if n, err := gone.Sweep(ctx, time.Second); n != 0 || err != nil {
		return fmt.Errorf("sweep took %d that it cannot know, %v", n, err)
	}
	n, err := r.KillRest(ctx, 100*time.Millisecond)
	if err != nil || n < 3 {
		return fmt.Errorf("killed %d, %v", n, err)
	}
	<-child.Exited()
	if !child.Killed() {
		return errors.New("the child does not count as killed by us")
	}
	return nobodyLeft()
}

func TestCookieNamesTheIncarnation(t *testing.T) {
	env := withCookie([]string{"A=1", cookieName + "=outer:5:x", "B=2"}, cookie("run", 12, "a b:ü"))
	if got, want := strings.Join(env, "|"), "A=1|B=2|"+cookieName+"=outer:5:x run:12:a_b__"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, tt := range []struct {
		name, value, run string
		seq              uint64
		ok               bool
	}{
		{"ours", "run:12:web", "run", 12, true},
		{"ours below an outer wrapper's", "outer:5:x run:12:web", "run", 12, true},
		{"the outer wrapper's above ours", "outer:5:x run:12:web", "outer", 5, true},
		{"of somebody else", "outer:5:x", "run", 0, false},
		{"of a run whose name begins alike", "running:5:x", "run", 0, false},
		{"not a number", "run:abc:x", "run", 0, false},
		{"empty", "", "run", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if seq, ok := cookieSeq(tt.value, tt.run); seq != tt.seq || ok != tt.ok {
				t.Errorf("got %d, %v", seq, ok)
			}
		})
	}
}
