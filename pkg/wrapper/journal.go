package wrapper

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// journal logs each transition with one line. It satisfies status.Observer and
// status.CheckObserver.
type journal struct {
	log *slog.Logger

	mu   sync.Mutex // guards last
	last map[probeKey]string
}

type probeKey struct{ process, probe string }

func newJournal(log *slog.Logger) *journal {
	return &journal{log: log, last: make(map[probeKey]string)}
}

// Observe logs a transition.
func (j *journal) Observe(old, new status.State) {
	if old.Phase == new.Phase && old.Detail == new.Detail {
		return
	}
	level, msg, args := describe(old, new)
	if !j.log.Enabled(context.Background(), level) {
		return
	}
	//nolint:sloglint // one of the constants of describe
	j.log.Log(context.Background(), level, msg, append([]any{"name", new.Name, "phase", string(new.Phase)}, args...)...)
}

// describe says what a transition means to a reader of logs.
func describe(old, new status.State) (level slog.Level, msg string, args []any) {
	level = slog.LevelInfo
	switch new.Phase {
	case status.Waiting, status.Standby:
		if new.Detail == "" {
			return slog.LevelDebug, "declared", nil
		}
		return level, "waiting", []any{"detail", new.Detail}
	case status.Starting:
		if new.Detail == "" {
			return slog.LevelDebug, "starting", nil
		}
		return slog.LevelDebug, "starting", []any{"detail", new.Detail}
	case status.Running:
		if old.Phase == status.Ready {
			return slog.LevelWarn, "not ready any more", []any{"pid", new.PID}
		}
		return level, "started", []any{"pid", new.PID, "restarts", new.Restarts}
	case status.Ready:
		return level, "ready", []any{"pid", new.PID, "after", new.Since.Sub(new.Started).Round(time.Millisecond)}
	case status.Backoff:
		if old.Phase == status.Backoff {
			return slog.LevelWarn, "not cleanly ended", []any{"detail", new.Detail}
		}
		return slog.LevelWarn, "ended, will be started again", append(ended(new), "in", new.Next.Sub(new.Ended).Round(time.Millisecond))
	case status.Failed:
		return slog.LevelError, "failed for good", ended(new)
	case status.Completed, status.Stopped:
		return level, string(new.Phase), ended(new)
	case status.Stopping:
		if new.Detail != "" {
			return slog.LevelWarn, "stopping", []any{"pid", new.PID, "detail", new.Detail}
		}
		return level, "stopping", []any{"pid", new.PID}
	}
	return level, string(new.Phase), nil
}

func ended(st status.State) []any {
	if st.Ended.IsZero() {
		return nil
	}
	var args []any
	if st.ExitCode >= 0 {
		args = append(args, "code", st.ExitCode)
	}
	if st.Cause != nil {
		args = append(args, "cause", st.Cause)
	}
	if !st.Started.IsZero() {
		args = append(args, "ran", st.Ended.Sub(st.Started).Round(time.Millisecond))
	}
	return args
}

// ObserveCheck logs each verdict at debug level, and one that differs from the
// last for everybody.
func (j *journal) ObserveCheck(c status.Check) {
	text := string(c.Result)
	if c.Err != nil {
		text += ": " + c.Err.Error()
	}
	if j.changed(c, text) {
		level := slog.LevelWarn
		if c.Err == nil {
			level = slog.LevelInfo
		}
		args := []any{"name", c.Process, "probe", c.Probe, "result", string(c.Result)}
		if c.Err != nil {
			args = append(args, "err", c.Err)
		}
		j.log.Log(context.Background(), level, "probe", args...)
		return
	}
	j.log.Debug("probe", "name", c.Process, "probe", c.Probe, "result", string(c.Result), "took", c.Duration)
}

// changed remembers a verdict, and reports whether it is news: the first that
// passes is not.
func (j *journal) changed(c status.Check, text string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	key := probeKey{c.Process, c.Probe}
	last, seen := j.last[key]
	if last == text {
		return false
	}
	j.last[key] = text
	return seen || c.Err != nil
}
