package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type failure int

func (f failure) Error() string { return fmt.Sprintf("exited with code %d", int(f)) }
func (f failure) ExitCode() int { return int(f) }

// stage records what happens to units, with fake time.
type stage struct {
	s     *Supervisor
	began time.Time

	mu  sync.Mutex // guards log
	log []string
}

func (s *stage) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf("%v ", time.Since(s.began))+fmt.Sprintf(format, args...))
}

// unit needs some time to stop, which a kill ends.
func (s *stage) unit(name string, takes time.Duration, needs ...string) Unit {
	return Unit{Name: name, Needs: [][]string{needs}, Run: func(ctx context.Context) error {
		<-ctx.Done()
		s.say("%s told", name)
		select {
		case <-time.After(takes):
			s.say("%s gone", name)
		case <-s.s.Kill().Done():
			s.say("%s killed", name)
			return killed{}
		}
		return context.Cause(ctx)
	}}
}

// lazy ends by itself only once nothing waits for it any more.
func (s *stage) lazy(name string) Unit {
	return Unit{Name: name, Run: func(ctx context.Context) error {
		<-s.s.Kill().Done()
		s.say("%s gone", name)
		return context.Cause(ctx)
	}}
}

type killed struct{}

func (killed) Error() string { return "killed" }
func (killed) Killed() bool  { return true }

// ending ends by itself.
func (s *stage) ending(name string, after time.Duration, err error) Unit {
	return Unit{Name: name, Run: func(ctx context.Context) error {
		select {
		case <-time.After(after):
			s.say("%s ended", name)
			return err
		case <-ctx.Done():
			s.say("%s told", name)
			return context.Cause(ctx)
		}
	}}
}

func essential(u Unit) Unit {
	u.Essential = true
	return u
}

func TestTheEndOfAPod(t *testing.T) {
	stopAt := func(s *stage, at time.Duration, mode Mode) {
		time.Sleep(at - time.Since(s.began))
		s.s.Stop(mode, "test")
	}
	tests := []struct {
		name string
		cfg  func(s *stage) Config
		do   func(s *stage)
		want string
		code int
	}{
		{
			name: "one that had its last words to say until the deadline was not killed",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.lazy("a"), s.unit("b", time.Second)}}
			},
			do:   func(s *stage) { stopAt(s, 0, Graceful) },
			want: "0s drain|0s b told|1s b gone|10s a gone",
		},
		{
			name: "units that nobody needs are told at once and side by side",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.unit("a", time.Second), s.unit("b", time.Second)}}
			},
			do:   func(s *stage) { stopAt(s, time.Minute, Graceful) },
			want: "1m0s drain|1m0s a told|1m0s b told|1m1s a gone|1m1s b gone",
		},
		{
			name: "a unit is told once all that need it are gone",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{
					s.unit("db", time.Second),
					s.unit("web", 2*time.Second, "db"),
					s.unit("job", 3*time.Second, "db"),
				}}
			},
			do:   func(s *stage) { stopAt(s, 0, Graceful) },
			want: "0s drain|0s job told|0s web told|2s web gone|3s job gone|3s db told|4s db gone",
		},
		{
			name: "the drain delay comes before the first stop",
			cfg: func(s *stage) Config {
				return Config{DrainDelay: 5 * time.Second, Units: []Unit{s.unit("a", 0)}}
			},
			do:   func(s *stage) { stopAt(s, 0, Graceful) },
			want: "0s drain|5s a told|5s a gone",
		},
		{
			name: "the drain delay ends early when all units are gone",
			cfg: func(s *stage) Config {
				return Config{DrainDelay: 5 * time.Second, Units: []Unit{s.ending("a", 2*time.Second, nil)}}
			},
			do:   func(s *stage) { stopAt(s, time.Second, Graceful) },
			want: "1s drain|2s a ended",
		},
		{
			name: "what is left at the deadline is killed, whatever its order",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.unit("db", time.Hour), s.unit("web", time.Hour, "db")}}
			},
			do:   func(s *stage) { stopAt(s, 0, Graceful) },
			want: "0s drain|0s web told|10s db killed|10s db told|10s web killed",
			code: ExitKilled,
		},
		{
			name: "a second stop kills",
			cfg: func(s *stage) Config {
				return Config{DrainDelay: time.Minute, Units: []Unit{s.unit("a", time.Hour)}}
			},
			do: func(s *stage) {
				stopAt(s, 0, Graceful)
				stopAt(s, 3*time.Second, Graceful)
			},
			want: "0s drain|3s a killed|3s a told",
			code: ExitKilled,
		},
		{
			name: "an echo of the first stop is no second one",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.unit("a", time.Second)}}
			},
			do: func(s *stage) {
				stopAt(s, 0, Graceful)
				stopAt(s, 90*time.Millisecond, Graceful)
			},
			want: "0s drain|0s a told|1s a gone",
		},
		{
			name: "an echo of another kind is meant",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.unit("a", time.Second)}}
			},
			do: func(s *stage) {
				stopAt(s, 0, Graceful)
				stopAt(s, 90*time.Millisecond, Fast)
			},
			want: "0s drain|0s a told|90ms a killed",
			code: ExitKilled,
		},
		{
			name: "a fast stop has no order, no drain delay, and a second",
			cfg: func(s *stage) Config {
				return Config{DrainDelay: time.Minute, Units: []Unit{s.unit("db", time.Hour), s.unit("web", 500*time.Millisecond, "db")}}
			},
			do:   func(s *stage) { stopAt(s, 0, Fast) },
			want: "0s drain|0s db told|0s web told|500ms web gone|1s db killed",
			code: ExitKilled,
		},
		{
			name: "the end of an essential unit is the end of the pod, with its code",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.ending("early", time.Second, failure(3)), essential(s.ending("main", 2*time.Second, failure(7))), s.unit("a", 0)}}
			},
			want: "1s early ended|2s main ended|2s drain|2s a told|2s a gone",
			code: 7,
		},
		{
			name: "an essential unit that completes ends the pod with 0",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{essential(s.ending("main", 0, nil)), s.unit("a", 0)}}
			},
			want: "0s main ended|0s drain|0s a told|0s a gone",
		},
		{
			name: "a first signal during the pod's own end does not kill",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{essential(s.ending("main", 0, failure(4))), s.unit("a", 5*time.Second)}}
			},
			do:   func(s *stage) { stopAt(s, time.Second, Graceful) },
			want: "0s main ended|0s drain|0s a told|5s a gone",
			code: 4,
		},
		{
			name: "with nothing left to run the pod ends with the first failure's code",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.ending("a", time.Second, nil), s.ending("b", 2*time.Second, failure(143)), s.ending("c", 3*time.Second, failure(2))}}
			},
			want: "1s a ended|2s b ended|3s c ended|3s drain",
			code: 143,
		},
		{
			name: "with nothing left to run and no failure the code is 0",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.ending("a", time.Second, nil)}}
			},
			want: "1s a ended|1s drain",
		},
		{
			name: "a unit that failed before a signal is no failure of the pod",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.ending("a", 0, failure(1)), s.unit("b", 0)}}
			},
			do:   func(s *stage) { stopAt(s, time.Second, Graceful) },
			want: "0s a ended|1s drain|1s b told|1s b gone",
		},
		{
			name: "a pod without units lingers",
			cfg:  func(*stage) Config { return Config{Linger: true} },
			do:   func(s *stage) { stopAt(s, time.Hour, Graceful) },
			want: "1h0m0s drain",
		},
		{
			name: "a pod that ends by itself is not hurried by the signal that follows",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.unit("a", 5*time.Second)}}
			},
			do: func(s *stage) {
				s.s.End("preempted")
				stopAt(s, 3*time.Second, Graceful)
			},
			want: "0s drain|0s a told|5s a gone",
		},
		{
			name: "a pod that ends by itself is killed by the second signal",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.unit("a", time.Hour)}}
			},
			do: func(s *stage) {
				s.s.End("preempted")
				stopAt(s, 3*time.Second, Graceful)
				stopAt(s, 4*time.Second, Graceful)
			},
			want: "0s drain|0s a told|4s a killed",
			code: ExitKilled,
		},
		{
			name: "a pod that is told to stop has no second end",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.unit("a", 5*time.Second)}}
			},
			do: func(s *stage) {
				stopAt(s, 0, Graceful)
				time.Sleep(time.Second)
				s.s.End("preempted")
			},
			want: "0s drain|0s a told|5s a gone",
		},
		{
			name: "the end of the machine comes before the deadline",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.unit("a", time.Hour)}, Until: func() time.Time { return s.began.Add(5 * time.Second) }}
			},
			do:   func(s *stage) { stopAt(s, time.Second, Graceful) },
			want: "1s drain|1s a told|4s a killed",
			code: ExitKilled,
		},
		{
			name: "what ends with the machine gets two seconds at least",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.unit("a", time.Hour)}, Until: func() time.Time { return s.began.Add(1100 * time.Millisecond) }}
			},
			do:   func(s *stage) { stopAt(s, time.Second, Graceful) },
			want: "1s drain|1s a told|3s a killed",
			code: ExitKilled,
		},
		{
			name: "an end of the machine in the past is not believed",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.unit("a", time.Hour)}, Until: func() time.Time { return s.began }}
			},
			do:   func(s *stage) { stopAt(s, time.Second, Graceful) },
			want: "1s drain|1s a told|11s a killed",
			code: ExitKilled,
		},
		{
			name: "a machine of which nobody knows the end has none",
			cfg: func(s *stage) Config {
				return Config{Units: []Unit{s.unit("a", time.Hour)}, Until: func() time.Time { return time.Time{} }}
			},
			do:   func(s *stage) { stopAt(s, time.Second, Graceful) },
			want: "1s drain|1s a told|11s a killed",
			code: ExitKilled,
		},
		{
			name: "a signal during start-up starts nothing",
			cfg: func(s *stage) Config {
				s.s.Stop(Graceful, "early")
				return Config{Units: []Unit{s.unit("a", 0)}}
			},
			want: "0s drain",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{s: New(), began: time.Now()}
				cfg := tt.cfg(s)
				cfg.Deadline = 10 * time.Second
				cfg.OnDrain = func(_ string, within time.Duration) {
					if within > cfg.Deadline || within <= 0 {
						t.Errorf("told to be gone within %v", within)
					}
					if s.s.Halt().Err() == nil {
						t.Error("still starting processes when leaving service")
					}
					s.say("drain")
				}
				var wg sync.WaitGroup
				code := -1
				wg.Go(func() { code = s.s.Run(t.Context(), cfg) })
				synctest.Wait()
				if tt.do != nil {
					tt.do(s)
				}
				wg.Wait()
				if got := strings.Join(inOrder(s.log), "|"); got != strings.Join(inOrder(strings.Split(tt.want, "|")), "|") {
					t.Errorf("\n got %s\nwant %s", got, tt.want)
				}
				if i, j := slices.Index(s.log, "3s job gone"), slices.Index(s.log, "3s db told"); i > j && j >= 0 {
					t.Error("told before all that need it were gone")
				}
				if code != tt.code {
					t.Errorf("exit code %d, want %d", code, tt.code)
				}
			})
		})
	}
}

// inOrder sorts what happened at the same instant, in which goroutines race.
func inOrder(log []string) []string {
	log = slices.Clone(log)
	at := func(s string) time.Duration {
		d, _ := time.ParseDuration(strings.Fields(s)[0])
		return d
	}
	slices.SortFunc(log, func(a, b string) int {
		return cmp.Or(cmp.Compare(at(a), at(b)), strings.Compare(a, b))
	})
	return log
}

func TestAnUnkillableUnitDoesNotHoldThePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, free := New(), make(chan struct{})
		began := time.Now()
		hung := Unit{Name: "hung", Run: func(context.Context) error { <-free; return nil }}
		var wg sync.WaitGroup
		code := 0
		wg.Go(func() { code = s.Run(t.Context(), Config{Units: []Unit{hung}, Deadline: time.Minute}) })
		synctest.Wait()
		s.Stop(Now, "test")
		wg.Wait()
		close(free)
		if code != ExitKilled || time.Since(began) != unkillable {
			t.Errorf("code %d after %v", code, time.Since(began))
		}
	})
}

func TestAThousandUnitsStopWithoutQuadraticCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{s: New(), began: time.Now()}
		var units []Unit
		for i := range 1000 {
			u := s.unit(fmt.Sprint("u", i), time.Millisecond)
			if i > 0 {
				u.Needs = [][]string{{fmt.Sprint("u", i-1)}}
			}
			units = append(units, u)
		}
		var wg sync.WaitGroup
		wg.Go(func() { s.s.Run(t.Context(), Config{Units: units, Deadline: time.Minute}) })
		synctest.Wait()
		s.s.Stop(Graceful, "test")
		wg.Wait()
		if len(s.log) != 2000 || !strings.HasSuffix(s.log[0], "u999 told") || !strings.HasSuffix(s.log[1999], "u0 gone") {
			t.Errorf("%d lines from %q to %q", len(s.log), s.log[0], s.log[len(s.log)-1])
		}
	})
}
