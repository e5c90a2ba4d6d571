package process

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
	"github.com/process-wrapper/process-wrapper/pkg/status"
)

func TestTheEndSaysWhetherItTookForce(t *testing.T) {
	for name, tt := range map[string]struct{ ignores, want bool }{
		"one that ends when told":   {false, false},
		"one that has to be killed": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{ignores: tt.ignores}
				_, err := s.run(t, defaults(), func() { s.at(time.Minute) })
				var said interface{ Killed() bool }
				if !errors.Is(err, ErrStopped) || (errors.As(err, &said) && said.Killed()) != tt.want {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

func TestAStartThatWaitsSaysForWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{reads: time.Minute}
		got, _ := s.run(t, defaults(), func() {
			s.at(30 * time.Second)
			if st := state(s); st.Phase != status.Starting || st.Detail != "reading a file" {
				t.Errorf("%+v", st)
			}
			s.at(2 * time.Minute)
			if st := state(s); st.Detail != "" || st.Restarts != 0 {
				t.Errorf("once it runs: %+v", st)
			}
		})
		if want := "0s starting|1m0s running|1m0.1s ready|2m0s stopping|2m0s 101 gets 15|2m0s stopped"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestAStopSaysWhenItKills(t *testing.T) {
	five := 5 * time.Second
	sleepy := func(ctx context.Context) error { return sleepUntil(ctx, time.Now().Add(time.Hour)) }
	for name, tt := range map[string]struct {
		cfg      Config
		do       func(s *stage)
		at, want time.Duration // since the beginning
	}{
		"after the stop timeout":                     {defaults(), func(s *stage) { s.stop() }, 11 * time.Second, 20 * time.Second},
		"a moment later where a hook took all of it": {with(func(c *Config) { c.PreStop = sleepy }), func(s *stage) { s.stop() }, 21 * time.Second, 22 * time.Second},
		"at once where everybody is out of patience": {defaults(), func(s *stage) { s.stop(); s.kill() }, 10 * time.Second, 10 * time.Second},
		"after what the check allows that replaces it": {with(func(c *Config) {
			c.Checks = readiness(script(nil, errBoom, errBoom, errBoom))
			c.Checks[0].Period, c.Checks[0].StopTimeout = 2*time.Second, &five
		}), func(*stage) {}, 12 * time.Second, 16 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{ignores: true}
				var seen atomic.Int64
				s.board = status.NewBoard(s, observer(func(_, st status.State) {
					if st.Phase == status.Stopping && st.PID != 0 {
						seen.Store(int64(st.KillAt.Sub(s.began)))
					}
				}))
				_, _ = s.run(t, tt.cfg, func() {
					s.at(10 * time.Second)
					tt.do(s)
					s.at(tt.at)
					synctest.Wait()
					if got := time.Duration(seen.Load()); got != tt.want {
						t.Errorf("after %v it is killed at %v, want %v", tt.at, got, tt.want)
					}
					s.at(time.Minute)
					if st := state(s); !st.KillAt.IsZero() {
						t.Errorf("when it is gone: %+v", st)
					}
				})
			})
		})
	}
}

func TestLife(t *testing.T) {
	hook := func(d time.Duration, err error) Hook {
		return func(ctx context.Context) error {
			if sleepUntil(ctx, time.Now().Add(d)) != nil {
				return ctx.Err()
			}
			return err
		}
	}
	zero, five := time.Duration(0), 5*time.Second
	tests := []struct {
		name  string
		cfg   Config
		setup func(s *stage)
		do    func(s *stage)
		want  string
	}{
		{
			name: "without checks it is ready once it has settled, and stops when told",
			cfg:  defaults(),
			do:   func(s *stage) { s.at(time.Minute) },
			want: "0s starting|0s running|100ms ready|1m0s stopping|1m0s 101 gets 15|1m0s stopped",
		},
		{
			name: "a check is the only way to become ready, and its delay and period are kept",
			cfg:  with(func(c *Config) { c.Checks = readiness(script(errBoom, nil)) }),
			do:   func(s *stage) { s.at(11 * time.Second) },
			want: "0s starting|0s running|10s ready|11s stopping|11s 101 gets 15|11s stopped",
		},
		{
			name: "failures below the threshold only un-ready, and a success resets the count",
			cfg:  with(func(c *Config) { c.Checks = readiness(script(nil, errBoom, errBoom, nil, errBoom, errBoom)) }),
			do:   func(s *stage) { s.at(36 * time.Second) },
			want: "0s starting|0s running|5s ready|10s running|20s ready|25s running|35s ready|36s stopping|36s 101 gets 15|36s stopped",
		},
		{
			name:  "the threshold replaces the command, and SIGKILL follows the stop timeout",
			cfg:   with(func(c *Config) { c.Checks = readiness(always(errBoom)) }),
			setup: func(s *stage) { s.ignores = true },
			do:    func(s *stage) { s.at(27 * time.Second) },
			want:  "0s starting|0s running|15s stopping|15s 101 gets 15|25s 101 gets 9|25s backoff|26s starting|26s running|27s stopping|27s 102 gets 15|37s 102 gets 9|37s stopped",
		},
		{
			name: "the timer of a stop that was over in time never kills the next command",
			cfg:  with(func(c *Config) { c.Checks = readiness(script(errBoom, errBoom, errBoom, nil)) }),
			do:   func(s *stage) { s.at(time.Minute) },
			want: "0s starting|0s running|15s stopping|15s 101 gets 15|15s backoff|16s starting|16s running|21s ready|1m0s stopping|1m0s 102 gets 15|1m0s stopped",
		},
		{
			name: "one crash is followed by a pause, and by being believed after as long again",
			cfg:  defaults(),
			do: func(s *stage) {
				s.at(3 * time.Second)
				(<-s.children).end(1, 0)
				s.at(7 * time.Second)
			},
			want: "0s starting|0s running|100ms ready|3s backoff|4s starting|4s running|5s ready|7s stopping|7s 102 gets 15|7s stopped",
		},
		{
			name: "a command that ends at once is never ready, and its pauses grow to the longest",
			cfg:  with(func(c *Config) { c.Backoff.Max = 4 * time.Second }),
			setup: func(s *stage) {
				s.board = status.NewBoard(s, observer(func(_, st status.State) {
					if st.Phase == status.Running {
						(<-s.children).end(0, 0)
					}
				}))
			},
			do:   func(s *stage) { s.at(12 * time.Second) },
			want: "0s starting|0s running|0s backoff|1s starting|1s running|1s backoff|3s starting|3s running|3s backoff|7s starting|7s running|7s backoff|11s starting|11s running|11s backoff|12s stopped",
		},
		{
			name: "a command that passes its check and crashes in a loop is not ready in between",
			cfg: with(func(c *Config) {
				c.Checks = []Check{{Name: "tcp", Probe: always(nil), Period: time.Second, Gate: true}}
			}),
			do: func(s *stage) {
				for range 4 {
					c := <-s.children
					time.Sleep(6 * time.Second)
					c.end(1, 0)
				}
				<-s.children
			},
			want: "0s starting|0s running|0s ready|6s backoff|7s starting|7s running|8s ready|13s backoff|15s starting|15s running|21s backoff|25s starting|25s running|31s backoff|39s starting|39s running|39s stopping|39s 105 gets 15|39s stopped",
		},
		{
			name: "after a long run the next start comes at once, and then pauses grow from the first",
			cfg:  defaults(),
			do: func(s *stage) {
				s.at(11 * time.Minute)
				(<-s.children).end(1, 0)
				(<-s.children).end(1, 0)
				(<-s.children).end(1, 0)
				<-s.children
			},
			want: "0s starting|0s running|100ms ready|11m0s backoff|11m0s starting|11m0s running|11m0s backoff|11m1s starting|11m1s running|11m1s backoff|11m3s starting|11m3s running|11m3s stopping|11m3s 104 gets 15|11m3s stopped",
		},
		{
			name: "onFailure completes on exit code 0",
			cfg:  with(func(c *Config) { c.Restart = OnFailure }),
			do: func(s *stage) {
				(<-s.children).end(2, 0)
				(<-s.children).end(0, 0)
				synctest.Wait()
			},
			want: "0s starting|0s running|0s backoff|1s starting|1s running|1s completed",
		},
		{
			name: "never fails on another exit code",
			cfg:  with(func(c *Config) { c.Restart = Never }),
			do: func(s *stage) {
				(<-s.children).end(2, 0)
				synctest.Wait()
			},
			want: "0s starting|0s running|0s failed",
		},
		{
			name: "more restarts than allowed fail it",
			cfg:  with(func(c *Config) { c.MaxRestarts = Limit{Count: 2, Within: time.Minute} }),
			do: func(s *stage) {
				for range 3 {
					(<-s.children).end(1, 0)
				}
				synctest.Wait()
			},
			want: "0s starting|0s running|0s backoff|1s starting|1s running|1s backoff|3s starting|3s running|3s failed",
		},
		{
			name: "a start that fails backs off",
			cfg:  defaults(),
			setup: func(s *stage) {
				s.fails = errBoom
			},
			do:   func(s *stage) { s.at(2 * time.Second) }, // the second pause ends at 3 s
			want: "0s starting|0s backoff|1s starting|1s backoff|2s stopped",
		},
		{
			name: "the hook runs once, after the first good check, and holds readiness back",
			cfg: with(func(c *Config) {
				c.Checks = readiness(script(nil, nil, errBoom, nil))
				c.OnReady = hook(7*time.Second, nil)
			}),
			do:   func(s *stage) { s.at(21 * time.Second) },
			want: "0s starting|0s running|12s ready|15s running|20s ready|21s stopping|21s 101 gets 15|21s stopped",
		},
		{
			name: "a hook that fails replaces the command",
			cfg:  with(func(c *Config) { c.OnReady = hook(time.Second, errBoom) }),
			do:   func(s *stage) { s.at(2500 * time.Millisecond) },
			want: "0s starting|0s running|1.1s stopping|1.1s 101 gets 15|1.1s backoff|2.1s starting|2.1s running|2.5s stopping|2.5s 102 gets 15|2.5s stopped",
		},
		{
			name: "lifecycle.postStart comes before the first check",
			cfg: with(func(c *Config) {
				c.PostStart = hook(8*time.Second, nil)
				c.Checks = readiness(always(nil))
			}),
			do:   func(s *stage) { s.at(9 * time.Second) },
			want: "0s starting|0s running|8s ready|9s stopping|9s 101 gets 15|9s stopped",
		},
		{
			name: "preStop comes before the signal, within the stop timeout",
			cfg:  with(func(c *Config) { c.PreStop = hook(3*time.Second, nil) }),
			do:   func(s *stage) { s.at(time.Second) },
			want: "0s starting|0s running|100ms ready|1s stopping|4s 101 gets 15|4s stopped",
		},
		{
			name:  "a preStop that takes it all leaves two seconds for the signal",
			cfg:   with(func(c *Config) { c.PreStop = hook(time.Hour, nil) }),
			setup: func(s *stage) { s.ignores = true },
			do:    func(s *stage) { s.at(time.Second) },
			want:  "0s starting|0s running|100ms ready|1s stopping|11s 101 gets 15|13s 101 gets 9|13s stopped",
		},
		{
			name: "a startup check holds the others back, a liveness check replaces within its own time",
			cfg: with(func(c *Config) {
				c.Checks = []Check{
					{Name: "startup", Probe: script(errBoom, errBoom), Period: 10 * time.Second, Startup: true, RestartAfter: 5},
					{Name: "liveness", Probe: script(nil, errBoom, errBoom), Period: 10 * time.Second, RestartAfter: 2, StopTimeout: &five},
					{Name: "readiness", Probe: script(nil, errBoom, errBoom, nil), Period: 3 * time.Second, Gate: true, UnreadyAfter: 2},
				}
			}),
			setup: func(s *stage) { s.ignores = true },
			do:    func(s *stage) { s.at(45500 * time.Millisecond) },
			want:  "0s starting|0s running|20s ready|26s running|29s ready|40s stopping|40s 101 gets 15|45s 101 gets 9|45s backoff|45.5s stopped",
		},
		{
			name: "a stop timeout of zero kills at once",
			cfg: with(func(c *Config) {
				c.Checks = []Check{{Name: "liveness", Probe: always(errBoom), Delay: time.Second, RestartAfter: 1, StopTimeout: &zero}}
			}),
			do:   func(s *stage) { s.at(1500 * time.Millisecond) },
			want: "0s starting|0s running|100ms ready|1s stopping|1s 101 gets 9|1s backoff|1.5s stopped",
		},
		{
			name: "an inconclusive check changes nothing",
			cfg: with(func(c *Config) {
				c.Checks = readiness(script(nil, errBoom, errBoom, probe.ErrInconclusive, probe.ErrInconclusive, nil))
			}),
			do:   func(s *stage) { s.at(31 * time.Second) },
			want: "0s starting|0s running|5s ready|10s running|30s ready|31s stopping|31s 101 gets 15|31s stopped",
		},
		{
			name: "a check that hangs has failed at its timeout",
			cfg: with(func(c *Config) {
				c.Checks = []Check{{Name: "http", Period: 5 * time.Second, Timeout: time.Second, Gate: true, RestartAfter: 2, Probe: probe.Func(func(ctx context.Context) error {
					<-ctx.Done()
					return ctx.Err()
				})}}
			}),
			do:   func(s *stage) { s.at(6500 * time.Millisecond) },
			want: "0s starting|0s running|6s stopping|6s 101 gets 15|6s backoff|6.5s stopped",
		},
		{
			name: "a watcher's reason replaces the command",
			cfg: with(func(c *Config) {
				c.Watch = []Watcher{func(ctx context.Context, _ int) error { return hook(20*time.Second, errBoom)(ctx) }}
			}),
			do:   func(s *stage) { s.at(20500 * time.Millisecond) },
			want: "0s starting|0s running|100ms ready|20s stopping|20s 101 gets 15|20s backoff|20.5s stopped",
		},
		{
			name:  "what a command leaves behind is gone before the next one starts, and readiness is lost at once",
			cfg:   defaults(),
			setup: func(s *stage) { s.lingers = 2 * time.Second },
			do: func(s *stage) {
				s.at(time.Second)
				(<-s.children).end(1, 0)
				s.at(4500 * time.Millisecond)
			},
			want: "0s starting|0s running|100ms ready|1s backoff|3s 101 cleaned up|3s starting|3s running|4s ready|4.5s stopping|4.5s 102 gets 15|6.5s 102 cleaned up|6.5s stopped",
		},
		{
			name:  "a completed command counts as such once nothing of it is left",
			cfg:   with(func(c *Config) { c.Restart = Never }),
			setup: func(s *stage) { s.lingers = 2 * time.Second },
			do: func(s *stage) {
				s.at(time.Second)
				(<-s.children).end(0, 0)
				s.at(4 * time.Second)
			},
			want: "0s starting|0s running|100ms ready|3s 101 cleaned up|3s completed",
		},
		{
			name:  "a kill cuts the stop timeout and the clean-up short",
			cfg:   defaults(),
			setup: func(s *stage) { s.ignores, s.lingers = true, time.Hour },
			do: func(s *stage) {
				s.at(time.Second)
				s.stop()
				s.at(3 * time.Second)
				s.kill()
			},
			want: "0s starting|0s running|100ms ready|1s stopping|1s 101 gets 15|3s 101 gets 9|3s 101 cleaned up|3s stopped",
		},
		{
			name: "after a halt nothing is started any more",
			cfg:  defaults(),
			do: func(s *stage) {
				s.at(time.Second)
				s.halt()
				(<-s.children).end(1, 0)
				s.at(time.Minute)
			},
			want: "0s starting|0s running|100ms ready|1s stopping|1s stopped",
		},
		{
			name: "a stop during a pause is immediate",
			cfg:  defaults(),
			do: func(s *stage) {
				(<-s.children).end(1, 0)
				s.at(500 * time.Millisecond)
			},
			want: "0s starting|0s running|0s backoff|500ms stopped",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{}
				if tt.setup != nil {
					tt.setup(s)
				}
				got, _ := s.run(t, tt.cfg, func() { tt.do(s) })
				if got != tt.want {
					t.Errorf("\n got %s\nwant %s", got, tt.want)
				}
			})
		})
	}
}
