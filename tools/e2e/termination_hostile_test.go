package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"
)

// streams answers with lines of a watch.
func streams(lines ...any) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, line := range lines {
			_ = json.NewEncoder(w).Encode(line)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// Whatever becomes of the watch, the end of the main containers is seen by asking every five seconds.
func TestASidecarEndsWhateverTheAPIServerDoes(t *testing.T) {
	t.Parallel()
	now := object{"type": "ADDED", "object": pod("Never", nil, nil)}
	gone := object{"kind": "Status", "code": http.StatusGone, "reason": "Expired", "message": "too old resource version"}
	type sidecar struct {
		k     *kubernetes
		w     *wrapper
		began time.Time
	}
	running := map[string]sidecar{}
	for name, hostile := range map[string]func(w http.ResponseWriter, r *http.Request){
		"410 Gone": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusGone)
			_ = json.NewEncoder(w).Encode(gone)
		},
		"an ERROR event at once": streams(object{"type": "ERROR", "object": object{"kind": "Status", "code": 500, "message": "RequestWatchProgress is disabled"}}),
		"an ERROR event later":   streams(now, object{"type": "ERROR", "object": gone}),
		"a watch that is cut in an event": func(w http.ResponseWriter, r *http.Request) {
			streams(now)(w, r)
			_, _ = io.WriteString(w, `{"type":"MODIFIED","object":{"metadata":{"na`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"a watch that ends at once": streams(),
		"garbage":                   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>\n") },
		"503":                       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"no answer":                 func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		k := newKubernetes(t)
		k.hostile = hostile
		s := sidecar{k, start(t, options{account: k.account, env: k.env(), config: script("w", polite)}), time.Now()}
		s.w.stdout.waitFor(t, awake)
		s.w.ready()
		running[name] = s
	}
	for name, s := range running {
		eventually(t, name+": the pod is asked for", func() error { return s.k.asked(1) })
		s.k.change(func() { s.k.pod = pod("Never", map[string]int{"report": 0, "proxy": 3}, nil) })
	}
	for name, s := range running {
		if got := s.w.wait(); got != 0 {
			t.Errorf("%s: exit code %d", name, got)
		}
		s.w.stdout.waitFor(t, seenTERM)
		if err := s.k.asked(2); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s.k.mu.Lock()
		if most := 1 + int(time.Since(s.began)/(5*time.Second)); s.k.requests > most {
			t.Errorf("%s: %d requests in %v", name, s.k.requests, time.Since(s.began))
		}
		s.k.mu.Unlock()
	}
}
