package process

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

func TestUpdates(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		do   func(s *stage)
		want string
	}{
		{
			name: "new checks take over without a restart, and a ready process stays ready until they fail",
			cfg:  with(func(c *Config) { c.Checks = readiness(always(nil)) }),
			do: func(s *stage) {
				s.at(7 * time.Second)
				s.update(func(c *Config) {
					c.Checks = []Check{{Name: "tcp", Probe: script(nil, errBoom, nil), Period: 2 * time.Second, Gate: true}}
				})
				s.at(12 * time.Second)
			},
			want: "0s starting|0s running|5s ready|9s running|11s ready|12s stopping|12s 101 gets 15|12s stopped",
		},
		{
			name: "checks that are taken away cannot un-ready it any more",
			cfg:  with(func(c *Config) { c.Checks = readiness(script(nil, errBoom, errBoom)) }),
			do: func(s *stage) {
				s.at(7 * time.Second)
				s.update(func(c *Config) { c.Checks = nil })
				s.at(time.Minute)
			},
			want: "0s starting|0s running|5s ready|1m0s stopping|1m0s 101 gets 15|1m0s stopped",
		},
		{
			name: "a process that is not ready becomes so by the new checks alone",
			cfg:  with(func(c *Config) { c.Checks = readiness(always(errBoom)) }),
			do: func(s *stage) {
				s.at(7 * time.Second)
				s.update(func(c *Config) { c.Checks = readiness(script(errBoom, errBoom, nil)) })
				s.at(20 * time.Second)
			},
			want: "0s starting|0s running|17s ready|20s stopping|20s 101 gets 15|20s stopped",
		},
		{
			name: "a startup check is not asked of what has started",
			cfg:  defaults(),
			do: func(s *stage) {
				s.at(time.Second)
				s.update(func(c *Config) {
					c.Checks = []Check{{Name: "startup", Probe: always(errBoom), Period: time.Second, Startup: true, RestartAfter: 2}}
				})
				s.at(time.Minute)
			},
			want: "0s starting|0s running|100ms ready|1m0s stopping|1m0s 101 gets 15|1m0s stopped",
		},
		{
			name: "an update while lifecycle.postStart runs waits for it",
			cfg: with(func(c *Config) {
				c.PostStart = func(ctx context.Context) error { return sleepUntil(ctx, time.Now().Add(8*time.Second)) }
				c.Checks = readiness(always(errBoom))
			}),
			do: func(s *stage) {
				s.at(time.Second)
				s.update(func(c *Config) { c.Checks = readiness(always(nil)) })
				s.at(10 * time.Second)
			},
			want: "0s starting|0s running|8s ready|10s stopping|10s 101 gets 15|10s stopped",
		},
		{
			name: "a hook that is taken away does not hold readiness back",
			cfg: with(func(c *Config) {
				c.Checks = readiness(script(errBoom, nil))
				c.OnReady = func(context.Context) error { return errBoom }
			}),
			do: func(s *stage) {
				s.at(6 * time.Second)
				s.update(func(c *Config) { c.OnReady = nil })
				s.at(11 * time.Second)
			},
			want: "0s starting|0s running|6s ready|11s stopping|11s 101 gets 15|11s stopped",
		},
		{
			name: "the stop timeout and signal of the update are those of the stop",
			cfg:  defaults(),
			do: func(s *stage) {
				s.at(time.Second)
				(<-s.children).ignores = true
				s.update(func(c *Config) { c.StopTimeout, c.StopSignal = 3*time.Second, 2 })
			},
			want: "0s starting|0s running|100ms ready|1s stopping|1s 101 gets 2|4s 101 gets 9|4s stopped",
		},
		{
			name: "a pause goes on, and the restart policy of the update decides after the next end",
			cfg:  defaults(),
			do: func(s *stage) {
				(<-s.children).end(1, 0)
				synctest.Wait()
				s.update(func(c *Config) { c.Restart = Never })
				(<-s.children).end(2, 0)
				synctest.Wait()
			},
			want: "0s starting|0s running|0s backoff|1s starting|1s running|1s failed",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := new(stage)
				if got, _ := s.run(t, test.cfg, func() { test.do(s) }); got != test.want {
					t.Errorf("got  %s\nwant %s", got, test.want)
				}
			})
		})
	}
}

func TestAnUpdateChangesWhatAWaitingProcessWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(stage)
		s.board = status.NewBoard(s)
		s.board.Put(status.State{Name: "db", Phase: status.Ready})
		s.board.Put(status.State{Name: "never", Phase: status.Running})
		cfg := with(func(c *Config) { c.DependsOn = []Dependency{{Names: []string{"never"}}, {Names: []string{"db"}}} })
		got, err := s.run(t, cfg, func() {
			s.at(time.Second)
			s.update(func(c *Config) { c.DependsOn = []Dependency{{Names: []string{"db"}}} })
			s.at(2 * time.Second)
		})
		if want := "1s starting|1s running|1.1s ready|2s stopping|2s 101 gets 15|2s stopped"; got != want || !errors.Is(err, ErrStopped) {
			t.Errorf("got  %s, %v\nwant %s", got, err, want)
		}
	})
}

func TestWhatAConfigKeepsIsClosedWhenAnotherTakesItsPlaceAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(stage)
		closes := func(name string) func() { return func() { s.say("%s closed", name) } }
		cfg := with(func(c *Config) { c.Close = closes("first") })
		got, _ := s.run(t, cfg, func() {
			s.at(time.Second)
			s.update(func(c *Config) { c.Close = closes("second") })
			s.at(2 * time.Second)
			s.p.Update(with(func(c *Config) { c.Name, c.Starter, c.Close = "p", s, closes("third") }))
			s.p.Update(with(func(c *Config) { c.Name, c.Starter, c.Close = "p", s, closes("fourth") }))
			synctest.Wait()
			s.at(3 * time.Second)
		})
		const want = "0s starting|0s running|100ms ready|1s first closed|2s third closed|2s second closed|3s stopping|3s 101 gets 15|3s stopped|3s fourth closed"
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestRunAgainBeginsWithACleanSlate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(stage)
		cfg := with(func(c *Config) {
			c.MaxRestarts = Limit{Count: 1}
			c.StartupDeadline = 10 * time.Second
		})
		s.t, s.began, s.board, s.children = t, time.Now(), status.NewBoard(s), make(chan *command, 10)
		cfg.Name, cfg.Starter = "p", s
		p := New(cfg, s.board)
		for round := range 2 {
			done := make(chan error, 1)
			go func() { done <- p.Run(t.Context()) }()
			for range 2 {
				(<-s.children).end(1, 0)
			}
			var failed *Failure
			if err := <-done; !errors.As(err, &failed) {
				t.Fatalf("round %d: %v", round, err)
			}
			time.Sleep(time.Hour)
		}
		st := state(s)
		if since := st.UnreadySince.Sub(s.began); st.Restarts != 3 || since < time.Hour {
			t.Errorf("un-ready since %v after the begin: %+v", since, st)
		}
	})
}

func TestASuccessorGoesOnCounting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(stage)
		got, _ := s.run(t, defaults(), func() { s.at(time.Second) })
		cfg := s.cfg
		cfg.Halt, cfg.Kill = nil, nil // those of the first are over
		next := New(cfg, s.board)
		next.After(s.p)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- next.Run(ctx) }()
		synctest.Wait()
		st := state(s)
		stop()
		if err := <-done; !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
		if st.Restarts != 1 || st.Phase != status.Running || got == "" {
			t.Errorf("%+v", st)
		}
	})
}
