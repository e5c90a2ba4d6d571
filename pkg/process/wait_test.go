package process

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
	"github.com/process-wrapper/process-wrapper/pkg/status"
)

func TestDependencies(t *testing.T) {
	tests := []struct {
		condition Condition
		dep       status.Phase
		starts    bool
		fails     bool
	}{
		{IsReady, status.Ready, true, false},
		{IsReady, status.Completed, true, false},
		{IsReady, status.Skipped, true, false},
		{IsReady, status.Running, false, false},
		{IsReady, status.Standby, false, false},
		{IsReady, status.Stopped, false, false},
		{IsReady, status.Failed, false, true},
		{IsStarted, status.Running, true, false},
		{IsStarted, status.Ready, true, false},
		{IsStarted, status.Backoff, false, false},
		{IsStarted, status.Failed, false, true},
		{IsCompleted, status.Completed, true, false},
		{IsCompleted, status.Ready, false, false},
		{IsCompleted, status.Skipped, true, false},
		{IsCompleted, status.Failed, false, true},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%v when the other is %v", tt.condition, tt.dep), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{}
				s.board = status.NewBoard(s)
				s.board.Put(status.State{Name: "db", Phase: status.Waiting})
				cfg := with(func(c *Config) { c.DependsOn = []Dependency{{[]string{"db"}, tt.condition}} })
				_, err := s.run(t, cfg, func() {
					if st := state(s); st.Phase != status.Waiting || !strings.HasPrefix(st.Detail, "for db to be ") {
						t.Errorf("first %s %q", st.Phase, st.Detail)
					}
					s.board.Put(status.State{Name: "db", Phase: tt.dep, ExitCode: 4})
					time.Sleep(time.Second)
					want := status.Waiting
					switch {
					case tt.starts:
						want = status.Ready
					case tt.fails:
						want = status.Failed
					}
					if got := state(s).Phase; got != want {
						t.Errorf("%s, want %s", got, want)
					}
				})
				if errors.Is(err, ErrDependency) != tt.fails || tt.fails && ExitCode(err) != 4 {
					t.Error(err)
				}
			})
		})
	}
}

// lock is a guard that is had after a while and lost when told.
type lock struct {
	s     *stage
	wait  time.Duration
	fails error
	lost  chan error
	got   func() // runs in the moment in which it is had
}

func (g *lock) Acquire(ctx context.Context, say func(string)) error {
	if g.wait > 0 {
		say("held by another")
	}
	if err := sleepUntil(ctx, time.Now().Add(g.wait)); err != nil {
		return err
	}
	g.s.say("acquired")
	if g.got != nil {
		g.got()
	}
	return g.fails
}

func (g *lock) Hold(ctx context.Context) error {
	select {
	case err := <-g.lost:
		return err
	case <-ctx.Done():
		return nil
	}
}
func (g *lock) Release() { g.s.say("released") }

func TestALockIsHeldFromBeforeTheStartUntilNothingIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{lingers: time.Second}
		g := &lock{s: s, wait: 7 * time.Second, lost: make(chan error)}
		got, _ := s.run(t, with(func(c *Config) { c.Guard = g }), func() {
			s.at(10 * time.Second)
			g.lost <- errBoom
			s.at(20 * time.Second)
			if st := state(s); !errors.Is(st.Cause, ErrLock) || st.Reason != "lock" {
				t.Errorf("%v, %s", st.Cause, st.Reason)
			}
		})
		want := "0s standby|7s acquired|7s starting|7s running|7.1s ready|10s stopping|10s 101 gets 9|10s backoff|10s 101 cleaned up|10s released|" +
			"11s standby|18s acquired|18s starting|18s running|19s ready|20s stopping|20s 102 gets 15|21s 102 cleaned up|21s released|21s stopped"
		// Released comes before the last transition, which ends the incarnation.
		got = strings.Replace(got, "21s stopped|21s released", "21s released|21s stopped", 1)
		if quick := strings.Replace(want, "10s stopping|10s 101 gets 9", "10s 101 gets 9|10s stopping", 1); got != quick && got != strings.Replace(want, "10s stopping|", "", 1) {
			t.Errorf("\n got %s\nwant %s", got, quick)
		}
	})
}

// Whatever goes on, what a lost lock protected is killed in the same moment.
func TestNothingDelaysTheKillWhenTheLockIsLost(t *testing.T) {
	hangs := func(context.Context) error { time.Sleep(30 * time.Second); return nil }
	cases := map[string]struct {
		change  func(*Config)
		ignores bool
		lingers time.Duration
		before  func(*stage) // at 10 s
		want    string
	}{
		"while it drains":                           {ignores: true, before: func(s *stage) { s.stop() }, want: "11s 101 gets 9"},
		"while its preStop hook hangs":              {change: func(c *Config) { c.PreStop = hangs }, before: func(s *stage) { s.stop() }, want: "11s 101 gets 9"},
		"while its postStart hook hangs":            {change: func(c *Config) { c.PostStart = hangs }, want: "11s 101 gets 9"},
		"while a check hangs":                       {change: func(c *Config) { c.Checks = readiness(probe.Func(hangs)) }, want: "11s 101 gets 9"},
		"while an update waits for a hanging check": {change: func(c *Config) { c.Checks = readiness(probe.Func(hangs)) }, before: func(s *stage) { s.p.Update(s.cfg) }, want: "11s 101 gets 9"},
		"while what it left behind gets its grace":  {lingers: time.Minute, before: func(s *stage) { (<-s.children).end(1, 0) }, want: "11s 101 cleaned up"},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{ignores: tt.ignores, lingers: tt.lingers}
				g := &lock{s: s, lost: make(chan error)}
				got, _ := s.run(t, with(func(c *Config) {
					c.Guard = g
					if tt.change != nil {
						tt.change(c)
					}
				}), func() {
					s.at(10 * time.Second)
					if tt.before != nil {
						tt.before(s)
						synctest.Wait()
					}
					s.at(11 * time.Second)
					g.lost <- errBoom
					synctest.Wait()
				})
				if !strings.Contains(got+"|", tt.want+"|") {
					t.Errorf("%s", got)
				}
				if kill := strings.Index(got, tt.want); kill > strings.Index(got, "released") {
					t.Errorf("released before: %s", got)
				}
			})
		})
	}
}

func TestALockIsKeptWhileACommandDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{ignores: true}
		g := &lock{s: s, lost: make(chan error)}
		got, _ := s.run(t, with(func(c *Config) { c.Guard = g }), func() { s.at(10 * time.Second) })
		want := "0s acquired|0s starting|0s running|100ms ready|10s stopping|10s 101 gets 15|20s 101 gets 9|20s stopped|20s released"
		if got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	})
}

func TestAPodThatEndsWaitsForNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		g := &lock{s: s, wait: time.Minute}
		got, _ := s.run(t, with(func(c *Config) { c.Guard = g }), func() { s.at(time.Second); s.halt(); s.at(time.Hour) })
		if want := "0s standby|1s stopped"; got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	})
}

func TestAStandbyIsNotCountedUnlessItIsToBe(t *testing.T) {
	for _, counts := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &stage{}
			g := &lock{s: s, wait: time.Hour}
			_, _ = s.run(t, with(func(c *Config) { c.Guard, c.StandbyUnready, c.StartupDeadline = g, counts, time.Second }), func() {
				s.at(time.Minute)
				snap, _ := s.board.Load()
				if st := state(s); snap.Ready() == counts || st.Dead(time.Now()) || st.Detail != "waiting for its lock: held by another" {
					t.Errorf("StandbyUnready %v: ready %v, %+v", counts, snap.Ready(), st)
				}
			})
		})
	}
}

func TestALockThatCannotBeAskedForBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		g := &lock{s: s, fails: errBoom}
		_, _ = s.run(t, with(func(c *Config) { c.Guard = g }), func() { s.at(time.Hour) })
		if n := strings.Count(strings.Join(s.log, "|"), "acquired"); n < 60 || n > 70 {
			t.Errorf("asked %d times in an hour", n)
		}
	})
}

// preempt has the pod preempted, or left alone again.
func (s *stage) preempt(is bool) {
	s.board.UpdatePod(func(p *status.Pod) { p.Preempted = is })
	synctest.Wait()
}

func TestNothingIsStartedWhileThePodIsPreempted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		got, _ := s.run(t, with(func(c *Config) { c.StartupDeadline = 20 * time.Second }), func() {
			s.at(5 * time.Second)
			s.preempt(true)
			s.at(6 * time.Second)
			(<-s.children).end(1, 0) // what runs may go on, and end
			s.at(time.Hour)
			st := state(s)
			if st.Detail != "not started: the pod is preempted" || st.Restarts != 0 || st.Dead(time.Now()) {
				t.Errorf("%+v", st)
			}
			s.preempt(false)
			s.at(time.Hour + time.Minute)
		})
		want := "0s starting|0s running|100ms ready|6s backoff|7s waiting|1h0m0s starting|1h0m0s running|1h0m1s ready|1h1m0s stopping|1h1m0s 102 gets 15|1h1m0s stopped"
		if got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	})
}

func TestAPreemptedPodStopsWhatItHoldsBackAtOnce(t *testing.T) {
	for name, stop := range map[string]func(s *stage){"told to stop": func(s *stage) { s.stop() }, "halted": func(s *stage) { s.halt() }} {
		synctest.Test(t, func(t *testing.T) {
			s := &stage{}
			s.board = status.NewBoard(s)
			s.preempt(true)
			got, err := s.run(t, defaults(), func() {
				s.at(time.Minute)
				stop(s)
				synctest.Wait()
				if st := state(s); st.Phase != status.Stopped {
					t.Errorf("%s: %+v", name, st)
				}
			})
			if got != "1m0s stopped" || !errors.Is(err, ErrStopped) {
				t.Errorf("%s: %s, %v", name, got, err)
			}
		})
	}
}

func TestAPreemptedPodLeavesTheLockToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		g := &lock{s: s, wait: time.Minute, lost: make(chan error)}
		got, _ := s.run(t, with(func(c *Config) { c.Guard = g }), func() {
			s.at(30 * time.Second)
			s.preempt(true)
			s.at(10 * time.Minute)
			s.preempt(false)
			s.at(12 * time.Minute)
		})
		want := "0s standby|30s waiting|10m0s standby|11m0s acquired|11m0s starting|11m0s running|11m0.1s ready|12m0s stopping|12m0s 101 gets 15|12m0s stopped|12m0s released"
		if got != want && got != strings.Replace(want, "12m0s stopped|12m0s released", "12m0s released|12m0s stopped", 1) {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	})
}

func TestALockThatComesWithThePreemptionIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		s.board = status.NewBoard(s)
		g := &lock{s: s, wait: time.Second, lost: make(chan error), got: func() { s.board.UpdatePod(func(p *status.Pod) { p.Preempted = true }) }}
		got, _ := s.run(t, with(func(c *Config) { c.Guard = g }), func() { s.at(time.Minute) })
		if want := "0s standby|1s acquired|1s released|1s waiting|1m0s stopped"; got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	})
}

func TestACheckReplacesNothingWhileThePodIsPreempted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		got, _ := s.run(t, with(func(c *Config) {
			c.Checks = readiness(script(nil, errBoom, errBoom, errBoom, errBoom, errBoom, errBoom, errBoom))
		}), func() {
			s.at(6 * time.Second)
			s.preempt(true)
			s.at(31 * time.Second) // five failures
			s.preempt(false)
			s.at(35500 * time.Millisecond)
		})
		want := "0s starting|0s running|5s ready|10s running|35s stopping|35s 101 gets 15|35s backoff|35.5s stopped"
		if got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	})
}
