package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"
)

// hung is a sink whose disk hangs.
type hung struct{ release chan struct{} }

func (h *hung) Run(context.Context) error { <-h.release; return nil }

// serving runs a server whose stages the test decides.
type serving struct {
	*server
	t            *testing.T
	finish       context.CancelCauseFunc
	hurry, leave context.CancelFunc
	ended        chan error
}

func serve(t *testing.T, change func(*server), args ...string) *serving {
	t.Helper()
	s, err := newServer(parse(t, args...), &environment{}, slog.New(slog.DiscardHandler), func() {})
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(s)
	}
	v := &serving{server: s, t: t, ended: make(chan error, 1)}
	var st stages
	st.end, st.finish = context.WithCancelCause(context.Background())
	st.hurry, v.hurry = context.WithCancel(context.Background())
	st.leave, v.leave = context.WithCancel(context.Background())
	v.finish = st.finish
	over := make(chan struct{})
	go func() { defer close(over); v.ended <- s.serve(st) }()
	t.Cleanup(func() { v.finish(nil); v.hurry(); v.leave(); <-over })
	return v
}

func (v *serving) wait() error {
	v.t.Helper()
	select {
	case err := <-v.ended:
		return err
	case <-time.After(20 * time.Second):
		v.t.Fatal("it does not end")
		return nil
	}
}

func (v *serving) status(path string) int {
	v.t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + v.listener.Addr().String() + path)
	if err != nil {
		v.t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

func TestTheDelayIsCutShort(t *testing.T) {
	v := serve(t, nil, "-shutdown-delay", "1h")
	if v.status("/ready") != 200 || v.status("/health") != 200 || v.status("/metrics") != 200 {
		t.Error("not ready")
	}
	v.finish(errAsked)
	for end := time.Now().Add(10 * time.Second); v.status("/ready") != 503; {
		if time.Now().After(end) {
			t.Fatal("ready although it is to end")
		}
	}
	if v.status("/health") != 200 || v.status("/metrics") != 200 {
		t.Error("it does not serve during the delay")
	}
	v.hurry()
	if err := v.wait(); err != nil {
		t.Error(err)
	}
}

func TestADiskThatHangsHoldsUpTheEndForItsTimeOnly(t *testing.T) {
	h := &hung{make(chan struct{})}
	defer close(h.release)
	add := func(s *server) { s.sinks = append(s.sinks, h) }
	v := serve(t, add, "-shutdown-deadline", "1ms")
	v.finish(errAsked)
	if err := v.wait(); !errors.Is(err, errHung) {
		t.Error(err)
	}
	v = serve(t, add, "-shutdown-deadline", "1h")
	v.finish(errAsked)
	v.leave()
	if err := v.wait(); !errors.Is(err, errLeft) {
		t.Error(err)
	}
}

// fails is a sink that cannot begin.
type fails struct{ err error }

func (f fails) Run(context.Context) error { return f.err }

func TestASinkThatEndsEndsTheServer(t *testing.T) {
	no, lost := errors.New("no spool"), errors.New("events were lost")
	v := serve(t, func(s *server) { s.sinks = append(s.sinks, fails{no}, fails{lost}) })
	if err := v.wait(); !errors.Is(err, no) || !errors.Is(err, lost) {
		t.Error(err)
	}
}

func TestEachSignalIsAStage(t *testing.T) {
	st, stop := newStages(t.Context())
	defer stop()
	for i, ctx := range []context.Context{st.end, st.hurry, st.leave} {
		if ctx.Err() != nil {
			t.Fatalf("stage %d came early", i)
		}
		if err := syscall.Kill(os.Getpid(), []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGTERM}[i]); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
			t.Fatalf("stage %d does not come", i)
		}
	}
	if cause := context.Cause(st.end); cause == nil || cause.Error() != "got terminated" {
		t.Error(cause)
	}
}

func TestAProfileServerThatIsAwayCostsNothing(t *testing.T) {
	v := serve(t, nil, "-pyroscope-url", "http://127.0.0.1:1")
	v.finish(errAsked)
	if err := v.wait(); err != nil {
		t.Error(err)
	}
}
