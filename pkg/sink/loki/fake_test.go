package loki

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/grafana/loki/pkg/push"
)

// fake is a strict Loki. It has the rules of Loki 3.7 with its defaults: what it refuses is a 400 for
// the whole request, though it keeps the good entries, and an entry that it has already is dropped.
type fake struct {
	t *testing.T
	// status of the n-th request from 0, before it is looked at; 0: go on.
	status func(n int) int

	mu       sync.Mutex
	lines    map[string]string // line by stream, time and line
	newest   map[string]time.Time
	requests int
	headers  []http.Header
}

func newFake(t *testing.T) *fake {
	return &fake{t: t, lines: map[string]string{}, newest: map[string]time.Time{}}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.headers = append(f.headers, r.Header)
	n := f.requests
	f.requests++
	if f.status != nil {
		if s := f.status(n); s != 0 {
			http.Error(w, "as told", s)
			return
		}
	}
	if r.Method != http.MethodPost || r.URL.Path != PushPath || r.Header.Get("Content-Type") != "application/x-protobuf" {
		f.t.Errorf("%s %s %s", r.Method, r.URL, r.Header)
	}
	plain, err := snappy.Decode(nil, raw)
	var req push.PushRequest
	if err == nil {
		err = req.Unmarshal(plain)
	}
	if err != nil {
		f.t.Errorf("push request: %v", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var refused []string
	for _, s := range req.Streams {
		refused = append(refused, f.stream(s)...)
	}
	if len(refused) > 0 {
		http.Error(w, strings.Join(refused, "\n"), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (f *fake) stream(s push.Stream) (refused []string) {
	labels, err := parseLabels(strings.ReplaceAll(s.Labels, ", ", ","))
	if err != nil {
		return []string{fmt.Sprintf("labels %s: %v", s.Labels, err)}
	}
	if len(labels) > maxLabels {
		return []string{"too many labels"}
	}
	for _, v := range labels {
		if len(v) > maxLabelValue {
			return []string{"label value too long"}
		}
	}
	for _, e := range s.Entries {
		switch now := time.Now(); {
		case len(e.Line) > 262_144:
			refused = append(refused, "line too long")
		case now.Sub(e.Timestamp) > 7*24*time.Hour:
			refused = append(refused, "greater than max age")
		case e.Timestamp.Sub(now) > 10*time.Minute:
			refused = append(refused, "too new")
		case f.newest[s.Labels].Sub(e.Timestamp) > time.Hour:
			refused = append(refused, "too far behind")
		default:
			f.lines[fmt.Sprint(s.Labels, e.Timestamp.UnixNano(), e.Line)] = s.Labels + " " + e.Line
			if e.Timestamp.After(f.newest[s.Labels]) {
				f.newest[s.Labels] = e.Timestamp
			}
		}
	}
	return refused
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.lines)
}

// stored returns the stream and the event of each line.
func (f *fake) stored() (streams []string, events []map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lines {
		end := strings.Index(l, "} {")
		var ev map[string]any
		if err := json.Unmarshal([]byte(l[end+2:]), &ev); err != nil {
			f.t.Fatalf("line %s: %v", l, err)
		}
		streams, events = append(streams, l[:end+1]), append(events, ev)
	}
	return streams, events
}
