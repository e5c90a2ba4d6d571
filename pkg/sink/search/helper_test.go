package search

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/sink"
)

// start runs a sink until the test ends, or stop is called.
func start(t *testing.T, c Config) (s *sink.Sink, stop func() error) {
	t.Helper()
	if c.Sink.Period == 0 {
		c.Sink.Period = 5 * time.Millisecond
	}
	if c.Sink.MinBackoff == 0 {
		c.Sink.MinBackoff, c.Sink.MaxBackoff = time.Millisecond, 20*time.Millisecond
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return s, stop
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func put(t *testing.T, s *sink.Sink, m *datagram.Message) {
	t.Helper()
	if err := s.Put(m); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func settled(s *sink.Sink) bool {
	st := s.Stats()
	return st.QueueLen == 0 && st.SpoolBytes == 0 && st.Sent+st.DeadLetter+st.Dropped[sink.DroppedDeadLetter] >= st.Accepted
}
