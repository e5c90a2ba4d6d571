package sink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// store is a backend that the test plays.
type store struct {
	answer func(bodies []string, answers []Answer) Outcome // nil: take all
	hang   bool                                            // answer when ctx ends

	mu     sync.Mutex
	bodies []string // what it took
	sizes  []int    // records of each request
	open   bool
}

func (s *store) Encode(m *datagram.Message, r *Record) error {
	if m.Name == "refused" {
		return fmt.Errorf("%w: by its name", ErrRefused)
	}
	r.Time = m.Time
	if r.Time.IsZero() {
		r.Time = time.Unix(1, 0)
	}
	r.Key = append(r.Key, "key"...)
	r.ID = append(r.ID, m.ID...)
	r.Body = append(r.Body, m.Name...)
	return nil
}

func (s *store) Open() error  { s.open = true; return nil }
func (s *store) Close() error { s.open = false; return nil }

func (s *store) Send(ctx context.Context, records []Record, answers []Answer) Outcome {
	if s.hang {
		<-ctx.Done()
		for i := range answers {
			answers[i].Verdict = Retry
		}
		return Outcome{Err: context.Cause(ctx), Down: true}
	}
	var out Outcome
	bodies := make([]string, len(records))
	for i, r := range records {
		bodies[i] = string(r.Body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answer != nil {
		out = s.answer(bodies, answers)
	}
	s.sizes = append(s.sizes, len(records))
	if out.Split {
		return out
	}
	for i, a := range answers {
		if a.Verdict == Sent {
			s.bodies = append(s.bodies, bodies[i])
		}
	}
	return out
}

func (s *store) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.bodies...)
}

var errDown = errors.New("store is down")

// down answers nothing.
func down(_ []string, answers []Answer) Outcome {
	for i := range answers {
		answers[i].Verdict = Retry
	}
	return Outcome{Err: errDown, Down: true}
}

func newSink(t *testing.T, b Backend, c Config) *Sink {
	t.Helper()
	c.Name = "test"
	s, err := New(c, b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs s and returns what stops it and gives its error.
func start(t *testing.T, s *Sink) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() { cancel(); err = <-done })
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// put puts events named first to first+n-1.
func put(t *testing.T, s *Sink, first, n int) {
	t.Helper()
	for i := range n {
		if err := s.Put(&datagram.Message{Op: datagram.Event, Name: name(first + i)}); err != nil {
			t.Fatalf("put %d: %v", first+i, err)
		}
	}
}

func name(i int) string { return fmt.Sprintf("event-%06d", i) }

// eventually waits until ok, for at most a minute.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// inOrder fails unless got are the events named first to first+n-1.
func inOrder(t *testing.T, got []string, first, n int) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("%d events, want %d", len(got), n)
	}
	for i, g := range got {
		if g != name(first+i) {
			t.Fatalf("event %d is %s, want %s", i, g, name(first+i))
		}
	}
}
