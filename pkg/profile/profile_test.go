package profile

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// ingest is a strict Pyroscope server.
type ingest struct {
	t    *testing.T
	mu   sync.Mutex // guards seen
	seen map[string]int
	all  chan struct{}
}

func (s *ingest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.checkQuery(r)
	var types map[string]any
	if err := json.Unmarshal([]byte(s.part(r, "sample_type_config")), &types); err != nil || len(types) == 0 {
		s.t.Errorf("types: %v", err)
	}
	z, err := gzip.NewReader(strings.NewReader(s.part(r, "profile")))
	if err != nil {
		s.t.Errorf("the profile is not compressed: %v", err)
		return
	}
	profile, err := io.ReadAll(z)
	if err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range types {
		if !bytes.Contains(profile, []byte(name)) {
			s.t.Errorf("the profile has no samples of type %s", name)
		}
		s.seen[name]++
	}
	if len(s.seen) == 4 {
		select {
		case s.all <- struct{}{}:
		default:
		}
	}
}

func (s *ingest) checkQuery(r *http.Request) {
	q := r.URL.Query()
	from, _ := strconv.ParseInt(q.Get("from"), 10, 64)
	until, _ := strconv.ParseInt(q.Get("until"), 10, 64)
	user, password, _ := r.BasicAuth()
	if r.Method != "POST" || r.URL.Path != "/tenant/ingest" || q.Get("name") != "process-wrapper{pod=web-0}" || q.Get("spyName") != "gospy" ||
		from <= 0 || until <= from || user != "u" || password != "secret" {
		s.t.Errorf("%s %s %s", r.Method, r.URL, user)
	}
}

func (s *ingest) part(r *http.Request, name string) string {
	f, _, err := r.FormFile(name)
	if err != nil {
		s.t.Errorf("%s: %v", name, err)
		return ""
	}
	b, err := io.ReadAll(f)
	if err != nil {
		s.t.Error(err)
	}
	return string(b)
}

func TestProfilesArePushedWhole(t *testing.T) {
	s := &ingest{t: t, seen: make(map[string]int), all: make(chan struct{}, 1)}
	srv := httptest.NewServer(s)
	defer srv.Close()
	p, err := New(strings.Replace(srv.URL, "http://", "http://u:secret@", 1)+"/tenant", "process-wrapper", "web-0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p.every = 50 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	select {
	case <-s.all:
	case <-ctx.Done():
		t.Error("not all kinds came")
	}
	cancel()
	wg.Wait()
}

func TestAServerThatRefusesIsToldOfOnce(t *testing.T) {
	calls := make(chan struct{}, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no such tenant", http.StatusUnprocessableEntity)
		select {
		case calls <- struct{}{}:
		default:
		}
	}))
	defer srv.Close()
	var out bytes.Buffer
	p, err := New(strings.Replace(srv.URL, "http://", "http://u:secret@", 1), "process-wrapper", "", slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	p.every = 10 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	for range 9 { // three rounds
		select {
		case <-calls:
		case <-ctx.Done():
			t.Fatal("no more rounds")
		}
	}
	cancel()
	wg.Wait()
	if s := out.String(); strings.Count(s, "cannot push") != 1 || !strings.Contains(s, "no such tenant") || strings.Contains(s, "secret") {
		t.Error(s)
	}
}

func TestOnlyURLsAreServers(t *testing.T) {
	for _, server := range []string{"localhost:4040", "x", "ftp://host", "http://", "http://[::1"} {
		if _, err := New(server, "p", "", slog.New(slog.DiscardHandler)); !errors.Is(err, ErrURL) {
			t.Errorf("%s: %v", server, err)
		}
	}
	p, err := New("", "p", "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p.Run(t.Context()) // returns at once
}
