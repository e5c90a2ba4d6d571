package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

const (
	maxLines = 100 // of processes that are not well
	maxError = 300 // bytes of an error in a line
)

func (h *handler) readiness(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Has("wait") {
		limit, err := parseWait(q.Get("wait"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if !h.await(w, r, limit) {
			return
		}
	}
	snap, _ := h.board.Load()
	if snap.Ready() {
		text(w, http.StatusOK, "ok\n")
		return
	}
	var body strings.Builder
	podLine(&body, snap.Pod())
	h.lines(&body, snap.Unready, func(st status.State) string { return h.why(st) })
	text(w, http.StatusServiceUnavailable, body.String())
}

func (h *handler) liveness(w http.ResponseWriter, _ *http.Request) {
	now := time.Now()
	snap, _ := h.board.Load()
	var body strings.Builder
	h.lines(&body, snap.Dead(now), func(st status.State) string { return h.whyDead(st, now) })
	if body.Len() == 0 {
		text(w, http.StatusOK, "ok\n")
		return
	}
	text(w, http.StatusServiceUnavailable, body.String())
}

// parseWait reads the value of ?wait; 0 is for as long as it takes.
func parseWait(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("wait=%s is not a time to wait: use wait=30s, or wait without a value to wait until ready", clip(s, 32))
	}
	return d, nil
}

// await returns true when it is time to answer: the pod is ready or has left
// service, or the limit has passed. It returns false when there is nobody
// or nothing left to say.
func (h *handler) await(w http.ResponseWriter, r *http.Request, limit time.Duration) bool {
	if snap, _ := h.board.Load(); snap.Ready() || !snap.Pod().InService() {
		return true
	}
	select {
	case h.waiters <- struct{}{}:
		defer func() { <-h.waiters }()
	default:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests are waiting: try again, or without wait", http.StatusServiceUnavailable)
		return false
	}
	defer park(r.Context())()
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{})
	defer func() { _ = rc.SetWriteDeadline(time.Now().Add(answerTimeout)) }()
	return h.untilReady(r.Context(), limit)
}

// untilReady reports whether somebody still wants the answer.
func (h *handler) untilReady(ctx context.Context, limit time.Duration) bool {
	var timeout <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		timeout = t.C
	}
	for {
		snap, changed := h.board.LoadPod()
		if snap.Ready() || !snap.Pod().InService() {
			return true
		}
		select {
		case <-changed:
		case <-timeout:
			return true
		case <-ctx.Done():
			return errors.Is(context.Cause(ctx), errClosing) // the server ends, the client is still there
		}
	}
}

// lines writes a line for each process, up to a bound.
func (h *handler) lines(body *strings.Builder, all func(func(status.State) bool), line func(status.State) string) {
	n := 0
	for st := range all {
		if n++; n <= maxLines {
			body.WriteString(line(st))
			body.WriteByte('\n')
		}
	}
	if n > maxLines {
		fmt.Fprintf(body, "and %d more\n", n-maxLines)
	}
}

func podLine(body *strings.Builder, pod status.Pod) {
	state := "preempted"
	switch {
	case pod.InService():
		return
	case pod.Draining:
		state = "draining"
	}
	body.WriteString("pod: " + state)
	if pod.Reason != "" {
		body.WriteString(": " + clip(pod.Reason, maxError))
	}
	if !pod.Deadline.IsZero() {
		body.WriteString("; gone by " + pod.Deadline.UTC().Format(time.RFC3339))
	}
	body.WriteByte('\n')
}

// why says in a line why a process is not ready.
func (h *handler) why(st status.State) string {
	var b strings.Builder
	b.WriteString(clip(st.Name, 128) + ": " + string(st.Phase))
	if s := h.reason(st); s != "" {
		b.WriteString(": " + s)
	}
	if st.Restarts > 0 {
		fmt.Fprintf(&b, " (restart %d)", st.Restarts)
	}
	return b.String()
}

// whyDead says in a line why a process makes the pod count as dead.
func (h *handler) whyDead(st status.State, now time.Time) string {
	if st.Phase == status.Failed {
		return h.why(st)
	}
	return fmt.Sprintf("%s; not ready for %v, longer than its startupDeadline of %v",
		h.why(st), now.Sub(st.UnreadySince).Round(time.Second), st.StartupDeadline)
}

func (h *handler) reason(st status.State) string {
	switch st.Phase {
	case status.Backoff, status.Failed:
		if st.Cause == nil {
			return fmt.Sprintf("exited with code %d", st.ExitCode)
		}
		return clip(st.Cause.Error(), maxError)
	case status.Running, status.Stopping:
		return h.failing(st)
	}
	return clip(st.Detail, maxError)
}

// failing names the probes whose last verdict was not good.
func (h *handler) failing(st status.State) string {
	var out []string
	if st.Detail != "" {
		out = append(out, clip(st.Detail, maxError))
	}
	for _, c := range h.board.Checks(st.Name) {
		if c.Result == status.Pass || len(out) > 4 {
			continue
		}
		s := clip(c.Probe, 64) + ": " + string(c.Result)
		if c.Err != nil {
			s = clip(c.Probe, 64) + ": " + clip(c.Err.Error(), maxError)
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}
