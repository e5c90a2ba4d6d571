//go:build linux

package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// helperEnv makes the test binary behave as a program of the tests.
const helperEnv = "COMMAND_TEST_HELPER"

func TestMain(m *testing.M) {
	Init()
	if name := os.Getenv(helperEnv); name != "" {
		os.Exit(helper(name))
	}
	goleak.VerifyTestMain(m)
}

// running returns a reaper that runs until the end of the test, when nothing may
// be left of what the test started.
func running(t testing.TB) *Reaper {
	t.Helper()
	return runningAs(t, func(*Reaper) {})
}

// runningAs is running with a reaper that is changed before it runs.
func runningAs(t testing.TB, change func(*Reaper)) *Reaper {
	t.Helper()
	r := NewReaper()
	change(r)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if _, err := r.KillRest(context.Background(), 0); err != nil {
			t.Error(err)
		}
		cancel()
		wg.Wait()
	})
	return r
}

func sh(script string) *Command {
	return &Command{Name: "test", Path: "/bin/sh", Args: []string{"-c", script}, Env: os.Environ()}
}

func self(helper string, args ...string) *Command {
	return &Command{Name: helper, Path: "/proc/self/exe", Args: args, Env: append(os.Environ(), helperEnv+"="+helper)}
}

// run returns what a command writes, which must succeed.
func run(t testing.TB, r *Reaper, c *Command) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	res, err := r.Output(ctx, c, 1<<20)
	if err != nil {
		t.Fatalf("%s: %v\n%s", c.Path, err, res.Output)
	}
	if !res.Status.Success() {
		t.Fatalf("%s: %v\n%s", c.Path, res.Status, res.Output)
	}
	return strings.TrimSpace(string(res.Output))
}

func start(t testing.TB, r *Reaper, c *Command) *Child {
	t.Helper()
	child, err := r.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	return child
}

func waitFor(t testing.TB, c *Child) Status {
	t.Helper()
	select {
	case <-c.Exited():
		return c.Status()
	case <-time.After(time.Minute):
		t.Fatalf("process %d does not exit", c.PID())
		return Status{}
	}
}

// markOf is a variable for the environment of what a test starts. No other test has it, also when this one is run by several at a time.
func markOf(t *testing.T) string { return fmt.Sprintf("TREE=%s.%d.", t.Name(), os.Getpid()) }

// marked returns the living processes that have this text in their environment.
func marked(text string) (pids []int) {
	names, _ := readDirNames("/proc")
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, _ := os.ReadFile("/proc/" + name + "/environ")
		if p, ok := look(pid); ok && p.alive() && strings.Contains(string(env), text) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// everybody returns all processes that can be seen.
func everybody() map[int]*proc {
	procs, _ := readProcs()
	return procs
}

// look reads one process.
func look(pid int) (p proc, ok bool) {
	p, err := lookAt(pid)
	return p, err == nil
}

// zombies returns our dead children that nobody collected.
func zombies() (pids []int) {
	for pid, p := range everybody() {
		if p.ppid == os.Getpid() && p.state == 'Z' {
			pids = append(pids, pid)
		}
	}
	return pids
}

// eventually waits for what other processes do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("CI") != "":
		t.Fatal("in CI the tests run as root: changing credentials needs it")
	default:
		t.Skip("changing credentials needs root")
	}
}

// helper is main of the test binary as a program of the tests.
func helper(name string) int {
	var err error
	switch name {
	case "as-user": // what a wrapper without privileges can start
		err = helperAsUser()
	case "as-root":
		err = helperAsRoot()
	case "blind":
		err = helperBlind()
	case "kill-rest":
		err = helperKillRest()
	case "masked":
		err = helperMasked()
	case "pdeath":
		err = helperPdeath()
	case "nofile":
		err = helperRun("ulimit -Sn")
	case "wrapper":
		err = helperWrapper()
	default:
		err = errors.New("unknown helper")
	}
	if err != nil {
		fmt.Println(name+":", err)
		return 1
	}
	return 0
}

// background runs a reaper until stop is called.
func background(r *Reaper) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// onEndingThread runs f on a thread that ends with it.
func onEndingThread[T any](f func() (T, error)) (v T, err error) {
	var wg sync.WaitGroup
	tid := 0
	wg.Go(func() {
		runtime.LockOSThread()
		tid = unix.Gettid()
		v, err = f()
	})
	wg.Wait()
	tick := time.NewTicker(time.Millisecond) // the kernel ends it, nobody tells us
	defer tick.Stop()
	for tid != os.Getpid() && !threadGone(strconv.Itoa(tid)) {
		<-tick.C
	}
	return v, err
}

// withMask runs f on a thread that blocks these signals.
func withMask(set *unix.Sigset_t, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, set, nil); err != nil {
		return err
	}
	return f()
}
