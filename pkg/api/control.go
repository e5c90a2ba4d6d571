package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// Verb is what an operator does to a process.
type Verb string

// The verbs.
const (
	Start   Verb = "start"
	Stop    Verb = "stop"
	Restart Verb = "restart"
)

// Operator changes processes. A name may stand for several, replicas of one. Its
// errors are for the person who asked; those with a method NotFound() bool say that there is no
// such process.
type Operator interface {
	// Do begins to do it, and returns the names of those to which it is done.
	Do(ctx context.Context, verb Verb, name string) ([]string, error)
	// Signal sends a signal, by its name or number, to the groups of processes.
	Signal(name, signal string) ([]string, error)
	// Reload reads the config again, and says what became of it as JSON has it.
	Reload(ctx context.Context) (any, error)
	// Logs returns the latest lines of a process, nil where it is not known.
	Logs(name string) Lines
	// Names returns the processes for which a name stands.
	Names(name string) ([]string, error)
}

// Lines are the latest lines of a process.
type Lines interface {
	// Tail returns the place before the latest lines; of none that is 0 only as
	// long as nothing was written.
	Tail(lines int) (place uint64)
	Read(from uint64, b []byte) (n int, next, lost uint64, changed <-chan struct{})
}

// ControlConfig is what the handler of the control socket has beside the board.
type ControlConfig struct {
	Operator Operator
	Events   *Events
	Usage    func(name string) (Usage, bool) // may be nil
	Lock     func(name string) (Lock, bool)  // may be nil
}

type control struct {
	ControlConfig
	*handler
	following atomic.Int32 // clients that follow logs
}

// ControlHandler returns the handler of the control socket:
//
//	GET  /v1/processes[/N]                  as on the health socket
//	POST /v1/processes/N/start|stop|restart {"processes": [names]}; ?wait=30s: when it is done
//	POST /v1/processes/N/signal?signal=HUP  the same
//	POST /v1/reload                         what became of the config
//	GET  /v1/logs?name=N&lines=100&follow   lines as they were logged, of one or more names; &format=json: a JSON object for each;
//	                                        a header Silent names each of them that has written nothing yet
//	GET  /v1/events?follow                  one JSON object a line
//
// Errors are {"error": text} with 400, 404, 409 (it cannot be done now) or 504
// (it is under way, and took longer than ?wait).
func ControlHandler(board *status.Board, cfg ControlConfig) http.Handler {
	c := &control{ControlConfig: cfg, handler: newHandler(board, Config{Usage: cfg.Usage, Lock: cfg.Lock})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/processes", c.processes)
	mux.HandleFunc("GET /v1/processes/{name}", c.process)
	mux.HandleFunc("POST /v1/processes/{name}/{verb}", c.do)
	mux.HandleFunc("POST /v1/reload", c.reload)
	mux.HandleFunc("GET /v1/logs", c.logs)
	mux.HandleFunc("GET /v1/events", c.events)
	return bounded(mux)
}

type problem struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(problem{text}) // the client has left
}

// fail answers with what went wrong.
func fail(w http.ResponseWriter, err error) {
	var missing interface{ NotFound() bool }
	if errors.As(err, &missing) && missing.NotFound() {
		refuse(w, http.StatusNotFound, err.Error())
		return
	}
	refuse(w, http.StatusConflict, err.Error())
}

type done struct {
	Processes []string `json:"processes"`
}

func (c *control) do(w http.ResponseWriter, r *http.Request) {
	name, verb := r.PathValue("name"), Verb(r.PathValue("verb"))
	within, err := waitTime(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if verb == "signal" {
		c.answer(w)(c.Operator.Signal(name, r.URL.Query().Get("signal")))
		return
	}
	if verb != Start && verb != Stop && verb != Restart {
		refuse(w, http.StatusNotFound, fmt.Sprintf("%q is nothing that can be done: start, stop, restart, signal", clip(string(verb), 32)))
		return
	}
	began := time.Now()
	names, err := c.Operator.Do(r.Context(), verb, name)
	if err == nil && within > 0 {
		_ = http.NewResponseController(w).SetWriteDeadline(began.Add(within + answerTimeout))
		if err := c.await(r.Context(), verb, names, began, within); err != nil {
			refuse(w, http.StatusGatewayTimeout, err.Error())
			return
		}
	}
	c.answer(w)(names, err)
}

// answer says to which processes something was done, or why not.
func (c *control) answer(w http.ResponseWriter) func(names []string, err error) {
	return func(names []string, err error) {
		if err != nil {
			fail(w, err)
			return
		}
		writeJSON(w, done{names})
	}
}

// maxWait bounds ?wait.
const maxWait = time.Hour

// waitTime reads ?wait; 0 is not to wait.
func waitTime(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxWait {
		return 0, fmt.Errorf("wait=%s is no time up to %v, such as 30s", clip(text, 32), maxWait)
	}
	return d, nil
}

// await waits until what was begun at a time is done.
func (c *control) await(ctx context.Context, verb Verb, names []string, began time.Time, within time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not done within %v", within))
	defer cancel()
	for _, name := range names {
		if err := c.awaitOne(ctx, verb, name, began); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (c *control) awaitOne(ctx context.Context, verb Verb, name string, began time.Time) error {
	for {
		st, changed := c.board.Watch(name)
		fresh := st.Started.After(began) || st.Since.After(began)
		switch {
		case verb == Stop && st.Phase.Final():
			return nil
		case verb != Stop && fresh && st.Phase.Ready():
			return nil
		case verb != Stop && fresh && st.Phase == status.Failed:
			return fmt.Errorf("it has failed: %w", st.Cause)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if st.Cause != nil && !st.Phase.Ready() {
				return fmt.Errorf("%w: it is %s; last end: %w", context.Cause(ctx), st.Phase, st.Cause)
			}
			return fmt.Errorf("%w: it is %s", context.Cause(ctx), st.Phase)
		}
	}
}

func (c *control) reload(w http.ResponseWriter, r *http.Request) {
	out, err := c.Operator.Reload(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, out)
}

const (
	logPiece     = 64 << 10               // of one process at a time
	logPause     = 100 * time.Millisecond // between two looks at what is followed
	logPieces    = 8                      // of one process at a time, while few follow
	fewFollow    = 8
	defaultLines = 100
	maxLogNames  = 1000
	idleWrite    = 30 * time.Second // a follower that takes nothing for so long is dropped
	silentHeader = "Silent"         // names a process that has written nothing yet
)

// logs writes the latest lines of processes, and those to come.
func (c *control) logs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	lines := defaultLines
	if text := q.Get("lines"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			refuse(w, http.StatusBadRequest, fmt.Sprintf("lines=%s is no number of lines", clip(text, 32)))
			return
		}
		lines = n
	}
	all, silent, err := c.sources(q["name"], lines)
	if err != nil {
		fail(w, err)
		return
	}
	if len(silent) > 0 && (len(q["name"]) > 0 || len(all) == len(silent)) {
		w.Header()[silentHeader] = silent
	}
	f := &follower{w: w, rc: http.NewResponseController(w), all: all, buf: make([]byte, logPiece), others: &c.following}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	switch format := q.Get("format"); format {
	case "", "text":
	case "json":
		f.json = json.NewEncoder(w)
		f.json.SetEscapeHTML(false)
		w.Header().Set("Content-Type", "application/x-ndjson")
	default:
		refuse(w, http.StatusBadRequest, fmt.Sprintf("format=%s is neither text nor json", clip(format, 32)))
		return
	}
	follow := q.Has("follow")
	c.following.Add(1)
	defer c.following.Add(-1)
	for f.copy() == nil && follow {
		if !pause(r.Context(), logPause) {
			return
		}
	}
	_ = f.finish() // the client has gone
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// source is a process whose lines are followed.
type source struct {
	name  string
	lines Lines
	at    uint64
	begun []byte // of a line whose end has not come, where lines become JSON
}

// sources finds what is to be followed, and what of it has written nothing yet; no
// names are all processes.
func (c *control) sources(names []string, lines int) (all []source, silent []string, err error) {
	everything := len(names) == 0
	if everything {
		snap, _ := c.board.Load()
		for st := range snap.All {
			names = append(names, st.Name)
		}
	}
	for _, name := range names[:min(len(names), maxLogNames)] {
		found, err := c.Operator.Names(name)
		if err != nil && everything {
			continue // it was removed just now
		}
		if err != nil {
			return nil, nil, err
		}
		for _, n := range found {
			l := c.Operator.Logs(n)
			if l == nil {
				continue
			}
			if l.Tail(0) == 0 {
				silent = append(silent, n)
			}
			all = append(all, source{name: n, lines: l, at: l.Tail(lines)})
		}
	}
	return all, silent, nil
}

type eventJSON struct {
	Time     time.Time `json:"time"`
	Process  string    `json:"process"`
	Phase    string    `json:"phase,omitempty"`
	Before   string    `json:"before,omitempty"`
	PID      int       `json:"pid,omitempty"`
	Restarts int       `json:"restarts,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	ExitCode *int      `json:"exitCode,omitempty"`
	Cause    *string   `json:"cause,omitempty"`
	Detail   string    `json:"detail,omitempty"`
	Probe    string    `json:"probe,omitempty"`
	Result   string    `json:"result,omitempty"`
	Error    *string   `json:"error,omitempty"`
}

func (e Event) json() eventJSON {
	out := eventJSON{
		Time: e.Time.UTC(), Process: e.Process, Phase: string(e.Phase), Before: string(e.Before), PID: e.PID, Restarts: e.Restarts,
		Reason: e.Reason, Cause: message(e.Cause), Detail: clip(e.Detail, maxError), Probe: e.Probe, Result: string(e.Result), Error: message(e.Err),
	}
	if e.ExitCode >= 0 {
		out.ExitCode = &e.ExitCode
	}
	return out
}

// events writes the latest events, and those to come.
func (c *control) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc, enc := http.NewResponseController(w), json.NewEncoder(w)
	names := r.URL.Query()["name"]
	for last := uint64(0); ; {
		all, changed := c.Events.Since(last)
		_ = rc.SetWriteDeadline(time.Now().Add(idleWrite))
		for _, e := range all {
			last = e.Number
			if len(names) > 0 && !named(names, e.Process) {
				continue
			}
			if enc.Encode(e.json()) != nil {
				return
			}
		}
		if rc.Flush() != nil || !r.URL.Query().Has("follow") {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// named says whether a process is one of names, or a replica of one.
func named(names []string, process string) bool {
	for _, n := range names {
		if n == process || strings.HasPrefix(process, n+"_") {
			return true
		}
	}
	return false
}
