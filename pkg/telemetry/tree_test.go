package telemetry

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

const us = 1

// looker feeds a forest.
type looker struct{ forest }

func newLooker() *looker {
	return &looker{forest{self: us, roots: make(map[int32]*tree)}}
}

func (l *looker) look(stats ...stat) {
	l.prev, l.cur = l.cur, stats
	l.divide()
}

func sec(n int) time.Duration { return time.Duration(n) * time.Second }

func TestTreesAreDividedByAncestry(t *testing.T) {
	t.Parallel()
	l := newLooker()
	web, db := &tree{}, &tree{}
	l.roots[10], l.roots[20] = web, db
	looks := [][]stat{{
		{pid: us, ppid: 0, group: us, session: us},
		{pid: 5, ppid: us, group: 5},                // a probe of ours
		{pid: 10, ppid: us, group: 10},              // web
		{pid: 11, ppid: 10, group: 10},              // its child
		{pid: 12, ppid: 11, group: 12, session: 12}, // its daemon
		{pid: 20, ppid: us, group: 20},              // db
		{pid: 21, ppid: us, group: 20},              // an orphan of its group
		{pid: 22, ppid: 21, group: 22},              // and its child
		{pid: 23, ppid: us, group: 23, session: 10}, // an orphan of web's session
		{pid: 30, ppid: 0, group: 0},                // not ours at all
		{pid: 31, ppid: 32, group: 31},              // a ring
		{pid: 32, ppid: 31, group: 32},
		{pid: 33, ppid: 99, group: 33}, // its parent is gone
	}, {
		{pid: us, ppid: 0, group: us, session: us},
		{pid: 10, ppid: us, group: 10},
		{pid: 12, ppid: us, group: 12, session: 12}, // now an orphan, without a trace of web
		{pid: 13, ppid: 12, group: 13, session: 12},
		{pid: 20, ppid: us, group: 20},
		{pid: 22, start: 1, ppid: us, group: 22}, // the pid was used again
	}}
	want := []map[int32]*tree{
		{10: web, 11: web, 12: web, 20: db, 21: db, 22: db, 23: web},
		{10: web, 12: web, 13: web, 20: db},
	}
	for i, stats := range looks {
		l.look(stats...)
		for _, s := range l.cur {
			if s.tree != want[i][s.pid] {
				t.Errorf("look %d: pid %d is in the wrong tree", i, s.pid)
			}
		}
	}
}

func TestCPUTime(t *testing.T) {
	t.Parallel()
	main := func(own, waited int) stat { return stat{pid: 10, ppid: us, own: sec(own), waited: sec(waited)} }
	worker := func(pid int32, own, waited int) stat {
		return stat{pid: pid, ppid: 10, own: sec(own), waited: sec(waited)}
	}
	under := func(pid, ppid int32, own int) stat { return stat{pid: pid, ppid: ppid, own: sec(own)} }
	cases := []struct {
		name  string
		looks [][]stat
		want  []int // seconds after each look
	}{
		{"what it had used before counts", [][]stat{{main(5, 2)}}, []int{7}},
		{"it grows", [][]stat{{main(1, 0)}, {main(3, 0)}, {main(3, 0)}}, []int{1, 3, 3}},
		{"a worker counts", [][]stat{{main(1, 0), worker(11, 4, 0)}, {main(1, 0), worker(11, 6, 0)}}, []int{5, 7}},
		{"a worker that was waited for does not count twice", [][]stat{{main(1, 0), worker(11, 4, 0)}, {main(1, 5)}, {main(2, 5)}}, []int{5, 6, 7}},
		{"a worker that was never seen counts", [][]stat{{main(1, 0)}, {main(1, 3)}}, []int{1, 4}},
		{"an orphan that ends keeps what it used", [][]stat{{main(1, 0), {pid: 11, ppid: us, group: 10, own: sec(4)}}, {main(2, 0)}}, []int{5, 6}},
		{"one that is gone before its parent shows it is settled in the next look", [][]stat{{main(1, 0), worker(11, 4, 0)}, {main(1, 0)}, {main(1, 5)}, {main(1, 6)}}, []int{5, 5, 6, 7}},
		{"one whose parent showed it too early is settled in the next look", [][]stat{{main(1, 0), worker(11, 4, 0)}, {main(1, 4), worker(11, 4, 0)}, {main(1, 4)}, {main(1, 10)}}, []int{5, 9, 9, 11}},
		{"a grandchild is waited for by what is gone itself", [][]stat{{main(0, 0), worker(11, 1, 0), under(12, 11, 3)}, {main(0, 5)}}, []int{4, 5}},
		{"a new incarnation goes on", [][]stat{{main(5, 0)}, {{pid: 20, ppid: us, own: sec(1)}}, {{pid: 20, ppid: us, own: sec(2)}}}, []int{5, 6, 7}},
		{"a pid that was used again is another process", [][]stat{{main(5, 0)}, {{pid: 10, start: 1, ppid: us, own: sec(1)}}}, []int{5, 6}},
		{"an adopted orphan goes on", [][]stat{{main(1, 0), worker(11, 4, 0)}, {main(1, 0), {pid: 11, ppid: us, own: sec(6)}}}, []int{5, 7}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLooker()
			web := &tree{}
			l.roots[10], l.roots[20] = web, web
			for i, stats := range c.looks {
				l.look(stats...)
				if web.cpu != sec(c.want[i]) {
					t.Errorf("look %d: %v, want %ds", i, web.cpu, c.want[i])
				}
			}
		})
	}
}

// TestCPUTimeOfAnyTree lets processes fork, work, end, and wait at random. The
// counter never falls, and is never more than what was used; it is exactly
// that where every process is waited for by its parent.
func TestCPUTimeOfAnyTree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		orphans := rapid.Bool().Draw(t, "orphans")
		l := newLooker()
		web := &tree{}
		l.roots[10] = web
		procs := []stat{{pid: 10, ppid: us, group: 10}}
		next := int32(11)
		var used, last time.Duration
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			i := rapid.IntRange(0, len(procs)-1).Draw(t, "process")
			switch rapid.IntRange(0, 4).Draw(t, "does") {
			case 0: // fork
				procs = append(procs, stat{pid: next, ppid: procs[i].pid, group: 10})
				next++
			case 1, 2: // work
				d := sec(rapid.IntRange(1, 9).Draw(t, "seconds"))
				procs[i].own += d
				used += d
			case 3: // end
				procs = end(procs, i, orphans)
			case 4:
				l.look(append([]stat(nil), procs...)...)
				if web.cpu < last || web.cpu > used || !orphans && web.cpu != used {
					t.Fatalf("counted %v after %v, used %v", web.cpu, last, used)
				}
				last = web.cpu
			}
		}
	})
}

// end ends a process: its children become orphans, and its parent waits for it,
// unless that is us. Without orphans only what has no children ends.
func end(procs []stat, i int, orphans bool) []stat {
	gone := procs[i]
	if gone.pid == 10 || gone.ppid == us {
		return procs
	}
	for j := range procs {
		if procs[j].ppid == gone.pid {
			if !orphans {
				return procs
			}
			procs[j].ppid = us
		}
	}
	for j := range procs {
		if procs[j].pid == gone.ppid {
			procs[j].waited += gone.total()
		}
	}
	return append(procs[:i], procs[i+1:]...)
}
