package main

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// newHandler puts the endpoints together.
func newHandler(m *prommerge.Merger, src *source, reload bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", m.Handler(src.Targets))
	mux.Handle("GET /self", promhttp.HandlerFor(newRegistry(src), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /targets", func(w http.ResponseWriter, r *http.Request) { serveTargets(w, r, m, src) })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/targets", http.StatusFound) })
	mux.HandleFunc("POST /-/reload", func(w http.ResponseWriter, _ *http.Request) {
		if !reload {
			http.Error(w, "reloading over HTTP is off: start with -enable-reload, or send SIGHUP", http.StatusForbidden)
			return
		}
		if err := src.Reload(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	return mux
}

// newRegistry holds the metrics of /self: those of this process, not of its targets.
func newRegistry(src *source) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	build := cli.ReadBuild()
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "prommerge_build_info", Help: "Version of prommerge.",
		ConstLabels: prometheus.Labels{"version": build.Version, "commit": build.Commit, "goversion": build.GoVersion}})
	info.Set(1)
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info,
		gauge("prommerge_targets", "Targets that are merged.", func() float64 { return float64(len(src.Targets())) }),
		gauge("prommerge_config_last_reload_successful", "Whether the config was good when it was last read.", func() float64 {
			ok, _ := src.Reloaded()
			if ok {
				return 1
			}
			return 0
		}),
		gauge("prommerge_config_last_reload_success_timestamp_seconds", "When the config in use was read.", func() float64 {
			_, at := src.Reloaded()
			return float64(at.UnixMilli()) / 1000
		}))
	return reg
}

// Reloaded tells whether the last reading of the config went well, and when the one in use was read.
func (s *source) Reloaded() (ok bool, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reloadOK, s.reloadTime
}

// targetStatus is a target in the JSON of /targets.
type targetStatus struct {
	Name     string            `json:"name"`
	URL      string            `json:"url"`
	Labels   map[string]string `json:"labels,omitempty"`
	Up       *bool             `json:"up"` // null: not asked yet
	Reason   string            `json:"reason,omitempty"`
	Error    string            `json:"error,omitempty"`
	Start    *time.Time        `json:"lastScrape,omitempty"`
	Duration float64           `json:"durationSeconds,omitempty"`
	Samples  int               `json:"samples"`
	Bytes    int64             `json:"bodyBytes"`
}

// statuses returns what each target did last, by name.
func statuses(m *prommerge.Merger, targets []prommerge.Target) []targetStatus {
	last := map[string]prommerge.Result{}
	for _, r := range m.Last() {
		last[r.Name+"\x00"+r.URL] = r
	}
	out := make([]targetStatus, 0, len(targets))
	for i := range targets {
		t := &targets[i]
		s := targetStatus{Name: t.Name, URL: redacted(t.URL), Labels: t.Labels}
		if r, ok := last[t.Name+"\x00"+t.URL]; ok && !r.Start.IsZero() {
			s.Up, s.Reason, s.Start, s.Duration, s.Samples, s.Bytes = &r.Up, r.Reason, &r.Start, r.Duration.Seconds(), r.Samples, r.Bytes
			if r.Err != nil {
				s.Error = r.Err.Error()
			}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b targetStatus) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return u.Redacted()
}

// serveTargets answers with JSON where that is asked for, else with a page for people.
func serveTargets(w http.ResponseWriter, r *http.Request, m *prommerge.Merger, src *source) {
	list := statuses(m, src.Targets())
	if strings.Contains(r.Header.Get("Accept"), "application/json") || r.FormValue("format") == "json" {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(list)
		return
	}
	var b strings.Builder
	b.WriteString(`<!doctype html><meta charset="utf-8"><title>prommerge</title><style>body{font:14px system-ui;margin:2em}` +
		`td,th{text-align:left;padding:.2em 1em .2em 0}.no{color:#b00}</style><h1>Targets</h1><p><a href="/metrics">merged</a> · ` +
		`<a href="/self">own metrics</a> · <a href="/targets?format=json">JSON</a></p><table><tr><th>name<th>url<th>state<th>samples<th>bytes<th>took<th>error</tr>`)
	for _, s := range list {
		state, class := "not asked yet", ""
		if s.Up != nil {
			if state = "up"; !*s.Up {
				state, class = s.Reason, ` class="no"`
			}
		}
		fmt.Fprintf(&b, "<tr%s><td>%s<td>%s<td>%s<td>%d<td>%d<td>%.1f ms<td>%s</tr>\n", class, html.EscapeString(s.Name), html.EscapeString(s.URL),
			html.EscapeString(state), s.Samples, s.Bytes, s.Duration*1000, html.EscapeString(s.Error))
	}
	b.WriteString("</table>")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_, _ = w.Write([]byte(b.String()))
}
