// Package api answers over HTTP for all processes of a pod, and keeps the
// readiness file. It reads a [status.Board] and changes nothing but the
// heartbeats.
//
//	GET   /readiness[?wait[=30s]]  200, or 503 with a line per process that is not well
//	GET   /liveness                the same, for what makes the pod count as dead
//	GET   /status                  {"name": ready} in declared order, without skipped processes
//	GET   /pids                    {"name": pid} of the processes that are alive
//	GET   /pidof?name=N            the pid, bare; 404 when it is unknown or not alive
//	PATCH /heartbeat?name=N        204; 404 when the process is unknown
//	GET   /heartbeat?name=N        seconds since the last beat, bare; 404 before the first
//	GET   /metrics                 what the caller gives
//	GET   /prommerge               the same: the merged metrics of the processes
//	GET   /v1/processes            everything, as JSON
//	GET   /v1/processes/N          one element of its processes
//	GET   /                        a page for people; this list for programs
//	GET   /stream                  its middle, by server-sent events
//
// HEAD works where GET does. ?wait holds the answer back until it is 200, at
// most for the given time; while the pod is leaving service it is 503 at once,
// because it will not be 200 again.
//
// # The JSON of /v1/processes
//
// All keys are always there; null is "not known", "not yet" or "does not
// apply". next is when the process will be started again; usage is of its whole
// tree, CPU time over all incarnations. Times are RFC 3339. Keys may be added,
// never changed.
//
//	{"ready": false, "alive": true,
//	 "pod": {"draining": false, "preempted": false, "reason": "", "deadline": null},
//	 "processes": [{
//	   "name": "web", "phase": "backoff", "ready": false, "pid": null, "restarts": 3,
//	   "since": "2026-01-02T03:04:05Z", "started": "…", "ended": "…",
//	   "next": "…", "exitCode": 1, "cause": "exited with code 1", "reason": "exit", "detail": "",
//	   "probes": [{"name": "readiness", "result": "failure", "error": "connection refused",
//	               "time": "…", "durationSeconds": 0.002, "failures": 2}],
//	   "usage": {"time": "…", "cpuSeconds": 12.5, "cpuPercent": 3.1, "memoryBytes": 1048576,
//	             "processes": 2, "threads": 7, "openFds": 12, "maxOpenFds": 1024},
//	   "lock": {"key": "web", "held": true, "token": 7, "since": "…", "lost": 0}}]}
//
// phase is one of waiting, standby, starting, running, ready, stopping,
// backoff, completed, failed, stopped, skipped; cpuPercent of one core. Nothing
// here shows an environment or an argument of a process. Texts of errors are
// bounded and their control characters escaped.
package api

import (
	"io"
	"net/http"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

const (
	maxBody       = 4 << 10
	maxWaiters    = 128
	readTimeout   = 5 * time.Second  // of a header, and of a body that nobody needs
	answerTimeout = 30 * time.Second // of a response
)

// Usage is what the process tree of one process consumes.
type Usage struct {
	Time       time.Time     // when it was measured
	CPU        time.Duration // since the first start, all incarnations
	CPUPercent float64       // lately, 100 is one core
	Memory     int64         // resident bytes
	Processes  int
	Threads    int
	FDs        int
	MaxFDs     int // soft limit of the main process, 0 where not known or none
}

// Config is what a handler has beside the board. All of it may be zero.
type Config struct {
	Metrics    http.Handler                    // nil: /metrics is 404
	Prommerge  http.Handler                    // nil: /prommerge is 404
	Heartbeats *Heartbeats                     // nil: /heartbeat is 404
	Usage      func(name string) (Usage, bool) // false while not known
	History    func(name string) []Point       // of the last ten minutes, oldest first; nil: not known
	Events     *Events                         // nil: not shown
	Lock       func(name string) (Lock, bool)  // false where the process needs none
}

// Lock is the lock that a process needs to run.
type Lock struct {
	Key   string     `json:"key"`
	Held  bool       `json:"held"`
	Token *int64     `json:"token"` // the fencing token, while it is held
	Since *time.Time `json:"since"` // when it was acquired, while it is held
	Lost  uint64     `json:"lost"`  // how often it was lost
}

// Point is what a process tree used at a time.
type Point struct {
	Time       time.Time
	CPUPercent float64 // 100 is one core
	Memory     int64   // resident bytes
}

type handler struct {
	Config
	board   *status.Board
	waiters chan struct{} // a token for each ?wait that is held
	viewers chan struct{} // the same for pages that are open
}

// Handler returns the handler of all endpoints.
func Handler(board *status.Board, cfg Config) http.Handler {
	return newHandler(board, cfg).mux()
}

func newHandler(board *status.Board, cfg Config) *handler {
	return &handler{Config: cfg, board: board, waiters: make(chan struct{}, maxWaiters), viewers: make(chan struct{}, maxViewers)}
}

func (h *handler) mux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.root)
	mux.HandleFunc("GET /stream", h.stream)
	mux.HandleFunc("GET /readiness", h.readiness)
	mux.HandleFunc("GET /liveness", h.liveness)
	mux.HandleFunc("GET /status", h.status)
	mux.HandleFunc("GET /pids", h.pids)
	mux.HandleFunc("GET /pidof", h.pidof)
	mux.HandleFunc("GET /v1/processes", h.processes)
	mux.HandleFunc("GET /v1/processes/{name}", h.process)
	if h.Heartbeats != nil {
		mux.HandleFunc("GET /heartbeat", h.age)
		mux.HandleFunc("PATCH /heartbeat", h.beat)
	}
	if h.Metrics != nil {
		mux.Handle("GET /metrics", h.Metrics)
	}
	if h.Prommerge != nil {
		mux.Handle("GET /prommerge", h.Prommerge)
	}
	return bounded(mux)
}

// bounded gives every request a deadline and throws its body away, which no
// endpoint has a use for: while it is unread nobody notices that the client
// left.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w) // its errors: a recorder in a test has no deadlines
		_ = rc.SetWriteDeadline(time.Now().Add(answerTimeout))
		if r.ContentLength != 0 {
			_ = rc.SetReadDeadline(time.Now().Add(readTimeout))
			_, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody))
			if err != nil {
				w.Header().Set("Connection", "close")
				http.Error(w, "the body is too long or did not come: send none", http.StatusRequestEntityTooLarge)
				return
			}
			_ = rc.SetReadDeadline(time.Time{})
		}
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func (h *handler) index(w http.ResponseWriter, _ *http.Request) {
	text(w, http.StatusOK, `process-wrapper

GET   /                    this list; in a browser the status page
GET   /stream              the middle of that page by server-sent events
GET   /readiness           200, or 503 and what is not ready; ?wait or ?wait=30s: hold until 200
GET   /liveness            200, or 503 and what is dead
GET   /status              {name: ready}
GET   /pids                {name: pid}
GET   /pidof?name=N        pid
PATCH /heartbeat?name=N    beat
GET   /heartbeat?name=N    seconds since the last beat
GET   /metrics             Prometheus
GET   /prommerge           the metrics of all ready processes in one page
GET   /v1/processes[/N]    everything, as JSON
`)
}

// named returns the state of the process that the query names, or answers.
func (h *handler) named(w http.ResponseWriter, r *http.Request) (status.State, bool) {
	name := r.URL.Query().Get("name")
	if name == "" {
		http.Error(w, "which process? add ?name=NAME; /status lists the names", http.StatusBadRequest)
		return status.State{}, false
	}
	return h.find(w, name)
}

// find returns the state of a process, or answers.
func (h *handler) find(w http.ResponseWriter, name string) (status.State, bool) {
	snap, _ := h.board.Load()
	st, ok := snap.Get(name)
	if !ok {
		http.Error(w, "no process "+clip(name, 64)+"; /status lists the names", http.StatusNotFound)
	}
	return st, ok
}

// text answers in plain text, as it is.
func text(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body) // the client left: nobody to tell
}
