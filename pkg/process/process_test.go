package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
	"github.com/process-wrapper/process-wrapper/pkg/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBoom = errors.New("boom")

// command is a fake child that ends when told to, and a strict one: a signal
// after its end is an error of the test.
type command struct {
	s       *stage
	pid     int
	exited  chan struct{}
	once    sync.Once
	exit    error
	ignores bool          // SIGTERM
	lingers time.Duration // what it leaves behind needs this to end
}

func (c *command) end(code int, sig syscall.Signal) {
	c.once.Do(func() {
		if sig != 0 {
			code = 128 + int(sig)
		}
		if code != 0 {
			c.exit = &ExitError{Code: code, Signal: sig}
		}
		close(c.exited)
	})
}

func (c *command) PID() int                { return c.pid }
func (c *command) Exited() <-chan struct{} { return c.exited }
func (c *command) Exit() error             { return c.exit }

func (c *command) Signal(sig syscall.Signal) error {
	c.s.say("%d gets %d", c.pid, int(sig))
	if c.exit != nil {
		c.s.t.Errorf("signal %d for %d, which is gone", sig, c.pid)
	}
	if sig == syscall.SIGKILL || !c.ignores {
		c.end(0, sig)
	}
	return nil
}

func (c *command) Close(ctx context.Context) error {
	if c.lingers == 0 {
		return nil
	}
	select {
	case <-time.After(c.lingers):
	case <-ctx.Done():
	}
	c.s.say("%d cleaned up", c.pid)
	return nil
}

// stage is a process with everything around it, in fake time. Its log holds
// each transition and signal with its time.
type stage struct {
	t        *testing.T
	board    *status.Board
	children chan *command
	began    time.Time
	n        int
	kill     context.CancelFunc
	halt     context.CancelFunc
	stop     context.CancelFunc

	ignores bool
	lingers time.Duration
	fails   error // of each start

	mu  sync.Mutex // guards log
	log []string
}

func (s *stage) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf("%v ", time.Since(s.began))+fmt.Sprintf(format, args...))
}

func (s *stage) Observe(old, new status.State) {
	if old.Phase != new.Phase && new.Name == "p" {
		s.say("%s", new.Phase)
	}
}

func (s *stage) Start() (Child, error) {
	if s.fails != nil {
		return nil, s.fails
	}
	s.n++
	c := &command{s: s, pid: 100 + s.n, exited: make(chan struct{}), ignores: s.ignores, lingers: s.lingers}
	s.children <- c
	return c, nil
}

// at pauses until the given time since the beginning.
func (s *stage) at(d time.Duration) { time.Sleep(d - time.Since(s.began)) }

// run runs a process until do returns, and returns its end and its log.
func (s *stage) run(t *testing.T, cfg Config, do func()) (error, string) {
	s.t, s.began = t, time.Now()
	if s.board == nil {
		s.board = status.NewBoard(s)
	}
	s.children = make(chan *command, 1000)
	ctx, stop := context.WithCancel(t.Context())
	s.stop = stop
	cfg.Kill, s.kill = context.WithCancel(t.Context())
	cfg.Halt, s.halt = context.WithCancel(t.Context())
	defer s.kill()
	defer s.halt()
	cfg.Name, cfg.Starter = "p", s
	var wg sync.WaitGroup
	var err error
	p := New(cfg, s.board)
	s.board.Declare(p.State())
	s.log = nil
	wg.Go(func() { err = p.Run(ctx) })
	synctest.Wait()
	do()
	stop()
	wg.Wait()
	return err, strings.Join(s.log, "|")
}

func state(s *stage) status.State {
	snap, _ := s.board.Load()
	st, _ := snap.Get("p")
	return st
}

// script is a probe that gives one answer after the other, then nil.
func script(answers ...error) probe.Probe {
	n := 0
	return probe.Func(func(context.Context) error {
		if n++; n <= len(answers) {
			return answers[n-1]
		}
		return nil
	})
}

func always(err error) probe.Probe {
	return probe.Func(func(context.Context) error { return err })
}

// readiness is a check with the defaults of a readiness block.
func readiness(p probe.Probe) []Check {
	return []Check{{Name: "http", Probe: p, Delay: 5 * time.Second, Period: 5 * time.Second, Gate: true, RestartAfter: 3}}
}

func defaults() Config {
	return Config{
		StopTimeout: 10 * time.Second,
		Settle:      100 * time.Millisecond,
		Backoff:     Backoff{Initial: time.Second, Max: time.Minute, Factor: 2, ResetAfter: 10 * time.Minute},
	}
}

func with(change func(*Config)) Config {
	cfg := defaults()
	change(&cfg)
	return cfg
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
				_, got := s.run(t, tt.cfg, func() { tt.do(s) })
				if got != tt.want {
					t.Errorf("\n got %s\nwant %s", got, tt.want)
				}
			})
		})
	}
}

type observer func(old, new status.State)

func (f observer) Observe(old, new status.State) { f(old, new) }

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
		{"completed", with(func(c *Config) { c.Restart = Never }), nil, func(c *command) { c.end(0, 0) }, "<nil>", "<nil>", "completed", 0},
		{"start", with(func(c *Config) { c.Restart = Never }), errBoom, nil, "p: start: boom", "start: boom", "start", 1},
		{"too often", with(func(c *Config) { c.MaxRestarts = Limit{Count: 1} }), errBoom, nil,
			"p: more than 1 restarts; the last end: start: boom", "more than 1 restarts; the last end: start: boom", "start", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stage{fails: tt.fails}
				err, _ := s.run(t, tt.cfg, func() {
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
		err, _ := s.run(t, cfg, func() { time.Sleep(time.Minute) })
		var failed *Failure
		if !errors.As(err, &failed) || failed.Code != 143 || !errors.Is(err, errBoom) || state(s).Reason != "probe" {
			t.Errorf("%#v, reason %s", err, state(s).Reason)
		}
	})
}

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
				cfg := with(func(c *Config) { c.DependsOn = []Dependency{{"db", tt.condition}} })
				err, _ := s.run(t, cfg, func() {
					if st := state(s); st.Phase != status.Waiting || !strings.HasPrefix(st.Detail, "for db to be ") {
						t.Errorf("first %s %q", st.Phase, st.Detail)
					}
					s.board.Put(status.State{Name: "db", Phase: tt.dep})
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
				if errors.Is(err, ErrDependency) != tt.fails {
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
		_, got := s.run(t, with(func(c *Config) { c.Guard = g }), func() {
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
		s.run(t, with(func(c *Config) { c.Guard = g }), func() { s.at(time.Hour) })
		if n := strings.Count(strings.Join(s.log, "|"), "acquired"); n < 60 || n > 70 {
			t.Errorf("asked %d times in an hour", n)
		}
	})
}

func TestLivenessCountsFromWhenItWasLastReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		cfg := with(func(c *Config) { c.StartupDeadline = 20 * time.Second })
		s.run(t, cfg, func() {
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
		s.run(t, defaults(), func() {
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

func TestChecksAreForgottenWithTheirIncarnation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{}
		cfg := with(func(c *Config) { c.Checks = readiness(always(errBoom)) })
		s.run(t, cfg, func() {
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
