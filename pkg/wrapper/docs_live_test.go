package wrapper

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/process-wrapper/process-wrapper/pkg/api"
	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/output"
	"github.com/process-wrapper/process-wrapper/pkg/preempt"
	"github.com/process-wrapper/process-wrapper/pkg/process"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
	"github.com/process-wrapper/process-wrapper/pkg/status"
	"github.com/process-wrapper/process-wrapper/pkg/telemetry"
)

// stamp is the time at the begin of a log line.
var stamp = regexp.MustCompile(`(?m)^time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z `)

// A block that is marked "log: FORMAT [max=N]" shows what becomes of its lines
// that begin with "> ".
func TestTheLogExamplesAreReal(t *testing.T) {
	examples := 0
	for _, b := range blocks(t, configuration) {
		options, ok := strings.CutPrefix(b.mark, "log: ")
		if !ok {
			continue
		}
		examples++
		t.Run(options, func(t *testing.T) {
			name, limit, _ := strings.Cut(options, " max=")
			format, err := output.ParseFormat(name)
			if err != nil {
				t.Fatal(err)
			}
			most, _ := strconv.Atoi(limit)
			var in, want strings.Builder
			for line := range strings.Lines(b.text) {
				if said, ok := strings.CutPrefix(line, "> "); ok {
					in.WriteString(said)
				} else {
					want.WriteString(line)
				}
			}
			got := pumped(t, output.StreamConfig{
				Name: "web", Out: "stdout", Labels: map[string]string{"team": "blue"}, Format: format, MaxLineBytes: most,
			}, in.String())
			if want := stamp.ReplaceAllString(want.String(), "time=T "); stamp.ReplaceAllString(got, "time=T ") != want {
				t.Errorf("the program writes\n%s\nthe page says\n%s", got, want)
			}
		})
	}
	if examples < 3 {
		t.Errorf("only %d examples were found", examples)
	}
}

func pumped(t *testing.T, cfg output.StreamConfig, in string) string {
	t.Helper()
	dst, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dst.Close() }()
	pump, err := output.NewPump(dst, output.PumpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := pump.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.File().WriteString(in); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := pump.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(s.Attach(42), s.Drain(t.Context())); err != nil {
		t.Error(err)
	}
	end()
	wg.Wait()
	got, err := os.ReadFile(dst.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// The block that is marked "own log" shows what the journal writes.
func TestTheExampleOfOurOwnLogIsReal(t *testing.T) {
	all := blocks(t, configuration)
	i := slices.IndexFunc(all, func(b block) bool { return b.mark == "own log" })
	if i < 0 {
		t.Fatal("the page has no such example")
	}
	var out strings.Builder
	j := newJournal(slog.New(output.NewHandler(&out, slog.LevelInfo)))
	began := time.Now()
	st := status.State{Name: "web", Phase: status.Starting, ExitCode: -1}
	next := func(change func(*status.State)) {
		old := st
		change(&st)
		j.Observe(old, st)
	}
	next(func(s *status.State) { s.Phase, s.PID, s.Started, s.Since = status.Running, 42, began, began })
	j.ObserveCheck(status.Check{Process: "web", Probe: "http", Result: status.Fail, Err: errors.New("http://127.0.0.1:8000/: connection refused")})
	next(func(s *status.State) { s.Phase, s.Since = status.Ready, began.Add(2024*time.Millisecond) })
	next(func(s *status.State) {
		s.Phase, s.PID, s.Ended, s.ExitCode = status.Backoff, 0, began.Add(302024*time.Millisecond), 143
		s.Cause, s.Next = &process.ExitError{Code: 143, Signal: syscall.SIGTERM}, s.Ended.Add(1080*time.Millisecond)
	})
	if got, want := stamp.ReplaceAllString(out.String(), "time=T "), stamp.ReplaceAllString(all[i].text, "time=T "); got != want {
		t.Errorf("the program writes\n%s\nthe page says\n%s", got, want)
	}
}

// crashed is a board with a process that has met everything, and its metrics.
func crashed(t *testing.T) (*status.Board, api.Config, *prometheus.Registry) {
	t.Helper()
	metrics := telemetry.NewMetrics()
	board := status.NewBoard(metrics)
	began := time.Now().Add(-time.Hour)
	st := status.State{Name: "web", Phase: status.Waiting, ExitCode: -1}
	board.Declare(st)
	st.Phase, st.PID, st.Started = status.Running, 41, began
	board.Put(st)
	st.Phase, st.PID, st.Ended, st.ExitCode, st.Reason = status.Backoff, 0, began.Add(time.Minute), 1, "exit"
	board.Put(st)
	st.Phase, st.PID, st.Restarts, st.Started = status.Running, 42, 1, began.Add(time.Minute)
	board.Put(st)
	board.PutCheck(status.Check{Process: "web", Probe: "http", Result: status.Pass, Time: began, Duration: time.Second})
	usage := telemetry.Usage{PID: 42, Time: time.Now(), MaxFDs: 1024}
	reg := prometheus.NewRegistry()
	sender, err := datagram.NewSender("localhost:9999", datagram.SenderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	events := telemetry.NewEvents(sender, nil)
	events.Terminating("SIGTERM")
	err = metrics.Register(reg, telemetry.Sources{
		Board:  board,
		Events: events,
		Usage:  func(string) (telemetry.Usage, bool) { return usage, true },
		Beat:   func(string) (time.Time, bool) { return time.Now(), true },
		Logs: func(yield func(telemetry.LogCount) bool) {
			_ = yield(telemetry.LogCount{Process: "web", Stream: "stdout", Level: "info", Lines: 1}) &&
				yield(telemetry.LogCount{Process: "web", Stream: "stdout", Reason: "rate", Lines: 1})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = reg.Register(evictionCollector{
		state: func() preempt.Notice { return preempt.Notice{Active: true, Deadline: began} },
		stats: func() preempt.Stats {
			return preempt.Stats{Up: true, LastSuccess: began, Requests: map[string]uint64{"200": 1}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := builderFor(t)
	if _, err := b.locks.of(&spec.Process{Name: "web", Readiness: spec.Readiness{Lock: &spec.Lock{Key: "web", TTL: time.Second}}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := reg.Register(lockCollector{b.locks}); err != nil {
		t.Fatal(err)
	}
	return board, api.Config{
		Metrics:    metricsHandler(reg, slog.New(slog.DiscardHandler)),
		Prommerge:  newMerger(&flags{}, slog.New(slog.DiscardHandler)).Handler(func() []page { return nil }),
		Heartbeats: new(api.Heartbeats),
		Usage:      func(string) (api.Usage, bool) { return api.Usage{Time: usage.Time, MaxFDs: usage.MaxFDs}, true },
	}, reg
}

func TestTheDocsHaveEveryMetricWithItsTypeAndLabels(t *testing.T) {
	page, program := map[string]string{}, map[string]string{}
	for _, row := range table(t, configuration, "metrics") {
		labels := codes(row[2])
		if i := slices.Index(labels, "process_name"); i >= 0 { // "no process_name"
			labels = slices.Delete(labels, i, i+1)
		} else {
			labels = append(labels, "process_name")
		}
		slices.Sort(labels)
		page[strings.Trim(row[0], "`")] = row[1] + " " + strings.Join(labels, ",")
	}
	_, _, reg := crashed(t)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if name := f.GetName(); !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "process_wrapper_") {
			var labels []string
			for _, l := range f.GetMetric()[0].GetLabel() {
				labels = append(labels, l.GetName())
			}
			program[name] = strings.ToLower(f.GetType().String()) + " " + strings.Join(labels, ",")
		}
	}
	agree(t, page, program)
	all := make(chan *prometheus.Desc, 1000)
	reg.Describe(all)
	close(all)
	for d := range all { // so that none is missed that was not met here
		name := regexp.MustCompile(`fqName: "(process_wrapper_\w+)"`).FindStringSubmatch(d.String())
		if name != nil && page[name[1]] == "" {
			t.Errorf("the page lacks %s", name[1])
		}
	}
}

func TestTheDocsHaveEveryEndpoint(t *testing.T) {
	board, cfg, _ := crashed(t)
	h := api.Handler(board, cfg)
	ask := func(method, path string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		ctx, leave := context.WithTimeout(t.Context(), 100*time.Millisecond) // /stream goes on until then
		defer leave()
		h.ServeHTTP(rec, httptest.NewRequest(method, path, nil).WithContext(ctx))
		return rec
	}
	page, program := map[string]string{"GET /": ""}, map[string]string{"GET /": ""}
	for line := range strings.Lines(ask("GET", "/").Body.String()) {
		if words := strings.Fields(line); len(words) > 2 {
			program[words[0]+" "+words[1]] = ""
		}
	}
	for _, row := range table(t, configuration, "endpoints") {
		endpoint := strings.Trim(row[0], "`")
		page[endpoint] = ""
		method, path, _ := strings.Cut(endpoint, " ")
		path = strings.NewReplacer("[/N]", "", "=N", "=web").Replace(path)
		code := ask(method, path).Code
		if !strings.Contains(row[1], strconv.Itoa(code)) {
			t.Errorf("%s answers %d, of which the page says nothing", endpoint, code)
		}
		if unknown := ask(method, strings.Replace(path, "=web", "=nobody", 1)).Code; !strings.Contains(row[1], strconv.Itoa(unknown)) {
			t.Errorf("%s answers %d for an unknown name, of which the page says nothing", endpoint, unknown)
		}
	}
	agree(t, page, program)
	for _, b := range blocks(t, configuration) {
		if b.mark != "process" {
			continue
		}
		if got, want := shape(t, b.text), shape(t, ask("GET", "/v1/processes/web").Body.String()); got != want {
			t.Errorf("the page shows the keys\n%s\nthe program\n%s", got, want)
		}
		return
	}
	t.Error("the page shows no process")
}

// shape returns the paths of all keys of a JSON value, in order.
func shape(t *testing.T, text string) string {
	t.Helper()
	var top any
	if err := json.Unmarshal([]byte(text), &top); err != nil {
		t.Fatal(err)
	}
	var paths []string
	var walk func(v any, path string)
	walk = func(v any, path string) {
		switch v := v.(type) {
		case map[string]any:
			for _, k := range sortedKeys(v) {
				paths = append(paths, path+k)
				walk(v[k], path+k+".")
			}
		case []any:
			for _, e := range v {
				walk(e, path+"[].")
			}
		}
	}
	walk(top, "")
	return strings.Join(paths, " ")
}

// Links to files and headings of the docs lead somewhere.
func TestTheLinksOfTheDocsLeadSomewhere(t *testing.T) {
	anchors := func(page string) map[string]bool {
		all := map[string]bool{"": true}
		for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
			title := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
			all[strings.ReplaceAll(title, " ", "-")] = true
		}
		return all
	}
	pages, err := filepath.Glob(root + "docs/*.md")
	top, topErr := filepath.Glob(root + "*.md")
	if err != nil || topErr != nil || len(pages) < 2 || len(top) < 2 {
		t.Fatal(pages, top, err, topErr)
	}
	for _, path := range append(pages, top...) {
		path = strings.TrimPrefix(path, root)
		text := fence.ReplaceAllString(readPage(t, path), "")
		for _, m := range regexp.MustCompile(`\]\(([^)#:]*)#?([^):]*)\)`).FindAllStringSubmatch(text, -1) {
			target := path
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(path), m[1])
			}
			if _, err := os.Stat(root + target); err != nil {
				t.Errorf("%s: %s: %v", path, m[0], err)
			} else if m[2] != "" && !anchors(readPage(t, target))[m[2]] {
				t.Errorf("%s: %s: there is no such heading", path, m[0])
			}
		}
	}
}
