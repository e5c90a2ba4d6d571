package telemetry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// life is a board that has seen something of everything, and its metrics.
func life(t testing.TB) *prometheus.Registry {
	t.Helper()
	m := NewMetrics()
	board := status.NewBoard(m)
	start := time.Unix(1_700_000_000, 500_000_000)
	web := status.State{Name: "web", Phase: status.Waiting, ExitCode: -1}
	board.Declare(web, status.State{Name: "off", Phase: status.Skipped}, status.State{Name: "job", Phase: status.Completed, Started: start, Ended: start})
	put := func(change func(*status.State)) {
		change(&web)
		board.Put(web)
	}
	put(func(s *status.State) { s.Phase, s.Started = status.Starting, start })
	put(func(s *status.State) { s.Phase, s.PID = status.Running, 7 })
	put(func(s *status.State) { s.Phase = status.Ready })
	put(func(s *status.State) {
		s.Phase, s.PID, s.Ended, s.ExitCode, s.Reason = status.Backoff, 0, start.Add(90*time.Second), 3, "exit"
	})
	put(func(s *status.State) { s.Phase, s.Started, s.Restarts = status.Starting, start.Add(100*time.Second), 1 })
	put(func(s *status.State) { // it could not be started: no incarnation, no duration
		s.Phase, s.Ended, s.Reason = status.Backoff, start.Add(100*time.Second), "start"
	})
	put(func(s *status.State) { s.Phase, s.Started, s.Restarts = status.Starting, start.Add(200*time.Second), 2 })
	put(func(s *status.State) { s.Phase, s.PID = status.Running, 8 })
	board.PutCheck(status.Check{Process: "web", Probe: "http", Result: status.Pass, Duration: 2 * time.Millisecond})
	board.PutCheck(status.Check{Process: "web", Probe: "http", Result: status.Fail, Err: errors.New("x"), Duration: time.Minute})
	board.PutCheck(status.Check{Process: "web", Probe: "http", Result: status.Pass})

	reg := prometheus.NewPedanticRegistry()
	err := m.Register(reg, Sources{
		Board: board,
		Usage: func(name string) (Usage, bool) {
			switch name {
			case "web":
				return Usage{PID: 8, CPU: 1500 * time.Millisecond, Memory: 4096, Threads: 3, FDs: 4, MaxFDs: 1024}, true
			case "job":
				return Usage{PID: 9, CPU: time.Second, Memory: 4096}, true
			}
			return Usage{}, false
		},
		Logs: func(yield func(LogCount) bool) {
			for _, l := range []LogCount{
				{Process: "web", Stream: "stdout", Level: "info", Lines: 5},
				{Process: "web", Stream: "stdout", Level: "warn"},
				{Process: "web", Stream: "stderr", Level: "error", Lines: 1},
				{Process: "web", Stream: "stdout", Reason: "rate"},
				{Stream: "stderr", Level: "warn", Lines: 7},
				{Process: "gone", Stream: "stdout", Level: "info", Lines: 1},
			} {
				if !yield(l) {
					return
				}
			}
		},
		Version: "v1.2.3",
		Commit:  "abc",
	})
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	want := `
# HELP process_wrapper_build_info Always 1.
# TYPE process_wrapper_build_info gauge
process_wrapper_build_info{commit="abc",goversion="` + runtime.Version() + `",version="v1.2.3"} 1
# HELP process_wrapper_log_dropped_lines_total Lines of the process that were dropped.
# TYPE process_wrapper_log_dropped_lines_total counter
process_wrapper_log_dropped_lines_total{process_name="web",reason="rate",stream="stdout"} 0
# HELP process_wrapper_log_lines_total Lines of the process that were passed on.
# TYPE process_wrapper_log_lines_total counter
process_wrapper_log_lines_total{level="error",process_name="web",stream="stderr"} 1
process_wrapper_log_lines_total{level="info",process_name="web",stream="stdout"} 5
process_wrapper_log_lines_total{level="warn",process_name="",stream="stderr"} 7
# HELP process_wrapper_probe_duration_seconds How long checks of a probe took.
# TYPE process_wrapper_probe_duration_seconds histogram
process_wrapper_probe_duration_seconds_bucket{probe="http",process_name="web",le="0.001"} 1
process_wrapper_probe_duration_seconds_bucket{probe="http",process_name="web",le="0.005"} 2
process_wrapper_probe_duration_seconds_bucket{probe="http",process_name="web",le="0.025"} 2
process_wrapper_probe_duration_seconds_bucket{probe="http",process_name="web",le="0.1"} 2
process_wrapper_probe_duration_seconds_bucket{probe="http",process_name="web",le="0.5"} 2
process_wrapper_probe_duration_seconds_bucket{probe="http",process_name="web",le="1"} 2
process_wrapper_probe_duration_seconds_bucket{probe="http",process_name="web",le="5"} 2
process_wrapper_probe_duration_seconds_bucket{probe="http",process_name="web",le="30"} 2
process_wrapper_probe_duration_seconds_bucket{probe="http",process_name="web",le="+Inf"} 3
process_wrapper_probe_duration_seconds_sum{probe="http",process_name="web"} 60.002
process_wrapper_probe_duration_seconds_count{probe="http",process_name="web"} 3
# HELP process_wrapper_probe_total Verdicts of a probe.
# TYPE process_wrapper_probe_total counter
process_wrapper_probe_total{probe="http",process_name="web",result="failure"} 1
process_wrapper_probe_total{probe="http",process_name="web",result="success"} 2
process_wrapper_probe_total{probe="http",process_name="web",result="unknown"} 0
# HELP process_wrapper_process_cpu_seconds_total CPU time of the whole process tree, over all incarnations.
# TYPE process_wrapper_process_cpu_seconds_total counter
process_wrapper_process_cpu_seconds_total{process_name="job"} 1
process_wrapper_process_cpu_seconds_total{process_name="web"} 1.5
# HELP process_wrapper_process_last_exit_code Exit code of the last incarnation that ended, 128+n for a signal.
# TYPE process_wrapper_process_last_exit_code gauge
process_wrapper_process_last_exit_code{process_name="job"} 0
process_wrapper_process_last_exit_code{process_name="web"} 3
# HELP process_wrapper_process_max_fds Soft limit of open file descriptors of the main process.
# TYPE process_wrapper_process_max_fds gauge
process_wrapper_process_max_fds{process_name="web"} 1024
# HELP process_wrapper_process_open_fds Open file descriptors of the whole process tree.
# TYPE process_wrapper_process_open_fds gauge
process_wrapper_process_open_fds{process_name="web"} 4
# HELP process_wrapper_process_ready Whether the process counts as ready.
# TYPE process_wrapper_process_ready gauge
process_wrapper_process_ready{process_name="job"} 1
process_wrapper_process_ready{process_name="web"} 0
# HELP process_wrapper_process_resident_memory_bytes Resident memory of the whole process tree; shared pages count for each of its processes.
# TYPE process_wrapper_process_resident_memory_bytes gauge
process_wrapper_process_resident_memory_bytes{process_name="web"} 4096
# HELP process_wrapper_process_restarts_total How often the process was started again, by why its last incarnation ended.
# TYPE process_wrapper_process_restarts_total counter
process_wrapper_process_restarts_total{process_name="web",reason="exit"} 1
process_wrapper_process_restarts_total{process_name="web",reason="start"} 1
# HELP process_wrapper_process_run_duration_seconds How long incarnations of the process ran.
# TYPE process_wrapper_process_run_duration_seconds histogram
process_wrapper_process_run_duration_seconds_bucket{process_name="web",le="0.1"} 0
process_wrapper_process_run_duration_seconds_bucket{process_name="web",le="1"} 0
process_wrapper_process_run_duration_seconds_bucket{process_name="web",le="10"} 0
process_wrapper_process_run_duration_seconds_bucket{process_name="web",le="60"} 0
process_wrapper_process_run_duration_seconds_bucket{process_name="web",le="600"} 1
process_wrapper_process_run_duration_seconds_bucket{process_name="web",le="3600"} 1
process_wrapper_process_run_duration_seconds_bucket{process_name="web",le="21600"} 1
process_wrapper_process_run_duration_seconds_bucket{process_name="web",le="86400"} 1
process_wrapper_process_run_duration_seconds_bucket{process_name="web",le="604800"} 1
process_wrapper_process_run_duration_seconds_bucket{process_name="web",le="+Inf"} 1
process_wrapper_process_run_duration_seconds_sum{process_name="web"} 90
process_wrapper_process_run_duration_seconds_count{process_name="web"} 1
# HELP process_wrapper_process_start_time_seconds When the current incarnation was started, in Unix time.
# TYPE process_wrapper_process_start_time_seconds gauge
process_wrapper_process_start_time_seconds{process_name="web"} 1.7000002005e+09
# HELP process_wrapper_process_threads Threads of the whole process tree.
# TYPE process_wrapper_process_threads gauge
process_wrapper_process_threads{process_name="web"} 3
# HELP process_wrapper_process_up Whether the process is alive.
# TYPE process_wrapper_process_up gauge
process_wrapper_process_up{process_name="job"} 0
process_wrapper_process_up{process_name="web"} 1
`
	reg := life(t)
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	own := 0
	for _, f := range all {
		if strings.HasPrefix(f.GetName(), "process_wrapper_") {
			ours = append(ours, f.GetName())
		} else {
			own++
		}
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), ours...); err != nil {
		t.Error(err)
	}
	if own < 20 {
		t.Errorf("only %d metrics of the program itself", own)
	}
}

func TestMetricNamesFollowTheConventions(t *testing.T) {
	t.Parallel()
	problems, err := testutil.GatherAndLint(life(t))
	if err != nil || len(problems) > 0 {
		t.Error(err, problems)
	}
}

func TestNumberOfLabelValuesIsBounded(t *testing.T) {
	t.Parallel()
	m := NewMetrics()
	board := status.NewBoard(m)
	board.Put(status.State{Name: "x"})
	for i := range 1000 {
		board.Put(status.State{Name: "x", Restarts: i + 1, Reason: fmt.Sprint("r", i)})
		board.PutCheck(status.Check{Process: "x", Probe: fmt.Sprint("p", i), Result: status.Pass})
	}
	r := m.record("x")
	restarts, checks := 0, uint64(0)
	for _, x := range r.restarts {
		restarts += x.n
	}
	for _, p := range r.probes {
		checks += p.results[1]
	}
	if len(r.restarts) != maxWords || len(r.probes) != maxWords || restarts != 1000 || checks != 1000 {
		t.Errorf("%d reasons of %d restarts, %d probes of %d checks", len(r.restarts), restarts, len(r.probes), checks)
	}
	if r.restarts[maxWords-1].reason != "other" || r.probes[maxWords-1].name != "other" {
		t.Error("the rest has no name of its own")
	}
}

func TestNameThatIsNoTextDoesNotBreakTheScrape(t *testing.T) {
	t.Parallel()
	m := NewMetrics()
	board := status.NewBoard(m)
	board.Put(status.State{Name: "a\xff", Phase: status.Ready})
	reg := prometheus.NewPedanticRegistry()
	if err := m.Register(reg, Sources{Board: board}); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // it was read to its end
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 || !strings.Contains(string(body), `process_wrapper_process_ready{process_name="a`+"\uFFFD"+`"} 1`) {
		t.Errorf("got %d %v\n%s", res.StatusCode, err, body)
	}
}

func TestRegisterTwiceIsAnError(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := NewMetrics()
	src := Sources{Board: status.NewBoard(m)}
	if err := m.Register(reg, src); err != nil {
		t.Fatal(err)
	}
	if err := m.Register(reg, src); err == nil {
		t.Error("no error")
	}
}

func BenchmarkScrapeOf1000(b *testing.B) {
	m := NewMetrics()
	board := status.NewBoard(m)
	states := make([]status.State, 1000)
	for i := range states {
		states[i] = status.State{Name: fmt.Sprint("p", i), Phase: status.Ready, PID: i + 1, Started: time.Now()}
	}
	board.Declare(states...)
	for _, st := range states {
		board.PutCheck(status.Check{Process: st.Name, Probe: "http", Result: status.Pass})
		st.PID, st.Ended, st.Restarts, st.Reason = 0, time.Now(), 1, "exit"
		board.Put(st)
		st.PID = 1
		board.Put(st)
	}
	reg := prometheus.NewRegistry()
	err := m.Register(reg, Sources{
		Board: board,
		Usage: func(string) (Usage, bool) { return Usage{PID: 1, MaxFDs: 1}, true },
		Logs: func(yield func(LogCount) bool) {
			for _, st := range states {
				for _, stream := range []string{"stdout", "stderr"} {
					_ = yield(LogCount{Process: st.Name, Stream: stream, Level: "info", Lines: 1}) &&
						yield(LogCount{Process: st.Name, Stream: stream, Reason: "rate"})
				}
			}
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	h := promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	var size int
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		size = w.Body.Len()
	}
	b.ReportMetric(float64(size), "bytes")
}

func BenchmarkObserveCheck(b *testing.B) {
	m := NewMetrics()
	c := status.Check{Process: "x", Probe: "http", Result: status.Pass, Duration: time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		m.ObserveCheck(c)
	}
}

func TestGathererRegistersWhenItIsAsked(t *testing.T) {
	t.Parallel()
	board := status.NewBoard()
	g := NewMetrics().Gatherer(Sources{Board: board})
	board.Declare(status.State{Name: "late", Phase: status.Ready, PID: 1})
	for range 2 {
		families, err := g.Gather()
		if err != nil {
			t.Fatal(err)
		}
		found := slices.ContainsFunc(families, func(f *dto.MetricFamily) bool {
			return f.GetName() == "process_wrapper_process_ready" && f.GetMetric()[0].GetLabel()[0].GetValue() == "late"
		})
		if !found {
			t.Error("a process that was declared later is missing")
		}
	}
}
