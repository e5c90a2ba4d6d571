package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

func zoo() *status.Board {
	board := status.NewBoard()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	board.Declare(
		status.State{Name: "web", Phase: status.Ready, PID: 42, Restarts: 1, Since: start.Add(time.Second), Started: start, ExitCode: 0, Ended: start.Add(-time.Second), Reason: "completed"},
		status.State{Name: "job", Phase: status.Completed, Since: start, Started: start, Ended: start, Reason: "completed"},
		status.State{Name: "db", Phase: status.Backoff, Since: start, Started: start, Ended: start, Next: start.Add(time.Minute), ExitCode: 3, Cause: errors.New("exited with code 3"), Reason: "exit"},
		status.State{Name: "off", Phase: status.Skipped, ExitCode: -1},
		status.State{Name: "a\"b", Phase: status.Running, PID: 43, ExitCode: -1, Detail: "hook"},
	)
	board.PutCheck(status.Check{Process: "a\"b", Probe: "http", Result: status.Fail, Err: errors.New("refused"), Time: start, Duration: 250 * time.Millisecond, Failures: 2})
	return board
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	h := Handler(zoo(), Config{
		Metrics:    http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") }),
		Prommerge:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "merged") }),
		Heartbeats: &Heartbeats{},
	})
	cases := []struct {
		method, target string
		code           int
		body           string // empty: not looked at
	}{
		{"GET", "/status", 200, `{"web":true,"job":true,"db":false,"a\"b":false}` + "\n"},
		{"GET", "/pids", 200, `{"web":42,"a\"b":43}` + "\n"},
		{"GET", "/pidof?name=web", 200, "42"},
		{"GET", "/pidof?name=db", 404, "process db is not alive: backoff\n"},
		{"GET", "/pidof?name=nope%0a", 404, `no process nope\n; /status lists the names` + "\n"},
		{"GET", "/pidof", 400, "which process? add ?name=NAME; /status lists the names\n"},
		{"GET", "/metrics", 200, "metrics"},
		{"GET", "/prommerge", 200, "merged"},
		{"GET", "/v1/processes/nope", 404, "no process nope; /status lists the names\n"},
		{"POST", "/prommerge", 405, ""},
		{"GET", "/nope", 404, ""},
		{"HEAD", "/readiness", 503, ""},
		{"HEAD", "/liveness", 200, ""},
		{"HEAD", "/v1/processes", 200, ""},
		{"POST", "/readiness", 405, ""},
		{"DELETE", "/v1/processes/web", 405, ""},
		{"PUT", "/heartbeat?name=web", 405, ""},
		{"GET", "/heartbeat?name=web", 404, ""},
		{"PATCH", "/heartbeat?name=nope", 404, ""},
		{"PATCH", "/heartbeat", 400, ""},
		{"PATCH", "/heartbeat?name=web", 204, ""},
	}
	for _, c := range cases {
		t.Run(c.method+" "+c.target, func(t *testing.T) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(c.method, c.target, nil))
			if w.Code != c.code || c.body != "" && w.Body.String() != c.body {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, c.code, c.body)
			}
			if w.Code == 405 && w.Header().Get("Allow") == "" {
				t.Error("no Allow")
			}
		})
	}
}

func TestIndexNamesEveryEndpoint(t *testing.T) {
	t.Parallel()
	_, body := get(t, Handler(zoo(), Config{}), "/")
	for _, e := range []string{"/readiness", "/liveness", "/status", "/pids", "/pidof", "/heartbeat", "/metrics", "/v1/processes"} {
		if !strings.Contains(body, e) {
			t.Errorf("%s is missing", e)
		}
	}
}

func TestWithoutMetricsAndHeartbeats(t *testing.T) {
	t.Parallel()
	h := Handler(zoo(), Config{})
	for _, target := range []string{"/metrics", "/heartbeat?name=web"} {
		if code, _ := get(t, h, target); code != 404 {
			t.Errorf("%s: %d", target, code)
		}
	}
}

func TestHeartbeatAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		beats := &Heartbeats{}
		h := Handler(zoo(), Config{Heartbeats: beats})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPatch, "/heartbeat?name=web", strings.NewReader("a body nobody needs")))
		time.Sleep(1500 * time.Millisecond)
		if code, body := get(t, h, "/heartbeat?name=web"); code != 200 || body != "1.500" {
			t.Errorf("got %d %q", code, body)
		}
		if at, ok := beats.Last("web"); !ok || time.Since(at) != 1500*time.Millisecond {
			t.Errorf("got %v %v", at, ok)
		}
		beats.Forget("web")
		if code, _ := get(t, h, "/heartbeat?name=web"); code != 404 {
			t.Errorf("after Forget: %d", code)
		}
	})
}

func TestProcessesJSON(t *testing.T) {
	t.Parallel()
	h := Handler(zoo(), Config{Usage: func(name string) (Usage, bool) {
		return Usage{
			Time: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC), CPU: 1500 * time.Millisecond, CPUPercent: 12.5,
			Memory: 4096, Processes: 2, Threads: 3, FDs: 4, MaxFDs: 1024,
		}, name == "web"
	}, Lock: func(name string) (Lock, bool) {
		token, since := int64(7), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		return Lock{Key: "db/web", Held: true, Token: &token, Since: &since, Lost: 1}, name == "web"
	}})
	code, body := get(t, h, "/v1/processes")
	var got any
	if err := json.Unmarshal([]byte(body), &got); code != 200 || err != nil {
		t.Fatal(code, err)
	}
	const want = `{"ready": false, "alive": true,
	 "pod": {"draining": false, "preempted": false, "reason": "", "deadline": null},
	 "processes": [
	  {"name": "web", "phase": "ready", "ready": true, "pid": 42, "restarts": 1,
	   "since": "2026-01-02T03:04:06Z", "started": "2026-01-02T03:04:05Z", "ended": "2026-01-02T03:04:04Z",
	   "next": null, "killAt": null, "exitCode": 0, "cause": null, "reason": "completed", "detail": "", "probes": [],
	   "usage": {"time": "2026-01-02T03:04:06Z", "cpuSeconds": 1.5, "cpuPercent": 12.5, "memoryBytes": 4096,
	             "processes": 2, "threads": 3, "openFds": 4, "maxOpenFds": 1024},
	   "lock": {"key": "db/web", "held": true, "token": 7, "since": "2026-01-02T03:04:05Z", "lost": 1}},
	  {"name": "job", "phase": "completed", "ready": true, "pid": null, "restarts": 0,
	   "since": "2026-01-02T03:04:05Z", "started": "2026-01-02T03:04:05Z", "ended": "2026-01-02T03:04:05Z",
	   "next": null, "killAt": null, "exitCode": 0, "cause": null, "reason": "completed", "detail": "", "probes": [], "usage": null, "lock": null},
	  {"name": "db", "phase": "backoff", "ready": false, "pid": null, "restarts": 0,
	   "since": "2026-01-02T03:04:05Z", "started": "2026-01-02T03:04:05Z", "ended": "2026-01-02T03:04:05Z",
	   "next": "2026-01-02T03:05:05Z", "killAt": null, "exitCode": 3, "cause": "exited with code 3", "reason": "exit", "detail": "", "probes": [], "usage": null, "lock": null},
	  {"name": "off", "phase": "skipped", "ready": false, "pid": null, "restarts": 0,
	   "since": null, "started": null, "ended": null,
	   "next": null, "killAt": null, "exitCode": null, "cause": null, "reason": "", "detail": "", "probes": [], "usage": null, "lock": null},
	  {"name": "a\"b", "phase": "running", "ready": false, "pid": 43, "restarts": 0,
	   "since": null, "started": null, "ended": null,
	   "next": null, "killAt": null, "exitCode": null, "cause": null, "reason": "", "detail": "hook",
	   "probes": [{"name": "http", "result": "failure", "error": "refused", "time": "2026-01-02T03:04:05Z",
	               "durationSeconds": 0.25, "failures": 2}], "usage": null, "lock": null}]}`
	var wanted map[string]any
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(any(wanted), got); d != "" {
		t.Error(d)
	}

	_, body = get(t, h, "/v1/processes/a%22b")
	var one any
	if err := json.Unmarshal([]byte(body), &one); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(wanted["processes"].([]any)[4], one); d != "" {
		t.Error(d)
	}
}

func TestBodyOfARequestIsBounded(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(Handler(zoo(), Config{}))
	defer srv.Close()
	for size, want := range map[int]int{maxBody: 200, maxBody + 1: 413} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/status", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
		if res.StatusCode != want {
			t.Errorf("%d bytes: got %d, want %d", size, res.StatusCode, want)
		}
	}
}

func BenchmarkProcessesOf1000(b *testing.B) {
	board := status.NewBoard()
	for i := range 1000 {
		board.Put(status.State{Name: fmt.Sprint("p", i), Phase: status.Ready, PID: i + 1, Since: time.Now()})
	}
	h := Handler(board, Config{})
	r := httptest.NewRequest(http.MethodGet, "/v1/processes", nil)
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}

func TestUsageIsOfThisIncarnation(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cases := []struct {
		name  string
		state status.State
		want  any
	}{
		{"measured before this one was started", status.State{PID: 7, Started: start.Add(time.Second)}, nil},
		{"gone: what it used stays used", status.State{Started: start}, map[string]any{
			"time": "2026-01-02T03:04:05Z", "cpuSeconds": 2.0, "cpuPercent": 0.0, "memoryBytes": 0.0,
			"processes": 0.0, "threads": 0.0, "openFds": 0.0, "maxOpenFds": nil,
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			board := status.NewBoard()
			c.state.Name = "x"
			board.Put(c.state)
			_, body := get(t, Handler(board, Config{Usage: func(string) (Usage, bool) {
				return Usage{Time: start, CPU: 2 * time.Second, CPUPercent: 5, Memory: 4096, Processes: 1, Threads: 1, FDs: 3, MaxFDs: 9}, true
			}}), "/v1/processes/x")
			var got map[string]any
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got["usage"]); d != "" {
				t.Error(d)
			}
		})
	}
}
