package wrapper

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
	"github.com/process-wrapper/process-wrapper/pkg/supervisor"
)

// signals are those sent to us.
type signals struct {
	c        chan os.Signal
	catching sync.WaitGroup
}

// catch begins to catch. SIGPIPE is caught, not ignored: a reader of our
// output that went away must not end us, and what is ignored is inherited by
// children.
//
// It does not wait: for each signal the runtime goes to another thread and back,
// half a millisecond together, in which the command line can be read.
func catch() *signals {
	s := &signals{c: make(chan os.Signal, 16)}
	s.catching.Go(func() {
		signal.Notify(s.c, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	})
	return s
}

func (s *signals) release() {
	s.catching.Wait()
	signal.Stop(s.c)
}

// yield gives signals their usual effect, also those that were caught.
func (s *signals) yield() {
	s.release()
	for {
		select {
		case sig := <-s.c:
			if n, ok := sig.(syscall.Signal); ok && ends(sig) {
				_ = syscall.Kill(os.Getpid(), n) // it is ours to send
			}
		default:
			return
		}
	}
}

// ends says whether a signal asks for our end.
func ends(sig os.Signal) bool {
	return sig == syscall.SIGTERM || sig == syscall.SIGQUIT || sig == syscall.SIGINT
}

// slowStart is how long the files of the start may take before that is told.
const slowStart = 2 * time.Second

// during runs f, or as much of it as there is time for before a signal that asks
// for our end, which it then returns. An f that cannot be interrupted is left
// alone: it must have nothing that a program cannot end in the middle of. Files
// that hang with their file system are named in the log: nothing else runs yet
// that could say so.
func (s *signals) during(log *slog.Logger, files []string, f func() error) (os.Signal, error) {
	s.catching.Wait() // or one that comes while f hangs would have its usual effect
	slow := time.NewTimer(slowStart)
	defer slow.Stop()
	var wg sync.WaitGroup
	done := make(chan error, 1)
	wg.Go(func() { done <- f() })
	for {
		select {
		case err := <-done:
			return nil, err
		case sig := <-s.c:
			if ends(sig) {
				return sig, nil
			}
		case <-slow.C:
			log.Warn("nothing is started yet: do the file systems answer that it reads from?", "reads", strings.Join(files, ", "))
		}
	}
}

// early hands on the signals that came during start-up, before anything is
// started.
func (s *signals) early(p *pod) {
	s.catching.Wait() // what is started must find SIGPIPE caught
	for {
		select {
		case sig := <-s.c:
			p.signal(sig)
		default:
			return
		}
	}
}

func (s *signals) serve(ctx context.Context, p *pod) {
	for {
		select {
		case sig := <-s.c:
			p.signal(sig)
		case <-ctx.Done():
			return
		}
	}
}

func (p *pod) signal(sig os.Signal) {
	switch sig {
	case syscall.SIGTERM, syscall.SIGQUIT:
		p.units.Stop(supervisor.Graceful, signalName(sig))
	case syscall.SIGINT:
		p.units.Stop(supervisor.Fast, signalName(sig))
	case syscall.SIGHUP:
		p.askReload(signalName(sig))
	case syscall.SIGUSR1, syscall.SIGUSR2:
		p.table()
	}
}

func signalName(sig os.Signal) string {
	switch sig {
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGQUIT:
		return "SIGQUIT"
	case syscall.SIGINT:
		return "SIGINT"
	case syscall.SIGHUP:
		return "SIGHUP"
	}
	return sig.String()
}

// table logs the state of all processes.
func (p *pod) table() {
	snap, _ := p.board.Load()
	now := time.Now()
	pod := snap.Pod()
	p.log.Info("pod", "ready", snap.Ready(), "processes", snap.Len(), "draining", pod.Draining, "preempted", pod.Preempted)
	for st := range snap.All {
		args := []any{"name", st.Name, "phase", string(st.Phase), "for", now.Sub(st.Since).Round(time.Millisecond), "pid", st.PID, "restarts", st.Restarts}
		if st.Cause != nil {
			args = append(args, "cause", st.Cause)
		}
		if st.Detail != "" {
			args = append(args, "detail", st.Detail)
		}
		for _, c := range p.board.Checks(st.Name) {
			if c.Result != status.Pass {
				args = append(args, c.Probe, c.Err)
			}
		}
		p.log.Info("process", args...)
	}
}
