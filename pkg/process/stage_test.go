package process

import (
	"context"
	"errors"
	"fmt"
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
	p        *Process
	cfg      Config // as the process got it

	ignores bool
	lingers time.Duration
	fails   error         // of each start
	reads   time.Duration // before each start

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

func (s *stage) Start(say func(string)) (Child, error) {
	if s.reads > 0 {
		say("reading a file")
		time.Sleep(s.reads) // in the bubble's time
		say("")
	}
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
func (s *stage) run(t *testing.T, cfg Config, do func()) (string, error) {
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
	s.cfg = cfg
	p := New(cfg, s.board)
	s.p = p
	s.board.Declare(p.State())
	s.log = nil
	wg.Go(func() { err = p.Run(ctx) })
	synctest.Wait()
	do()
	stop()
	wg.Wait()
	return strings.Join(s.log, "|"), err
}

// update changes the config while the process runs.
func (s *stage) update(change func(*Config)) {
	change(&s.cfg)
	s.p.Update(s.cfg)
	synctest.Wait()
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

type observer func(old, new status.State)

func (f observer) Observe(old, new status.State) { f(old, new) }
