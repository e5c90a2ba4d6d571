package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

func get(t *testing.T, h http.Handler, target string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w.Code, w.Body.String()
}

// TestTruthTable is what the documentation promises: what each phase means for
// the three outputs of health.
func TestTruthTable(t *testing.T) {
	t.Parallel()
	const deadline = 20 * time.Second
	unready := func(p status.Phase, since time.Duration) status.State {
		return status.State{Phase: p, UnreadySince: time.Now().Add(-since), StartupDeadline: deadline}
	}
	out := func(p status.Phase) status.State { return unready(p, time.Hour) }
	cases := []struct {
		name        string
		state       func() status.State
		pod         status.Pod
		ready, live bool
	}{
		{name: "ready", state: func() status.State { return status.State{Phase: status.Ready} }, ready: true, live: true},
		{name: "completed", state: func() status.State { return status.State{Phase: status.Completed} }, ready: true, live: true},
		{name: "waiting before its first start", state: func() status.State { return status.State{Phase: status.Waiting, StartupDeadline: deadline} }, live: true},
		{name: "waiting within its deadline", state: func() status.State { return unready(status.Waiting, deadline) }, live: true},
		{name: "waiting beyond its deadline", state: func() status.State { return unready(status.Waiting, deadline+1) }},
		{name: "starting within its deadline", state: func() status.State { return unready(status.Starting, deadline) }, live: true},
		{name: "starting beyond its deadline", state: func() status.State { return unready(status.Starting, deadline+1) }},
		{name: "running within its deadline", state: func() status.State { return unready(status.Running, deadline) }, live: true},
		{name: "running beyond its deadline", state: func() status.State { return unready(status.Running, deadline+1) }},
		{name: "in back-off within its deadline", state: func() status.State { return unready(status.Backoff, deadline) }, live: true},
		{name: "in back-off beyond its deadline", state: func() status.State { return unready(status.Backoff, deadline+1) }},
		{name: "stopping within its deadline", state: func() status.State { return unready(status.Stopping, deadline) }, live: true},
		{name: "stopping beyond its deadline", state: func() status.State { return unready(status.Stopping, deadline+1) }},
		{name: "un-ready for ever, without a deadline", state: func() status.State {
			st := out(status.Running)
			st.StartupDeadline = 0
			return st
		}, live: true},
		{name: "failed for good", state: func() status.State { return status.State{Phase: status.Failed} }},
		{name: "standby", state: func() status.State { return out(status.Standby) }, ready: true, live: true},
		{name: "skipped", state: func() status.State { return out(status.Skipped) }, ready: true, live: true},
		{name: "stopped by an operator", state: func() status.State { return out(status.Stopped) }, live: true},
		{name: "ready while the pod drains", state: func() status.State { return status.State{Phase: status.Ready} }, pod: status.Pod{Draining: true}, live: true},
		{name: "ready while the pod is preempted", state: func() status.State { return status.State{Phase: status.Ready} }, pod: status.Pod{Preempted: true}, live: true},
		{name: "failed while the pod drains", state: func() status.State { return status.State{Phase: status.Failed} }, pod: status.Pod{Draining: true}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "started")
			synctest.Test(t, func(t *testing.T) {
				board := status.NewBoard()
				st := c.state()
				st.Name = "x"
				board.Declare(st, status.State{Name: "good", Phase: status.Ready})
				board.UpdatePod(func(p *status.Pod) { *p = c.pod })
				h := Handler(board, Config{})
				stop := runFile(t, &ReadinessFile{Path: path, Log: slog.New(slog.DiscardHandler)}, board)
				defer stop()
				synctest.Wait()
				for target, want := range map[string]bool{"/readiness": c.ready, "/liveness": c.live} {
					code, body := get(t, h, target)
					if wantCode := map[bool]int{true: 200, false: 503}[want]; code != wantCode {
						t.Errorf("%s: got %d, want %d: %s", target, code, wantCode, body)
					}
					if want != (body == "ok\n") {
						t.Errorf("%s: body %q", target, body)
					}
				}
				if exists(path) != c.ready {
					t.Errorf("readiness file exists: %v, want %v", exists(path), c.ready)
				}
			})
		})
	}
}

func TestReadinessIs200WithoutProcesses(t *testing.T) {
	t.Parallel()
	if code, body := get(t, Handler(status.NewBoard(), Config{}), "/readiness"); code != 200 || body != "ok\n" {
		t.Errorf("got %d %q", code, body)
	}
}

func TestBodiesSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		board := status.NewBoard()
		now := time.Now()
		board.Declare(
			status.State{Name: "ok", Phase: status.Ready},
			status.State{Name: "web", Phase: status.Backoff, Cause: errors.New("exited with code 1"), Restarts: 3},
			status.State{Name: "zero", Phase: status.Backoff},
			status.State{Name: "api", Phase: status.Running, UnreadySince: now, StartupDeadline: 10 * time.Second},
			status.State{Name: "late", Phase: status.Waiting, Detail: "for db to be ready"},
			status.State{Name: "bad", Phase: status.Failed, Cause: errors.New("no\x1b[31m such\nfile")},
		)
		board.PutCheck(status.Check{Process: "api", Probe: "http", Result: status.Fail, Err: errors.New("connection refused")})
		board.PutCheck(status.Check{Process: "api", Probe: "file", Result: status.Pass, Err: errors.New("a warning")})
		board.UpdatePod(func(p *status.Pod) {
			*p = status.Pod{Draining: true, Preempted: true, Reason: "SIGTERM", Deadline: now.Add(30 * time.Second)}
		})
		time.Sleep(11 * time.Second)

		h := Handler(board, Config{})
		_, body := get(t, h, "/readiness")
		want := "pod: draining: SIGTERM; gone by 2000-01-01T00:00:30Z\n" +
			"web: backoff: exited with code 1 (restart 3)\n" +
			"zero: backoff: exited with code 0\n" +
			"api: running: http: connection refused\n" +
			"late: waiting: for db to be ready\n" +
			`bad: failed: no\x1b[31m such\nfile` + "\n"
		if body != want {
			t.Errorf("/readiness:\n%s\nwant:\n%s", body, want)
		}
		_, body = get(t, h, "/liveness")
		want = "api: running: http: connection refused; not ready for 11s, longer than its startupDeadline of 10s\n" +
			`bad: failed: no\x1b[31m such\nfile` + "\n"
		if body != want {
			t.Errorf("/liveness:\n%s\nwant:\n%s", body, want)
		}
	})
}

func TestBodyIsBounded(t *testing.T) {
	t.Parallel()
	board := status.NewBoard()
	states := make([]status.State, 1000)
	for i := range states {
		states[i] = status.State{Name: fmt.Sprint("p", i), Phase: status.Failed, Cause: errors.New(strings.Repeat("x", 1<<16))}
	}
	board.Declare(states...)
	_, body := get(t, Handler(board, Config{}), "/readiness")
	if n := strings.Count(body, "\n"); n != maxLines+1 || len(body) > maxLines*(maxError+100) {
		t.Errorf("%d lines, %d bytes", n, len(body))
	}
	if !strings.HasSuffix(body, "and 900 more\n") {
		t.Errorf("ends with %q", body[len(body)-40:])
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	notReady := status.State{Name: "x", Phase: status.Running}
	ready := status.State{Name: "x", Phase: status.Ready}
	cases := []struct {
		name   string
		target string
		after  time.Duration
		change func(*status.Board)
		code   int
		took   time.Duration
	}{
		{"returns when ready", "/readiness?wait", time.Minute, func(b *status.Board) { b.Put(ready) }, 200, time.Minute},
		{"returns when ready, before its limit", "/readiness?wait=2m", time.Minute, func(b *status.Board) { b.Put(ready) }, 200, time.Minute},
		{"gives up at its limit", "/readiness?wait=30s", time.Minute, func(b *status.Board) { b.Put(ready) }, 503, 30 * time.Second},
		{"gives up when the pod leaves service for good", "/readiness?wait", time.Second, func(b *status.Board) {
			b.UpdatePod(func(p *status.Pod) { p.Draining = true })
		}, 503, time.Second},
		{"gives up when the pod is preempted", "/readiness?wait", time.Second, func(b *status.Board) {
			b.UpdatePod(func(p *status.Pod) { p.Preempted = true })
		}, 503, time.Second},
		{"goes on through changes that are not enough", "/readiness?wait=", time.Minute, func(b *status.Board) {
			b.Put(notReady)
			b.Put(status.State{Name: "y", Phase: status.Ready})
			time.Sleep(time.Second)
			b.Put(ready)
		}, 200, time.Minute + time.Second},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				board := status.NewBoard()
				board.Put(notReady)
				start := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() {
					time.Sleep(c.after)
					c.change(board)
				})
				code, body := get(t, Handler(board, Config{}), c.target)
				if took := time.Since(start); code != c.code || took != c.took {
					t.Errorf("got %d after %v, want %d after %v: %s", code, took, c.code, c.took, body)
				}
				wg.Wait()
			})
		})
	}
}

func TestWaitRefusesWhatIsNoTime(t *testing.T) {
	t.Parallel()
	board := status.NewBoard()
	for _, v := range []string{"30", "x", "-1s", "0s", "1s%0a"} {
		code, body := get(t, Handler(board, Config{}), "/readiness?wait="+v)
		if code != 400 || !strings.Contains(body, "use wait=30s") {
			t.Errorf("%q: got %d %q", v, code, body)
		}
	}
}

func TestWaitersAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		board := status.NewBoard()
		board.Put(status.State{Name: "x", Phase: status.Running})
		h := Handler(board, Config{})
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for range maxWaiters {
			wg.Go(func() {
				r := httptest.NewRequest(http.MethodGet, "/readiness?wait", nil).WithContext(ctx)
				h.ServeHTTP(httptest.NewRecorder(), r)
			})
		}
		synctest.Wait()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readiness?wait", nil))
		if w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("one too many: %d %v", w.Code, w.Header())
		}
		if code, _ := get(t, h, "/readiness"); code != 503 {
			t.Errorf("one that does not wait: %d", code)
		}
		cancel()
		wg.Wait()
		board.Put(status.State{Name: "x", Phase: status.Ready})
		if code, _ := get(t, h, "/readiness?wait"); code != 200 {
			t.Errorf("after they left: %d", code)
		}
	})
}

func FuzzClip(f *testing.F) {
	f.Add("a\x1b[0m\nü\xff\u2028", 8)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = min(max(limit, 0), 1000)
		got := clip(s, limit)
		if len(got) > limit+len("…") {
			t.Errorf("%d bytes of %d", len(got), limit)
		}
		for _, r := range got {
			if r < ' ' || r == 0x7f || r == 0xfffd && !strings.ContainsRune(s, r) {
				t.Errorf("%q holds %q", got, r)
			}
		}
	})
}

func BenchmarkReadinessOf1000(b *testing.B) {
	board := status.NewBoard()
	states := make([]status.State, 1000)
	for i := range states {
		states[i] = status.State{Name: fmt.Sprint("p", i), Phase: status.Ready}
	}
	board.Declare(states...)
	h := Handler(board, Config{})
	r := httptest.NewRequest(http.MethodGet, "/readiness", nil)
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}
