package supervisor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// living says when it is started, too, and needs no time to stop.
func (s *stage) living(name string, needs ...string) Unit {
	return Unit{Name: name, Needs: [][]string{needs}, Run: func(ctx context.Context) error {
		s.say("%s runs", name)
		<-ctx.Done()
		s.say("%s told: %v", name, context.Cause(ctx))
		return context.Cause(ctx)
	}}
}

func TestChangesWhileThePodRuns(t *testing.T) {
	tests := []struct {
		name  string
		units func(s *stage) []Unit
		do    func(s *stage, do func(Change) error)
		want  string
		code  int
	}{
		{
			name:  "what an operator stops stays stopped, and keeps the pod alive",
			units: func(s *stage) []Unit { return []Unit{s.living("a")} },
			do: func(s *stage, do func(Change) error) {
				s.check(do(Change{Stop: []string{"a"}}))
				time.Sleep(time.Hour)
				s.check(do(Change{Start: []string{"a"}}))
			},
			want: "0s a runs|1s a told: stopped by an operator|1h0m1s a runs|1h0m2s drain|1h0m2s a told: the pod is shutting down",
		},
		{
			name:  "an essential unit that is stopped by an operator does not end the pod",
			units: func(s *stage) []Unit { return []Unit{essential(s.living("a")), s.living("b")} },
			do:    func(s *stage, do func(Change) error) { s.check(do(Change{Restart: []string{"a"}})) },
			want:  "0s a runs|0s b runs|1s a told: stopped by an operator|1s a runs|2s drain|2s a told: the pod is shutting down|2s b told: the pod is shutting down",
		},
		{
			name: "what has ended can be started again",
			units: func(s *stage) []Unit {
				return []Unit{s.ending("job", 500*time.Millisecond, failure(3)), s.living("b")}
			},
			do: func(s *stage, do func(Change) error) {
				s.check(do(Change{Start: []string{"job"}}))
				time.Sleep(time.Second)
				s.check(do(Change{Restart: []string{"job"}}))
				time.Sleep(time.Second)
			},
			want: "0s b runs|500ms job ended|1.5s job ended|2.5s job ended|4s drain|4s b told: the pod is shutting down",
		},
		{
			name:  "a start while it is being stopped counts",
			units: func(s *stage) []Unit { return []Unit{s.unit("slow", time.Second)} },
			do: func(s *stage, do func(Change) error) {
				s.check(do(Change{Stop: []string{"slow"}}))
				s.check(do(Change{Start: []string{"slow"}}))
				time.Sleep(2 * time.Second)
			},
			want: "1s slow told|2s slow gone|4s drain|4s slow told|5s slow gone",
		},
		{
			name:  "what runs cannot be started, and nothing else is done either",
			units: func(s *stage) []Unit { return []Unit{s.living("a"), s.living("b")} },
			do: func(s *stage, do func(Change) error) {
				if err := do(Change{Stop: []string{"b"}, Start: []string{"a"}}); !errors.Is(err, ErrRuns) {
					s.say("start: %v", err)
				}
				if err := do(Change{Restart: []string{"a"}, Stop: []string{"none"}}); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "none") {
					s.say("stop: %v", err)
				}
			},
			want: "0s a runs|0s b runs|2s drain|2s a told: the pod is shutting down|2s b told: the pod is shutting down",
		},
		{
			name: "what is removed goes in the order in which it is needed",
			units: func(s *stage) []Unit {
				return []Unit{s.unit("db", 0), s.unit("web", time.Second, "db"), s.living("other")}
			},
			do: func(s *stage, do func(Change) error) {
				s.check(do(Change{Remove: []string{"db", "web"}, Gone: func(name string) { s.say("%s removed", name) }}))
				time.Sleep(5 * time.Second)
			},
			want: "0s other runs|1s web told|2s db told|2s db gone|2s db removed|2s web gone|2s web removed|7s drain|7s other told: the pod is shutting down",
		},
		{
			name:  "what is replaced ends first, and what needs it goes on",
			units: func(s *stage) []Unit { return []Unit{s.living("db"), s.living("web", "db")} },
			do: func(s *stage, do func(Change) error) {
				s.check(do(Change{Put: []Unit{{Name: "db", Run: s.living("db2").Run}}}))
			},
			want: "0s db runs|0s web runs|1s db told: the config has changed|1s db2 runs|2s drain|2s web told: the pod is shutting down|2s db2 told: the pod is shutting down",
		},
		{
			name:  "a new unit is ended after those that have come to need it",
			units: func(s *stage) []Unit { return []Unit{s.unit("web", time.Second)} },
			do: func(s *stage, do func(Change) error) {
				s.check(do(Change{Put: []Unit{s.unit("db", time.Second)}, Amend: []Unit{{Name: "web", Needs: [][]string{{"db"}}}}}))
			},
			want: "2s drain|2s web told|3s db told|3s web gone|4s db gone",
		},
		{
			name:  "an operator's stop outlives a change of the config",
			units: func(s *stage) []Unit { return []Unit{s.living("a"), s.living("b")} },
			do: func(s *stage, do func(Change) error) {
				s.check(do(Change{Stop: []string{"a"}}))
				time.Sleep(time.Second)
				s.check(do(Change{Put: []Unit{s.living("a")}}))
				time.Sleep(time.Second)
				s.check(do(Change{Start: []string{"a"}}))
			},
			want: "0s a runs|0s b runs|1s a told: stopped by an operator|3s a runs|4s drain|4s a told: the pod is shutting down|4s b told: the pod is shutting down",
		},
		{
			name:  "a pod whose last process was removed lingers",
			units: func(s *stage) []Unit { return []Unit{s.living("a")} },
			do: func(s *stage, do func(Change) error) {
				s.check(do(Change{Remove: []string{"a"}}))
				time.Sleep(time.Hour)
				s.check(do(Change{Put: []Unit{s.living("b")}}))
			},
			want: "0s a runs|1s a told: the config has changed|1h0m1s b runs|1h0m2s drain|1h0m2s b told: the pod is shutting down",
		},
		{
			name: "a failure that was made good is none of the pod's",
			units: func(s *stage) []Unit {
				first := true
				return []Unit{{Name: "job", Run: func(ctx context.Context) error {
					defer func() { first = false }()
					if first {
						return failure(3)
					}
					return nil
				}}, s.ending("other", 90*time.Second, nil)}
			},
			do: func(s *stage, do func(Change) error) {
				s.check(do(Change{Start: []string{"job"}}))
				time.Sleep(time.Hour)
			},
			want: "1m30s other ended|1m30s drain",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{s: New(), began: time.Now()}
				cfg := Config{Units: test.units(s), Deadline: 10 * time.Second, OnDrain: func(string, time.Duration) { s.say("drain") }}
				code := make(chan int, 1)
				go func() { code <- s.s.Run(t.Context(), cfg) }()
				time.Sleep(time.Second)
				test.do(s, func(c Change) error { return s.s.Do(t.Context(), c) })
				time.Sleep(time.Second)
				s.s.Stop(Graceful, "test")
				if got := <-code; got != test.code {
					t.Errorf("code %d, want %d", got, test.code)
				}
				got, want := strings.Join(inOrder(s.log), "|"), strings.Join(inOrder(strings.Split(test.want, "|")), "|")
				if got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				if err := s.s.Do(t.Context(), Change{}); !errors.Is(err, ErrShutdown) {
					t.Errorf("a change after the end: %v", err)
				}
			})
		})
	}
}

// check notes an error that should not be.
func (s *stage) check(err error) {
	if err != nil {
		s.say("error: %v", err)
	}
}

func TestAChangeDuringTheShutdownIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{s: New(), began: time.Now()}
		code := make(chan int, 1)
		go func() {
			code <- s.s.Run(t.Context(), Config{Units: []Unit{s.unit("a", time.Second)}, Deadline: time.Minute})
		}()
		s.s.Stop(Graceful, "test")
		synctest.Wait()
		if err := s.s.Do(t.Context(), Change{Restart: []string{"a"}}); !errors.Is(err, ErrShutdown) {
			t.Errorf("got %v", err)
		}
		if got := <-code; got != 0 {
			t.Errorf("code %d", got)
		}
	})
}
