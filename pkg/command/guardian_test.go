//go:build linux

package command

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree is a process with children in its group, in another session, and below an orphan.
const tree = `sh -c 'sleep 1000 & wait' & setsid sh -c 'trap "" TERM; sleep 1000 & wait' & (setsid sleep 1000 &); sleep 1000`

const treeSize = 7 // sh, sh, sleep, setsid'ed sh, sleep, setsid'ed sleep, sleep

func guarded(t *testing.T, deadline time.Duration) (c *Command, mark string) {
	t.Helper()
	mark = markOf(t)
	c = sh(tree)
	c.Env = append(c.Env, mark)
	c.Deadline = boottime() + deadline
	return c, mark
}

func TestAGuardianKillsTheWholeTreeAtItsDeadline(t *testing.T) {
	r := running(t)
	t.Cleanup(r.Dismiss)
	bystander, other := start(t, r, sh("sleep 1000")), start(t, r, func() *Command { c := sh("sleep 1000"); c.Deadline = boottime() + time.Hour; return c }())
	c, mark := guarded(t, time.Minute)
	child := start(t, r, c)
	eventually(t, "the tree is there", func() bool { return len(marked(mark)) >= treeSize })
	end := boottime() + 1500*time.Millisecond
	child.Extend(end)
	status := waitFor(t, child)
	if now := boottime(); now < end || now > end+time.Second {
		t.Errorf("killed %v after the deadline", now-end)
	}
	if status.Signal() != syscall.SIGKILL || child.Killed() {
		t.Errorf("%v, killed by us: %v", status, child.Killed())
	}
	eventually(t, "nothing is left", func() bool { return len(marked(mark)) == 0 })
	t.Logf("all gone %v after the deadline", boottime()-end)
	for _, c := range []*Child{bystander, other} {
		if p, ok := look(c.PID()); !ok || !p.alive() {
			t.Error("another process was killed too")
		}
	}
	child.Unguard()
}

func TestAGuardianLeavesAloneWhatItIsNotToldOfAnyMore(t *testing.T) {
	r := running(t)
	const life = 2 * time.Second
	c, _ := guarded(t, life)
	extended, given := start(t, r, c), start(t, r, c)
	given.Unguard()
	for end := c.Deadline + life/4; boottime() < end; pause(t, life/20) {
		extended.Extend(boottime() + life)
	}
	for _, c := range []*Child{extended, given} {
		if p, ok := look(c.PID()); !ok || !p.alive() {
			t.Error("it is gone")
		}
	}
	g := r.wards.guardian
	r.Dismiss()
	if s := waitFor(t, g); !s.Success() {
		t.Errorf("the guardian ends with %v", s)
	}
	pause(t, life+life/4)
	if p, ok := look(extended.PID()); !ok || !p.alive() {
		t.Error("it was killed after all")
	}
}

func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

func TestAGuardianThatDiesIsReplaced(t *testing.T) {
	r := running(t)
	t.Cleanup(r.Dismiss)
	c, mark := guarded(t, time.Minute)
	child := start(t, r, c)
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		old := r.wards.guardian
		eventually(t, "it is there", func() bool {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", old.PID()))
			_, rest, _ := bytes.Cut(text, []byte("\nSigIgn:\t"))
			line, _, _ := bytes.Cut(rest, []byte("\n"))
			ignored, _ := strconv.ParseUint(string(line), 16, 64) // others may have been ignored before, SIGHUP by nohup
			return ignored&(1<<(syscall.SIGTERM-1)) != 0
		})
		if err := old.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if sig == syscall.SIGKILL {
			waitFor(t, old)
		}
		child.Extend(boottime() + time.Minute)
		if replaced := r.wards.guardian != old; replaced != (sig == syscall.SIGKILL) {
			t.Errorf("after %v it is replaced: %v", sig, replaced)
		}
	}
	child.Extend(boottime())
	waitFor(t, child)
	eventually(t, "nothing is left", func() bool { return len(marked(mark)) == 0 })
}

// On a machine with more to do than processors, who kills must not wait for its turn.
func TestAGuardianHasPriorityWhereItMay(t *testing.T) {
	if out, err := exec.Command("nice", "-n", "-40", "nice").Output(); err != nil || string(out) != "-20\n" {
		t.Skip("this user may not raise a priority")
	}
	r := running(t)
	t.Cleanup(r.Dismiss)
	c, _ := guarded(t, time.Minute)
	child := start(t, r, c)
	file := func(name string) string {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", r.wards.guardian.PID(), name))
		return string(text)
	}
	eventually(t, "its nice is -20", func() bool {
		_, rest, _ := strings.Cut(file("stat"), ") ")
		fields := strings.Fields(rest)
		return len(fields) > 16 && fields[16] == "-20"
	})
	// A kernel that groups tasks by session lets others write this but every 100 ms, all together.
	if capable(t, unix.CAP_SYS_ADMIN) && file("autogroup") != "" {
		eventually(t, "so is that of its session", func() bool { return strings.HasSuffix(file("autogroup"), " nice -20\n") })
	}
	child.Extend(boottime())
	waitFor(t, child)
}

// capable tells if we have a capability.
func capable(t *testing.T, which uint) bool {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nCapEff:\t")
	line, _, _ := strings.Cut(rest, "\n")
	all, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return all>>which&1 != 0
}

func TestADeadGuardianIsReplacedBeforeTheNextNote(t *testing.T) {
	r := running(t)
	t.Cleanup(r.Dismiss)
	c, mark := guarded(t, 3*time.Second)
	child := start(t, r, c)
	guardian := func() *Child {
		r.wards.mu.Lock()
		defer r.wards.mu.Unlock()
		return r.wards.guardian
	}
	old := guardian()
	<-time.After(2 * shortLife)
	if err := old.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is replaced", func() bool { return guardian() != old })
	waitFor(t, child) // at its deadline, of which the second one was told
	eventually(t, "nothing is left", func() bool { return len(marked(mark)) == 0 })
}

// helperWrapper starts a tree that must end, and waits.
func helperWrapper() error {
	mark := "TREE=" + os.Getenv("WRAPPER_MARK")
	ttl, err := time.ParseDuration(os.Getenv("WRAPPER_TTL"))
	if err != nil {
		return err
	}
	r := NewReaper()
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(context.Background()) })
	c := sh(tree)
	c.Env = append(c.Env, mark)
	c.Deadline = boottime() + time.Minute
	child, err := r.Start(c)
	if err != nil {
		return err
	}
	for len(marked(mark)) < treeSize {
		time.Sleep(5 * time.Millisecond)
	}
	child.Extend(boottime() + ttl)
	fmt.Println(child.PID(), r.wards.guardian.PID())
	wg.Wait()
	return nil
}

func TestAGuardianOutlivesWhoStartedIt(t *testing.T) {
	for _, test := range []struct {
		sig   syscall.Signal
		ttl   time.Duration
		early time.Duration // how long before its deadline it may be killed
	}{
		{syscall.SIGKILL, time.Minute, time.Minute},
		{syscall.SIGSTOP, 2 * time.Second, 0},
	} {
		t.Run(test.sig.String(), func(t *testing.T) {
			r := running(t)
			mark := markOf(t)
			out, in, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			c := self("wrapper")
			c.Env = append(c.Env, "WRAPPER_MARK="+strings.TrimPrefix(mark, "TREE="), "WRAPPER_TTL="+test.ttl.String())
			c.Stdout = in
			w := start(t, r, c)
			in.Close()
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			_, guardian, _ := strings.Cut(strings.TrimSpace(line), " ")
			gpid, err := strconv.Atoi(guardian)
			if err != nil {
				t.Fatal(line)
			}
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", gpid))
			t.Logf("the guardian: %s", rss(text))
			began := time.Now()
			if err := syscall.Kill(w.PID(), test.sig); err != nil {
				t.Fatal(err)
			}
			eventually(t, "nothing of the tree is left", func() bool { return len(marked(mark)) == 0 })
			if took := time.Since(began); took > test.ttl-test.early+2*time.Second {
				t.Errorf("it took %v", took)
			}
			if test.sig == syscall.SIGSTOP {
				if p, ok := look(gpid); !ok || !p.alive() {
					t.Error("the guardian ended")
				}
				_ = syscall.Kill(w.PID(), syscall.SIGKILL)
			}
			eventually(t, "the guardian is gone", func() bool { p, ok := look(gpid); return !ok || !p.alive() })
		})
	}
}

func rss(status []byte) string {
	for line := range bytes.Lines(status) {
		if bytes.HasPrefix(line, []byte("VmRSS")) {
			return string(bytes.TrimSpace(line))
		}
	}
	return "RSS unknown"
}

// A number that was given to another process is not what was meant.
func TestAWardIsNotAnotherProcessWithItsNumber(t *testing.T) {
	at := func(pid, ppid, pgrp int, start uint64) *proc {
		return &proc{pid: pid, ppid: ppid, pgrp: pgrp, sid: pgrp, start: start, state: 'S', threads: 1}
	}
	const none = 1 << 30 // above all numbers, so that no environment is read
	procs := map[int]*proc{
		none + 1: at(none+1, none, none+1, 500), // the number of the ward
		none + 2: at(none+2, none+1, none+1, 600),
		none + 3: at(none+3, none, none+3, 450),   // was seen to be of it
		none + 4: at(none+4, none+3, none+4, 700), // below that
	}
	w := &ward{note: note{Seq: 7, PID: none + 1, Start: 400}, seen: map[identity]bool{{none + 3, 450}: true}}
	found := map[int]bool{}
	for _, p := range w.find(procs, "run") {
		found[p.pid] = true
	}
	if len(found) != 2 || !found[none+3] || !found[none+4] {
		t.Errorf("found %v", found)
	}
	w.Start = 500
	if found := w.find(procs, "run"); len(found) != 4 {
		t.Errorf("found %v", found)
	}
}

// What is near is killed before the cookie of each process is read, which takes as long as who is read from.
func TestAWardIsFoundByItsCookieOnlyWhereThatIsLookedAt(t *testing.T) {
	r := running(t)
	child := start(t, r, sh("sleep 1000"))
	eventually(t, "it has its environment", func() bool { seq, _ := readCookie(child.PID(), r.run); return seq == child.seq })
	procs, err := readProcs()
	if err != nil {
		t.Fatal(err)
	}
	w := &ward{note: note{Seq: child.seq}, seen: make(map[identity]bool)} // its number is not known
	if found := w.find(procs, ""); len(found) != 0 {
		t.Errorf("without cookies: %v", found)
	}
	if found := w.find(procs, r.run); len(found) == 0 || found[0].pid != child.PID() {
		t.Errorf("by cookies: %v", found)
	}
	w.PID, w.Start, w.seen = int64(child.PID()), procs[child.PID()].start, make(map[identity]bool)
	if found := w.find(procs, ""); len(found) == 0 {
		t.Error("it is not found by its number")
	}
}

func FuzzNotes(f *testing.F) {
	f.Add([]byte("12345678123456781234567812345678"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < noteSize {
			return
		}
		n := readNote(b)
		if !bytes.Equal(n.bytes(), b[:noteSize]) {
			t.Errorf("%+v", n)
		}
		g := &guardian{wards: make(map[uint64]*ward)}
		_ = g.take(n)
	})
}
