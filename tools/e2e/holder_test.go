package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The variables that make the test binary a holder: a program that must run at most once at a time.
const (
	holderFile  = "E2E_HOLDER"       // where it writes that it is alive
	holderDrain = "E2E_HOLDER_DRAIN" // how long it goes on after SIGTERM
	holderChild = "E2E_HOLDER_CHILD"
)

const stampEvery = 2 * time.Millisecond

// sinceBoot goes on in suspend, as the clock of holders must.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // it exists since Linux 2.6.39
	return time.Duration(ts.Nano())
}

// hold is a holder. A child of it, in a session of its own and deaf to SIGTERM, does the same.
func hold(file string) int {
	out, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	if os.Getenv(holderChild) == "" {
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), holderChild+"=1")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	} else {
		signal.Ignore(syscall.SIGTERM)
	}
	drain, _ := time.ParseDuration(os.Getenv(holderDrain)) // "": none
	var end <-chan time.Time
	tick := time.NewTicker(stampEvery)
	for {
		// One write, so that lines of two processes do not mix.
		if _, err := fmt.Fprintf(out, "%s %d %d\n", os.Getenv("SHARED_LOCK_TOKEN"), os.Getpid(), sinceBoot()); err != nil {
			return 1
		}
		select {
		case <-tick.C:
		case <-term:
			end = time.After(drain)
		case <-end:
			return 0
		}
	}
}

// span is the time in which the holders of one token lived.
type span struct {
	token       int64
	first, last time.Duration
	pids        []int
}

// spans reads what holders wrote, in order of time.
func spans(t *testing.T, file string) []span {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		return nil // there was none yet
	}
	defer f.Close()
	by := map[int64]*span{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var token, ns int64
		var pid int
		if n, _ := fmt.Sscan(lines.Text(), &token, &pid, &ns); n < 3 {
			continue // the last one is being written
		}
		s := by[token]
		if s == nil {
			s = &span{token: token, first: time.Duration(ns)}
			by[token] = s
		}
		s.first, s.last = min(s.first, time.Duration(ns)), max(s.last, time.Duration(ns))
		if !slices.Contains(s.pids, pid) {
			s.pids = append(s.pids, pid)
		}
	}
	var all []span
	for _, s := range by {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b span) int { return int(a.first - b.first) })
	return all
}

// judge fails where two holders lived at the same time, or tokens do not grow.
func judge(t *testing.T, files ...string) []span {
	t.Helper()
	var all []span
	for _, file := range files {
		all = append(all, spans(t, file)...)
	}
	slices.SortFunc(all, func(a, b span) int { return int(a.first - b.first) })
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		if b.first <= a.last {
			t.Errorf("tokens %d and %d were held at the same time, for %v", a.token, b.token, a.last-b.first)
		}
		if b.token <= a.token || a.token <= 0 {
			t.Errorf("token %d after %d", b.token, a.token)
		}
	}
	return all
}

// holds waits until there is a whole tree of the nth holder, and returns its span so far.
func holds(t *testing.T, file string, n int) span {
	t.Helper()
	var all []span
	eventually(t, fmt.Sprintf("holder %d lives", n), func() error {
		if all = spans(t, file); len(all) < n || len(all[n-1].pids) < 2 {
			return fmt.Errorf("%+v", all)
		}
		return nil
	})
	return all[n-1]
}

// holder is a process under a lock; more are keys of the block lock, such as ", ttlDuration: 1s".
func holder(t *testing.T, lock string, keys ...string) (config, file string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "stamps")
	config = "- name: job\n  entrypoint: " + self + "\n  readiness: {lock: {" + lock + "}}\n  envs:\n    " + holderFile + ": " + file + "\n"
	for _, k := range keys {
		config += "  " + k + "\n"
	}
	return config, file
}

// dead waits until the holders of a span write no more, and returns when they last did.
func dead(t *testing.T, file string, token int64) (last time.Duration) {
	t.Helper()
	eventually(t, "the holder and its child end", func() error {
		for _, s := range spans(t, file) {
			if s.token == token {
				last = s.last
			}
		}
		if age := sinceBoot() - last; age < 300*time.Millisecond {
			return fmt.Errorf("it wrote %v ago", age)
		}
		return nil
	})
	return last
}

// trials is how often something is repeated: a few times, or as LOCK_TRIALS says.
func trials(t *testing.T, few int) int {
	t.Helper()
	text := os.Getenv("LOCK_TRIALS")
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 1 {
		t.Fatalf("LOCK_TRIALS=%s is no number of trials", text)
	}
	return n
}
