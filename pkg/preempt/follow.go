package preempt

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 30 * time.Second
	recheck    = time.Minute // after an answer that will not change soon
	logEvery   = time.Minute // for failures of one kind
)

// source is what is asked again and again.
type source interface {
	// poll asks once, and returns how long to wait before it is called again,
	// errOver when there is no need to.
	poll(ctx context.Context) (time.Duration, error)
	// hint is what is likely wrong after a failure of a kind, or "".
	hint(f *fault) string
}

var errOver = errors.New("nothing left to learn")

// follow polls a source until ctx ends or the source is over. The main one says
// whether the watcher is up, and its failures are worth a warning.
func (w *Watcher) follow(ctx context.Context, s source, main bool) {
	out := outage{log: w.cfg.Log, level: slog.LevelDebug, lines: make(map[string]*line)}
	if main {
		out.level = slog.LevelWarn
	}
	for {
		pause, err := s.poll(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil, errors.Is(err, errOver):
			out.end()
		default:
			f := faultOf(err)
			pause = out.add(f, s.hint(f))
		}
		if main {
			w.change(func(st *Stats) {
				if st.Up = out.began.IsZero(); st.Up {
					st.LastSuccess = time.Now()
				}
			})
		}
		if errors.Is(err, errOver) || sleep(ctx, pause) != nil {
			return
		}
	}
}

// outage is what is known of failures in a row, and how they are logged: each
// kind at once, then one line a minute with how often it was met.
type outage struct {
	log   *slog.Logger
	level slog.Level
	began time.Time // zero: there is none
	last  string    // kind of the last failure
	lines map[string]*line
}

type line struct {
	at    time.Time // of the last one
	count int       // failures since then
}

// add takes note of a failure, and returns how long to wait.
func (o *outage) add(f *fault, hint string) time.Duration {
	now := time.Now()
	if o.began.IsZero() {
		o.began = now
	}
	again := o.last == f.kind
	o.last = f.kind
	if n := o.due(f.kind, now); n > 0 && (!f.final() || !again) {
		args := []any{"err", f.err, "count", n}
		if hint != "" {
			args = append(args, "hint", hint)
		}
		o.log.Log(context.Background(), o.level, "cannot ask the metadata server", args...)
	}
	if f.final() {
		return recheck
	}
	return max(pause(now.Sub(o.began)), f.after)
}

// pause is a random one that is at most as long as the outage has lasted, so
// it grows exponentially, and an outage of a second is over for us at most a
// second after its end.
func pause(outage time.Duration) time.Duration {
	return rand.N(min(max(outage, firstRetry), lastRetry))
}

// end takes note of a good answer.
func (o *outage) end() {
	if o.began.IsZero() {
		return
	}
	lasted := time.Since(o.began)
	o.began, o.last = time.Time{}, ""
	if o.due("", time.Now()) > 0 {
		o.log.Log(context.Background(), min(o.level, slog.LevelInfo), "the metadata server answers again", "after", lasted.Round(time.Millisecond))
	}
}

// due counts, and returns the count when it is time for a line.
func (o *outage) due(kind string, now time.Time) int {
	l := o.lines[kind]
	if l == nil {
		l = &line{at: now.Add(-logEvery)}
		o.lines[kind] = l
	}
	l.count++
	if now.Sub(l.at) < logEvery {
		return 0
	}
	n := l.count
	l.at, l.count = now, 0
	return n
}
