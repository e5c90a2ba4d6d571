//go:build bench

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const reactRounds = 10

// measureReactions takes the times between what happens to a process and what others see of it.
func measureReactions(t *testing.T, load string) {
	tab := newTable(fmt.Sprintf("Reactions, %d rounds", reactRounds), "from … to", "least (median, most)", "bar", "verdict")
	for _, m := range []struct {
		what string
		bar  time.Duration
		once func(t *testing.T) time.Duration
	}{
		{"crash → /readiness is 503", 50 * time.Millisecond, func(t *testing.T) time.Duration {
			return crash(t, "exec sleep 1000")
		}},
		{"crash → /readiness is 503, a grandchild holds stdout", 50 * time.Millisecond, func(t *testing.T) time.Duration {
			return crash(t, "setsid sleep 1000 & exec sleep 1000")
		}},
		{"crash after `resetAfter` → next incarnation's main", 20 * time.Millisecond, func(t *testing.T) time.Duration {
			return again(t, load)
		}},
		{"a server's main → ready, `delay: 0s, period: 100ms`", 150 * time.Millisecond, func(t *testing.T) time.Duration {
			return serve(t, load)
		}},
		{"our SIGTERM → a child's handler", 50 * time.Millisecond, func(t *testing.T) time.Duration {
			return terminate(t, load)
		}},
	} {
		var took []time.Duration
		for range reactRounds {
			t.Run("round", func(t *testing.T) { took = append(took, m.once(t)) })
		}
		if len(took) == reactRounds {
			tab.add(m.what, spread(took), ms(m.bar), verdict(least(took), m.bar))
		}
	}
	tab.print()
}

// crash kills a ready process and asks, over one connection, until its loss is seen.
func crash(t *testing.T, text string) time.Duration {
	w := start(t, options{config: script("w", text)})
	w.ready()
	url := w.url("/readiness")
	client := http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer client.CloseIdleConnections()
	if got := statusOver(t, &client, url); got != http.StatusOK {
		t.Fatalf("before the crash it is %d", got)
	}
	pid := w.states()["w"].PID
	began := time.Now()
	kill(t, pid)
	for statusOver(t, &client, url) == http.StatusOK {
		if time.Since(began) > patience {
			t.Fatal("nobody saw the crash")
		}
	}
	return time.Since(began)
}

// statusOver leaves the connection open for the next question.
func statusOver(t *testing.T, client *http.Client, url string) int {
	t.Helper()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode
}

// again kills a process that ran for longer than resetAfter.
func again(t *testing.T, load string) time.Duration {
	config := fmt.Sprintf("- name: w\n  entrypoint: %s\n  args: [now]\n  backoff: {initial: 5s, resetAfter: 100ms}\n", load)
	w := start(t, options{config: config})
	w.ready()
	<-time.After(200 * time.Millisecond)
	pid := w.states()["w"].PID
	began := time.Now()
	kill(t, pid)
	eventually(t, "it runs again", func() error {
		if found := nanoseconds.FindAllString(w.stdout.String(), -1); len(found) != 2 {
			return fmt.Errorf("it ran %d times", len(found))
		}
		return nil
	})
	return lastPrinted(t, w).Sub(began)
}

// serve starts a server that listens at once.
func serve(t *testing.T, load string) time.Duration {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	var b strings.Builder
	fmt.Fprintf(&b, "- name: w\n  entrypoint: %s\n  args: [serve, %q]\n", load, addr)
	fmt.Fprintf(&b, "  readiness:\n    delay: 0s\n    period: 100ms\n    failureThreshold: 100\n    http: {url: 'http://%s/'}\n", addr)
	w := start(t, options{config: b.String()})
	w.ready()
	ready := time.Now()
	return ready.Sub(lastPrinted(t, w))
}

// terminate ends a process that tells when it heard of it.
func terminate(t *testing.T, load string) time.Duration {
	w := start(t, options{config: fmt.Sprintf("- name: w\n  entrypoint: %s\n  args: [now]\n", load)})
	w.ready()
	began := time.Now()
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	return lastPrinted(t, w).Sub(began)
}

// lastPrinted returns when the last incarnation began.
func lastPrinted(t *testing.T, w *wrapper) time.Time {
	t.Helper()
	w.stdout.waitFor(t, nanoseconds)
	found := nanoseconds.FindAllString(w.stdout.String(), -1)
	return parseNanoseconds(found[len(found)-1])
}
