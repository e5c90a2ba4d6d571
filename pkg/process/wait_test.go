package process

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
}

func (g *lock) Acquire(ctx context.Context) error {
	if err := sleepUntil(ctx, time.Now().Add(g.wait)); err != nil {
		return err
	}
	g.s.say("acquired")
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
		want := "0s standby|7s acquired|7s starting|7s running|7.1s ready|10s stopping|10s 101 gets 15|10s backoff|11s 101 cleaned up|11s released|" +
			"11s standby|18s acquired|18s starting|18s running|19s ready|20s stopping|20s 102 gets 15|21s 102 cleaned up|21s released|21s stopped"
		// Released comes before the last transition, which ends the incarnation.
		if got != want && got != strings.Replace(want, "21s released|21s stopped", "21s stopped|21s released", 1) {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	})
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
