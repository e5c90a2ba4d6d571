//go:build linux

package command

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// trees counts those that were left, so that the programs of each can be told apart.
var trees atomic.Int64

// leaving starts a script and returns after it ended, which it does once all in the background has begun: each sleep
// of the script runs, whose time ends in "@".
func leaving(t *testing.T, r *Reaper, script string, env ...string) *Child {
	t.Helper()
	own := fmt.Sprintf("%07d%04d", os.Getpid(), trees.Add(1)) // digits behind the point
	begun := filepath.Join(t.TempDir(), "begun")
	c := sh(strings.ReplaceAll(script, "@", own) + "\nuntil [ -e '" + begun + "' ]; do sleep 0.01; done")
	c.Env = append(c.Env, env...)
	child := start(t, r, c)
	eventually(t, "all has begun", func() bool { return sleeping(own) >= strings.Count(script, "@") })
	write(t, begun, "", 0o600)
	if s := waitFor(t, child); !s.Success() {
		t.Fatal(s)
	}
	return child
}

// sleeping counts the processes that sleep for a time that ends so.
func sleeping(own string) (n int) {
	names, _ := readDirNames("/proc")
	for _, name := range names {
		line, _ := os.ReadFile("/proc/" + name + "/cmdline")
		if bytes.HasPrefix(line, []byte("sleep\x00")) && bytes.HasSuffix(line, []byte(own+"\x00")) {
			n++
		}
	}
	return n
}

func TestNothingSurvivesTheExit(t *testing.T) {
	r := running(t)
	for name, script := range map[string]string{
		"a child in the group":                    "sleep 1000.@ &",
		"a child in a session of its own":         "setsid sleep 1000.@ &",
		"a double fork into a session of its own": "setsid sh -c 'sleep 1000.@ & exit' &",
		"a double fork within the group":          "(sleep 1000.@ &)",
		"a grandchild that holds stdout":          "sh -c 'sleep 1000.@ & wait' &",
		"a child that renamed its group":          "set -m; sleep 1000.@ & set +m",
		"a child that ignores TERM":               "sh -c 'trap \"\" TERM; while :; do sleep 1.@; done' &",
		"one that ignores TERM in its session":    "setsid sh -c 'trap \"\" TERM; while :; do sleep 1.@; done' &",
		"an empty environment in the group":       "env -i sleep 1000.@ &",
		"an empty environment whose child knows":  `C="$PROCESS_WRAPPER_COOKIE"; setsid env -i sh -c "PROCESS_WRAPPER_COOKIE='$C' sleep 1000.@ & wait" &`,
		"a tree below a setsid child":             "setsid sh -c 'sleep 1000.@ & sh -c \"sleep 1000.@ & wait\" & wait' &",
		"one that keeps forking":                  "setsid sh -c 'while :; do sleep 0.01@; done' &",
	} {
		t.Run(name, func(t *testing.T) {
			mark := markOf(t)
			bystander := start(t, r, sh("setsid sleep 1000 & (sleep 1000 &); sleep 1000"))
			whole := func() bool { return len(marked(cookie(r.run, bystander.seq, "test"))) >= 4 }
			eventually(t, "another process's tree is there", whole)
			child := leaving(t, r, script, mark)
			const grace = 200 * time.Millisecond
			began := time.Now()
			n, err := child.Sweep(t.Context(), grace)
			took := time.Since(began)
			if n == 0 || err != nil {
				t.Errorf("swept %d, %v", n, err)
			}
			if left := append(marked(mark), groupOf(child.PID())...); len(left) > 0 {
				t.Errorf("%v survive", left)
			}
			if took > grace+5*time.Second {
				t.Errorf("took %v", took)
			}
			eventually(t, "another process's tree is whole", whole)
		})
	}
}

func TestSweepOfNothingMakesNoPass(t *testing.T) {
	r := running(t)
	start(t, r, sh("sleep 1000")) // living children are no reason
	c := start(t, r, sh("exit 0"))
	waitFor(t, c)
	r.passes.turn.Lock() // a pass would wait for this
	n, err := c.Sweep(t.Context(), time.Second)
	r.passes.turn.Unlock()
	if n != 0 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
}

func TestOldOrphansMakeNoPass(t *testing.T) {
	r := running(t)
	daemon := start(t, r, sh("(sleep 1000 &); sleep 1000"))
	eventually(t, "an orphan", func() bool { return r.lookAtChildren().newest > 0 })
	eventually(t, "the whole group", func() bool { return len(groupOf(daemon.PID())) == 3 })
	c := start(t, r, sh("exit 0"))
	waitFor(t, c)
	r.passes.turn.Lock()
	n, err := c.Sweep(t.Context(), time.Second)
	r.passes.turn.Unlock()
	if n != 0 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if len(groupOf(daemon.PID())) != 3 {
		t.Error("the orphan of a living process was hit")
	}
}

func TestOneThatCannotBeFoundAnyMoreIsAwaitedAllTheSame(t *testing.T) {
	r := running(t)
	c := start(t, r, sh("trap '' TERM; echo; while :; do sleep 0.05; done"))
	p, ok := look(c.PID())
	if !ok {
		t.Fatal("not started")
	}
	looks := 0
	n, err := r.clear(t.Context(), 50*time.Millisecond, killWait, quarry{find: func() ([]proc, error) {
		if looks++; looks == 1 {
			return []proc{p}, nil
		}
		return nil, nil // as once its memory, and so its cookie, is gone
	}})
	if now, ok := look(p.pid); ok && now.start == p.start && now.alive() {
		t.Error("still there")
	}
	if n != 1 || err != nil || looks < 2 {
		t.Errorf("%d signalled in %d looks, %v", n, looks, err)
	}
}

func TestSweepNeedsAnExit(t *testing.T) {
	r := running(t)
	c := start(t, r, sh("sleep 1000"))
	if _, err := c.Sweep(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "still runs") {
		t.Error(err)
	}
}

func TestSweepKillsWhenContextEnds(t *testing.T) {
	r := running(t)
	c := leaving(t, r, "sh -c 'trap \"\" TERM; while :; do sleep 1.@; done' &")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	if n, err := c.Sweep(ctx, maxGrace); n == 0 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if took := time.Since(began); took >= maxGrace {
		t.Errorf("waited %v, the whole grace", took)
	}
}

func TestSweepWaitsNoLongerThanItsOwnGrace(t *testing.T) {
	r := running(t)
	c := leaving(t, r, "sh -c 'trap \"\" TERM; while :; do sleep 1.@; done' &")
	began := time.Now()
	if n, err := c.Sweep(t.Context(), time.Hour); n == 0 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if took := time.Since(began); took < maxGrace || took > 3*maxGrace {
		t.Errorf("it took %v, should be %v", took, maxGrace)
	}
}

func TestManyLeaveOrphansAtOnce(t *testing.T) {
	r := running(t)
	n := 200
	mark := markOf(t)
	var wg sync.WaitGroup
	for range n {
		c := sh("setsid sleep 1000 & sleep 0.5")
		c.Env = append(c.Env, mark)
		child := start(t, r, c)
		wg.Go(func() {
			<-child.Exited()
			if _, err := child.Sweep(t.Context(), time.Second); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left := marked(mark); len(left) > 0 {
		t.Errorf("%d survive", len(left))
	}
}

// TestBook pins who owns whom, without processes.
func TestBook(t *testing.T) {
	const us, living, dead = 10, 20, 30
	base := []proc{
		{pid: 1, ppid: 0, pgrp: 1, sid: 1},
		{pid: us, ppid: 1, pgrp: us, sid: us},
		{pid: living, ppid: us, pgrp: living, sid: us},
	}
	for _, tt := range []struct {
		name    string
		procs   []proc
		cookies map[int]uint64
		orphans map[int]uint64
		owned   string
		below   int
	}{
		{name: "nothing is left", below: 1},
		{name: "a member of the group", procs: []proc{{pid: 40, ppid: us, pgrp: dead, sid: us}}, owned: "40", below: 2},
		{name: "a member of the session", procs: []proc{{pid: 40, ppid: us, pgrp: 40, sid: dead}}, owned: "40", below: 2},
		{name: "one with the cookie", procs: []proc{{pid: 40, ppid: us, pgrp: 40, sid: 40}}, cookies: map[int]uint64{40: 3}, owned: "40", below: 2},
		{name: "one with another's cookie", procs: []proc{{pid: 40, ppid: us, pgrp: 40, sid: 40}}, cookies: map[int]uint64{40: 2}, below: 2},
		{name: "one without cookie", procs: []proc{{pid: 40, ppid: us, pgrp: 40, sid: 40}}, below: 2},
		{name: "the child of one with the cookie", procs: []proc{{pid: 40, ppid: us, pgrp: 40, sid: 40}, {pid: 41, ppid: 40, pgrp: 41, sid: 41}}, cookies: map[int]uint64{40: 3}, owned: "40 41", below: 3},
		{name: "the parent of one with the cookie", procs: []proc{{pid: 40, ppid: us, pgrp: 40, sid: 40}, {pid: 41, ppid: 40, pgrp: 41, sid: 41}}, cookies: map[int]uint64{41: 3}, owned: "40 41", below: 3},
		{name: "one in the session of one with the cookie", procs: []proc{{pid: 40, ppid: us, pgrp: 40, sid: 40}, {pid: 41, ppid: us, pgrp: 41, sid: 40}}, cookies: map[int]uint64{40: 3}, owned: "40 41", below: 3},
		{name: "unknown in a session that only a stranger is in", procs: []proc{{pid: 40, ppid: us, pgrp: 40, sid: 40}, {pid: 41, ppid: us, pgrp: 41, sid: 41}}, cookies: map[int]uint64{40: 3}, owned: "40", below: 3},
		{name: "a chain of clues", procs: []proc{{pid: 40, ppid: us, pgrp: 40, sid: 40}, {pid: 41, ppid: us, pgrp: 41, sid: 40}, {pid: 42, ppid: 41, pgrp: 42, sid: 42}, {pid: 43, ppid: us, pgrp: 43, sid: 42}}, cookies: map[int]uint64{40: 3}, owned: "40 41 42 43", below: 5},
		{name: "our own session proves nothing", procs: []proc{{pid: 40, ppid: us, pgrp: 40, sid: us}, {pid: 41, ppid: us, pgrp: 41, sid: us}}, cookies: map[int]uint64{40: 3}, owned: "40", below: 3},
		{name: "below a living child, whatever it carries", procs: []proc{{pid: 40, ppid: living, pgrp: dead, sid: dead}}, cookies: map[int]uint64{40: 3}, below: 2},
		{name: "not below us, whatever it carries", procs: []proc{{pid: 40, ppid: 1, pgrp: dead, sid: dead}}, cookies: map[int]uint64{40: 3}, below: 1},
		{name: "an orphan that was there before the child", procs: []proc{{pid: 40, ppid: us, pgrp: dead, sid: us}}, orphans: map[int]uint64{40: 2}, below: 2},
		{name: "a zombie", procs: []proc{{pid: 40, ppid: us, pgrp: dead, sid: us, state: 'Z', threads: 1}}, below: 1},
		{name: "a process whose first thread ended", procs: []proc{{pid: 40, ppid: us, pgrp: dead, sid: us, state: 'Z', threads: 3}}, owned: "40", below: 2},
		{name: "a parent younger than its child, which is another's reused pid", procs: []proc{{pid: 40, ppid: us, pgrp: dead, sid: us, start: 9}, {pid: 41, ppid: 40, pgrp: 41, sid: 41, start: 5}}, owned: "40", below: 2},
		{name: "a circle, as a torn read may show", procs: []proc{{pid: 40, ppid: 41, pgrp: dead}, {pid: 41, ppid: 40, pgrp: dead}}, below: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &Child{pid: dead, seq: 3, group: true}
			b := &book{self: us, procs: make(map[int]*proc), living: map[int]bool{living: true}, orphans: tt.orphans,
				bySeq: map[uint64]*Child{3: c}, byPID: map[int]*Child{dead: c}, cookies: tt.cookies}
			for _, p := range append(base, tt.procs...) {
				if p.state == 0 {
					p.state = 'S'
				}
				b.procs[p.pid] = &p
				if b.cookies == nil {
					b.cookies = make(map[int]uint64)
				}
				if _, ok := b.cookies[p.pid]; !ok {
					b.cookies[p.pid] = 0
				}
			}
			census := b.close()
			var owned []string
			for pid := range 100 {
				for _, p := range census.of[c] {
					if p.pid == pid {
						owned = append(owned, fmt.Sprint(pid))
					}
				}
			}
			if got := strings.Join(owned, " "); got != tt.owned || len(census.below) != tt.below {
				t.Errorf("owned %q, %d below us; want %q, %d", got, len(census.below), tt.owned, tt.below)
			}
		})
	}
}

func TestSignalSparesAReusedPID(t *testing.T) {
	r := running(t)
	c := start(t, r, sh("sleep 1000"))
	p, ok := look(c.PID())
	if !ok {
		t.Fatal("cannot read it")
	}
	for name, change := range map[string]func(*proc){
		"it started at another time": func(p *proc) { p.start-- },
		"it has another parent":      func(p *proc) { p.ppid++ },
	} {
		stale := p
		change(&stale)
		if changed, err := stale.signal(9); !changed || err != nil {
			t.Errorf("%s: %v, %v", name, changed, err)
		}
	}
	if now, ok := look(c.PID()); !ok || !now.alive() {
		t.Fatal("it was hit")
	}
	if changed, err := p.signal(9); changed || err != nil {
		t.Fatal(changed, err)
	}
	if s := waitFor(t, c); s.Code() != 137 {
		t.Error(s)
	}
}

func FuzzParseStat(f *testing.F) {
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add([]byte("12 (a) b ) S (c)) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 99 1"))
	f.Add([]byte("12 () Z 0 0 0"))
	f.Add([]byte(")("))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parseStat(b)
		if ok && p.pid <= 0 {
			t.Errorf("%q has pid %d", b, p.pid)
		}
	})
}

func FuzzFindCookie(f *testing.F) {
	f.Add([]byte("A=1\x00"+cookieName+"=run:7:x\x00"), "run")
	f.Fuzz(func(t *testing.T, env []byte, run string) {
		if seq := findCookie(env, run); seq != 0 && !strings.Contains(string(env), run+":") {
			t.Errorf("%q has cookie %d of %q", env, seq, run)
		}
	})
}
