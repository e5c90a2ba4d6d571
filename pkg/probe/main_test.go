package probe

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// verdict is what a check says in one word.
func verdict(err error) string {
	var w *Warning
	switch {
	case err == nil:
		return "passed"
	case Passed(err) && errors.As(err, &w):
		return "warned"
	case errors.Is(err, ErrInconclusive):
		return "inconclusive"
	}
	return "failed"
}

// within checks p with a deadline and fails the test where it is ignored.
func within(t *testing.T, d time.Duration, p Probe) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	start := time.Now()
	err := p.Check(ctx)
	if took := time.Since(start); took > d+5*time.Second {
		t.Errorf("the check took %v of %v", took, d)
	}
	return err
}

// want compares verdict and text. The text must hold each of parts.
func want(t *testing.T, err error, wanted string, parts ...string) {
	t.Helper()
	if got := verdict(err); got != wanted {
		t.Fatalf("%s (%v), want %s", got, err, wanted)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	if err != nil && (len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\n\r\x1b")) {
		t.Errorf("error is not one short line: %q", err)
	}
}

// listen accepts on addr and hands each connection to handle, which may be
// nil, until the test ends. handle returns when done is closed at the latest.
func listen(t *testing.T, addr string, handle func(conn net.Conn, done <-chan struct{})) string {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				if handle != nil {
					handle(conn, done)
				}
			})
		}
	})
	t.Cleanup(func() {
		close(done)
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// closedPort returns an address on which nobody listens.
func closedPort(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func mustListen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
