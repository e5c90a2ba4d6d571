package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// serve runs a server on loopback; stop ends it and waits.
func serve(t *testing.T, h http.Handler) (addr string, stop func()) {
	t.Helper()
	s := NewServer(h, slog.New(slog.DiscardHandler))
	s.conns.grace *= 4 // machines that run tests are slow
	if err := s.Listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	return s.Addr().String(), sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // again, where the test did
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask sends a request and returns the status line.
func ask(t *testing.T, c net.Conn, path string) string {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	return answer(t, c)
}

func answer(t *testing.T, c net.Conn) string {
	t.Helper()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// closed reports whether the other side has closed the connection, without an
// answer.
func closed(t *testing.T, c net.Conn) bool {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	return n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestListenSaysHowToChooseAnotherAddress(t *testing.T) {
	t.Parallel()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }() // a test's own
	for _, addr := range []string{ln.Addr().String(), "8111", ":x"} {
		err := NewServer(nil, nil).Listen(addr)
		if err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "HEALTH_SOCKET") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestServerAnswersUntilItsEnd(t *testing.T) {
	t.Parallel()
	board := status.NewBoard()
	addr, stop := serve(t, Handler(board, Config{}))
	if got := ask(t, dial(t, addr), "/readiness"); got != "HTTP/1.1 200 OK" {
		t.Error(got)
	}
	board.UpdatePod(func(p *status.Pod) { p.Draining = true })
	if got := ask(t, dial(t, addr), "/readiness"); got != "HTTP/1.1 503 Service Unavailable" {
		t.Error(got)
	}
	stop()
	if c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr); err == nil {
		t.Error("it still listens", c.Close())
	}
}

func TestServerEndsPromptlyWhateverIsOpen(t *testing.T) {
	t.Parallel()
	board := status.NewBoard()
	board.Put(xRunning)
	slow := make(chan struct{})
	defer close(slow)
	asked := make(chan struct{})
	h := newHandler(board, Config{Metrics: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		select {
		case <-slow:
		case <-r.Context().Done():
		}
	})})
	addr, stop := serve(t, h.mux())
	silent, idle, half, held, stuck := dial(t, addr), dial(t, addr), dial(t, addr), dial(t, addr), dial(t, addr)
	if got := ask(t, idle, "/readiness"); !strings.Contains(got, "503") {
		t.Error(got)
	}
	send := func(c net.Conn, s string) {
		if _, err := io.WriteString(c, s); err != nil {
			t.Error(err)
		}
	}
	send(half, "GET /readiness HT")
	send(held, "GET /readiness?wait HTTP/1.1\r\nHost: x\r\n\r\n")
	send(stuck, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
	if got := ask(t, dial(t, addr), "/liveness"); !strings.Contains(got, "200") {
		t.Error(got)
	}
	<-asked
	eventually(t, "it waits", func() bool { return len(h.waiters) == 1 })
	start := time.Now()
	stop()
	if took := time.Since(start); took > 10*closeWithin {
		t.Errorf("took %v", took)
	}
	if got := answer(t, held); !strings.Contains(got, "503") {
		t.Errorf("the one that waits: %s", got)
	}
	if !closed(t, silent) {
		t.Error("the one that never asked is still open")
	}
}

func TestAbandonedWaitsLeaveNothing(t *testing.T) { // not parallel: it counts goroutines
	before := goleak.IgnoreCurrent()
	board := status.NewBoard()
	board.Put(xRunning)
	h := newHandler(board, Config{})
	addr, stop := serve(t, h.mux())
	defer stop()
	for range 2 {
		var open []net.Conn
		for range 100 {
			c := dial(t, addr)
			if _, err := io.WriteString(c, "GET /readiness?wait HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			open = append(open, c)
		}
		eventually(t, "all wait", func() bool { return len(h.waiters) == 100 })
		for _, c := range open {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		eventually(t, "none waits", func() bool { return len(h.waiters) == 0 })
	}
	stop()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

// eventually polls what the test cannot be told of.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestFloodDoesNotKeepOthersOut opens far more connections than the server
// holds, and asks on fresh ones all the time.
func TestFloodDoesNotKeepOthersOut(t *testing.T) {
	t.Parallel()
	addr, stop := serve(t, Handler(status.NewBoard(), Config{}))
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 4 {
		wg.Go(func() {
			var open []net.Conn
			defer func() {
				for _, c := range open {
					_ = c.Close() // closed by the other side long ago
				}
			}()
			for ctx.Err() == nil && len(open) < 500 {
				c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
				if err != nil {
					return // ctx
				}
				open = append(open, c)
			}
			<-ctx.Done()
		})
	}
	for range 50 {
		start := time.Now()
		c := dial(t, addr)
		if got := ask(t, c, "/liveness"); !strings.Contains(got, "200") {
			t.Error(got)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestHeaderOfARequestIsBounded(t *testing.T) {
	t.Parallel()
	addr, stop := serve(t, Handler(status.NewBoard(), Config{}))
	defer stop()
	c := dial(t, addr)
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nA: "+strings.Repeat("x", 2*maxHeader)); err != nil {
		t.Fatal(err)
	}
	if got := answer(t, c); !strings.Contains(got, "431") {
		t.Error(got)
	}
}
