package process

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

func TestHowItEndedIsKnown(t *testing.T) {
	tests := []struct {
		name   string
		cfg    Config
		fails  error
		end    func(*command)
		err    string // of Run
		cause  string
		reason string
		code   int
	}{
		{"exit code", with(func(c *Config) { c.Restart = Never }), nil, func(c *command) { c.end(3, 0) }, "p: exited with code 3", "exited with code 3", "exit", 3},
		{"signal", with(func(c *Config) { c.Restart = Never }), nil, func(c *command) { c.end(0, syscall.SIGSEGV) }, "p: killed by signal 11 (segmentation fault)", "killed by signal 11 (segmentation fault)", "signal", 139},
		{"out of memory", with(func(c *Config) { c.Restart = Never }), nil, func(c *command) { c.exit = &ExitError{Code: 137, Signal: syscall.SIGKILL, OOM: true}; c.end(0, 0) },
			"p: killed by signal 9 (killed): out of memory (the container's memory limit)", "killed by signal 9 (killed): out of memory (the container's memory limit)", "oom", 137},
		{"completed", with(func(c *Config) { c.Restart = Never }), nil, func(c *command) { c.end(0, 0) }, "<nil>", "<nil>", "completed", 0},
		{"start", with(func(c *Config) { c.Restart = Never }), errBoom, nil, "p: start: boom", "start: boom", "start", 1},
		{"too often", with(func(c *Config) { c.MaxRestarts = Limit{Count: 1} }), errBoom, nil,
			"p: more than 1 restarts; the last end: start: boom", "more than 1 restarts; the last end: start: boom", "start", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{fails: tt.fails}
				_, err := s.run(t, tt.cfg, func() {
					if tt.end != nil {
						tt.end(<-s.children)
					}
					time.Sleep(time.Hour)
				})
				st := state(s)
				if fmt.Sprint(err) != tt.err || fmt.Sprint(st.Cause) != tt.cause || st.Reason != tt.reason || st.ExitCode != tt.code {
					t.Errorf("run: %v; cause %v, reason %s, code %d", err, st.Cause, st.Reason, st.ExitCode)
				}
			})
		})
	}
}

func TestACheckThatReplacesIsTheCauseWhateverTheExitCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		cfg := with(func(c *Config) {
			c.Checks = readiness(always(errBoom))
			c.Restart = Never
		})
		_, err := s.run(t, cfg, func() { time.Sleep(time.Minute) })
		var failed *Failure
		if !errors.As(err, &failed) || failed.Code != 143 || !errors.Is(err, errBoom) || state(s).Reason != "probe" {
			t.Errorf("%#v, reason %s", err, state(s).Reason)
		}
	})
}

func TestLivenessCountsFromWhenItWasLastReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		cfg := with(func(c *Config) { c.StartupDeadline = 20 * time.Second })
		_, _ = s.run(t, cfg, func() {
			dead := func() bool { return state(s).Dead(time.Now()) }
			s.at(time.Hour)
			(<-s.children).end(1, 0) // one crash, quickly recovered from
			for range 30 {
				time.Sleep(100 * time.Millisecond)
				if dead() {
					t.Fatal("dead after one crash")
				}
			}
			var crashes sync.WaitGroup
			over := time.After(30 * time.Second)
			crashes.Go(func() {
				for {
					select {
					case c := <-s.children:
						c.end(1, 0)
					case <-over:
						return
					}
				}
			})
			time.Sleep(15 * time.Second)
			if dead() {
				t.Error("dead too early")
			}
			time.Sleep(10 * time.Second)
			if !dead() {
				t.Errorf("alive, un-ready since %v", time.Since(state(s).UnreadySince))
			}
			crashes.Wait()
		})
	})
}

func TestRestartsAreCountedWhenTheyHappen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		_, _ = s.run(t, defaults(), func() {
			(<-s.children).end(1, 0)
			synctest.Wait()
			if st := state(s); st.Restarts != 0 || st.PID != 0 || st.Next.Sub(st.Ended) != time.Second {
				t.Errorf("in the pause: %+v", st)
			}
			<-s.children
			synctest.Wait()
			if st := state(s); st.Restarts != 1 || st.PID != 102 || !st.Next.IsZero() {
				t.Errorf("after it: %+v", st)
			}
		})
	})
}

func TestWhatIsStoppedBeforeItsStartTellsOfNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		cfg := with(func(c *Config) { c.Guard = &lock{s: s, wait: time.Minute} })
		_, _ = s.run(t, cfg, func() { s.at(time.Second); s.halt(); s.at(time.Hour) })
		if st := state(s); st.Phase != status.Stopped || !st.Ended.IsZero() {
			t.Errorf("%+v", st)
		}
	})
}

func TestWhatIsStoppedInItsPauseHasNoNextStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		_, _ = s.run(t, defaults(), func() {
			(<-s.children).end(1, 0)
			synctest.Wait()
			ended := state(s).Ended
			s.stop()
			synctest.Wait()
			if st := state(s); st.Phase != status.Stopped || !st.Next.IsZero() || !st.Ended.Equal(ended) || ExitCode(st.Cause) != 1 {
				t.Errorf("%+v", st)
			}
		})
	})
}

func TestChecksAreForgottenWithTheirIncarnation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		cfg := with(func(c *Config) { c.Checks = readiness(always(errBoom)) })
		_, _ = s.run(t, cfg, func() {
			s.at(14 * time.Second)
			checks := s.board.Checks("p")
			if len(checks) != 1 || checks[0].Failures != 2 || checks[0].Result != status.Fail || !errors.Is(checks[0].Err, errBoom) {
				t.Errorf("%+v", checks)
			}
			s.at(17 * time.Second)
			if n := len(s.board.Checks("p")); n != 0 {
				t.Errorf("%d verdicts on a command that is new", n)
			}
		})
	})
}

func TestJitterStaysWithinItsShare(t *testing.T) {
	var seen []time.Duration
	for range 200 {
		p := pace{backoff: Backoff{Initial: time.Second, Factor: 2, Jitter: 0.1}}
		d, _ := p.next(time.Time{}, 0)
		seen = append(seen, d)
	}
	slices.SortFunc(seen, cmp.Compare)
	if seen[0] < 900*time.Millisecond || seen[199] > 1100*time.Millisecond || seen[199]-seen[0] < 50*time.Millisecond {
		t.Errorf("%v … %v", seen[0], seen[199])
	}
}

func TestPausesNeverOverflow(t *testing.T) {
	b := Backoff{Initial: time.Hour, Factor: 10}
	for n := range 2000 {
		if d := b.Pause(n); d <= 0 {
			t.Fatalf("pause %d is %v", n, d)
		}
	}
}
