package telemetry

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// scene feeds a sampler by hand.
type scene struct {
	*Sampler
	system *duringSystem
	board  *status.Board
}

// duringSystem lets something happen during a look, after the processes were seen.
type duringSystem struct {
	fakeSystem
	during func()
}

func (d *duringSystem) scan(to []stat) ([]stat, error) {
	to, err := d.fakeSystem.scan(to)
	if d.during != nil {
		d.during()
	}
	return to, err
}

func newScene() *scene {
	sys := &duringSystem{}
	s := &scene{newSampler(quiet(), sys), sys, status.NewBoard()}
	s.forest.self = us
	return s
}

// at looks at these processes while the board says that pid is the main one, 0
// for none.
func (s *scene) at(pid int, stats ...stat) {
	st := status.State{Name: "web", Phase: status.Backoff}
	if pid != 0 {
		st.Phase, st.PID = status.Running, pid
	}
	s.board.Put(st)
	s.system.set(stats...)
	snap, _ := s.board.Load()
	s.look(context.Background(), snap, time.Now())
}

func (s *scene) cpu() time.Duration {
	u, _ := s.Usage("web")
	return u.CPU
}

func TestCPUTimeOfAnExitCountsOnce(t *testing.T) {
	t.Parallel()
	main := func(pid int32, own, waited int) stat {
		return stat{pid: pid, ppid: us, own: sec(own), waited: sec(waited)}
	}
	worker := func(own int) stat { return stat{pid: 11, ppid: 10, group: 10, own: sec(own)} }
	orphan := func(own int) stat { return stat{pid: 11, ppid: us, group: 10, own: sec(own)} }
	look := func(pid int, stats ...stat) func(*scene) { return func(s *scene) { s.at(pid, stats...) } }
	ends := func(pid, cpu int) func(*scene) { return func(s *scene) { s.Ended("web", pid, sec(cpu)) } }
	lookWhileItEnds := func(pid, cpu int, stats ...stat) func(*scene) {
		return func(s *scene) {
			s.system.during = func() { s.Ended("web", pid, sec(cpu)) }
			s.at(pid, stats...)
			s.system.during = nil
		}
	}
	type steps []func(*scene)
	cases := []struct {
		name  string
		steps steps
		want  []int // seconds after each step
	}{
		{"a job that no look saw", steps{ends(10, 4)}, []int{4}},
		{"many of them", steps{ends(10, 4), ends(11, 1), ends(12, 2)}, []int{4, 5, 7}},
		{"one that used nothing", steps{ends(10, 0), ends(11, 1)}, []int{0, 1}},
		{"what came after the last look", steps{look(10, main(10, 3, 0)), ends(10, 5)}, []int{3, 5}},
		{"nothing came after it", steps{look(10, main(10, 3, 0)), ends(10, 3)}, []int{3, 3}},
		{"less than was sampled, as clocks differ", steps{look(10, main(10, 3, 0)), ends(10, 2)}, []int{3, 3}},
		{"a look after the end adds nothing", steps{look(10, main(10, 3, 0)), ends(10, 5), look(10), look(0)}, []int{3, 5, 5, 5}},
		{"the next incarnation goes on", steps{look(10, main(10, 3, 0)), ends(10, 5), look(20, main(20, 2, 0)), ends(20, 4), ends(30, 1)}, []int{3, 5, 7, 9, 10}},
		{"a worker that it waited for, in the look before", steps{look(10, main(10, 1, 0), worker(4)), look(10, main(10, 1, 5)), ends(10, 8)}, []int{5, 6, 8}},
		{"a worker that it waited for after the last look", steps{look(10, main(10, 1, 0), worker(4)), ends(10, 7)}, []int{5, 7}},
		{"a worker that was gone before it showed", steps{look(10, main(10, 1, 0), worker(4)), look(10, main(10, 1, 0)), ends(10, 6)}, []int{5, 5, 6}},
		{"a worker that it left behind", steps{look(10, main(10, 1, 0), worker(4)), ends(10, 1), look(0, orphan(6))}, []int{5, 5, 7}},
		{"a worker that it left behind hides what came late", steps{look(10, main(10, 1, 0), worker(4)), ends(10, 3), look(0, orphan(6))}, []int{5, 5, 7}},
		{"an orphan is not in the status", steps{look(10, main(10, 1, 0), orphan(4)), ends(10, 3), look(0, orphan(6))}, []int{5, 7, 9}},
		{"a child of an orphan is not", steps{look(10, main(10, 1, 0), orphan(4), stat{pid: 12, ppid: 11, own: sec(2)}), ends(10, 3)}, []int{7, 9}},
		{"it ends during a look that saw it", steps{look(10, main(10, 1, 0)), lookWhileItEnds(10, 5, main(10, 4, 0)), look(0)}, []int{1, 5, 5}},
		{"it ends during the first look", steps{lookWhileItEnds(10, 5, main(10, 4, 0)), look(0)}, []int{5, 5}},
		{"it ends during a look that did not see it", steps{look(10, main(10, 1, 0)), lookWhileItEnds(10, 5), look(0)}, []int{1, 5, 5}},
		{"a look fails to see it while it runs", steps{look(10, main(10, 1, 0)), look(10), ends(10, 3)}, []int{1, 1, 3}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			for i, step := range c.steps {
				step(s)
				if s.cpu() != sec(c.want[i]) {
					t.Errorf("step %d: %v, want %ds", i+1, s.cpu(), c.want[i])
				}
			}
		})
	}
}

func TestAJobIsKnownThoughNoLookSawIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		if _, ok := s.Usage("web"); ok {
			t.Error("known before it ran")
		}
		s.Ended("web", 10, 3*time.Second)
		if u, ok := s.Usage("web"); !ok || u != (Usage{Time: time.Now(), CPU: 3 * time.Second}) {
			t.Errorf("%v %+v", ok, u)
		}
		time.Sleep(10 * time.Second)
		s.at(20, stat{pid: 20, ppid: us, own: time.Second})
		if u, _ := s.Usage("web"); u.CPU != 4*time.Second || u.CPUPercent != 10 {
			t.Errorf("%+v", u)
		}
	})
}

// TestCPUTimeOfAnyIncarnation lets a tree work at random, until its main process
// ends. The counter never falls and is never more than what was used; it is
// exactly that where all have ended before, and were waited for.
func TestCPUTimeOfAnyIncarnation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		orphans := rapid.Bool().Draw(t, "orphans")
		s := newScene()
		var used, last time.Duration
		check := func(exact bool) {
			if got := s.cpu(); got < last || got > used || exact && got != used {
				t.Fatalf("counted %v after %v, used %v", got, last, used)
			}
			last = s.cpu()
		}
		for n := range rapid.IntRange(1, 3).Draw(t, "incarnations") {
			first := int32(10 + 100*n)
			procs, next := []stat{{pid: first, ppid: us, group: first}}, first+1
			for range rapid.IntRange(1, 30).Draw(t, "steps") {
				i := rapid.IntRange(0, len(procs)-1).Draw(t, "process")
				switch rapid.IntRange(0, 4).Draw(t, "does") {
				case 0:
					procs = append(procs, stat{pid: next, ppid: procs[i].pid, group: first})
					next++
				case 1, 2:
					d := sec(rapid.IntRange(1, 9).Draw(t, "seconds"))
					procs[i].own += d
					used += d
				case 3:
					if procs[i].pid != first {
						procs = end(procs, i, orphans)
					}
				case 4:
					s.at(int(first), append([]stat(nil), procs...)...)
					check(false)
				}
			}
			for i := len(procs) - 1; i > 0; i-- { // children come after their parents
				procs = end(procs, i, orphans)
			}
			s.Ended("web", int(first), procs[0].total())
			check(!orphans)
		}
	})
}
