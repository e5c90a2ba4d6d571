package wrapper

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
	"github.com/process-wrapper/process-wrapper/pkg/supervisor"
)

// signals are those sent to us.
type signals struct{ c chan os.Signal }

// catch begins to catch. SIGPIPE is caught, not ignored: a reader of our
// output that went away must not end us, and what is ignored is inherited by
// children.
func catch() *signals {
	s := &signals{make(chan os.Signal, 16)}
	signal.Notify(s.c, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	return s
}

func (s *signals) release() { signal.Stop(s.c) }

// early hands on the signals that came during start-up, before anything is
// started.
func (s *signals) early(p *pod) {
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
