package sinktest

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

// Hurry makes a config send soon and try again soon, where it does not say when.
func Hurry(c sink.Config) sink.Config {
	if c.Period == 0 {
		c.Period = 5 * time.Millisecond
	}
	if c.MinBackoff == 0 {
		c.MinBackoff, c.MaxBackoff = time.Millisecond, 20*time.Millisecond
	}
	return c
}

// Run runs a sink until the test ends, or stop is called, which returns what Run of the sink does.
func Run(t testing.TB, s *sink.Sink) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = s.Run(ctx) })
	stop = sync.OnceValue(func() error { cancel(); wg.Wait(); return err })
	t.Cleanup(func() { _ = stop() })
	return stop
}

// Put puts an event into a sink that must take it.
func Put(t testing.TB, s *sink.Sink, m *datagram.Message) {
	t.Helper()
	if err := s.Put(m); err != nil {
		t.Fatal(err)
	}
}

// Serve returns the address of a server with a handler, until the test ends.
func Serve(t testing.TB, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// Eventually waits until something is so, for a minute.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !is(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// Settled reports whether all that a sink took is sent or refused for good.
func Settled(s *sink.Sink) bool {
	st := s.Stats()
	return st.QueueLen == 0 && st.SpoolBytes == 0 && st.Sent+st.DeadLetter+st.Dropped[sink.DroppedDeadLetter] >= st.Accepted
}
