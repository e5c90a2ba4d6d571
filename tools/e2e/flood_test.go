package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// dial opens a connection to the health socket and sends text.
func dial(addr, text string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err == nil && text != "" {
		_, err = c.Write([]byte(text))
	}
	return c, err
}

func TestAbandonedWaitsLeaveNoGoroutine(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("it", forever, "readiness: {delay: 0s, period: 1h, file: {path: /no/such/file}}")})
	w.in("it", "running")
	before := w.metric("go_goroutines")
	addr := strings.TrimPrefix(w.url(""), "http://")
	for range 4 {
		var conns []net.Conn
		for range 50 {
			c, err := dial(addr, "GET /readiness?wait HTTP/1.1\r\nHost: x\r\n\r\n")
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
		}
		eventually(t, "they are held", func() error {
			if n := w.metric("go_goroutines"); n < before+50 {
				return fmt.Errorf("%v goroutines, %v before", n, before)
			}
			return nil
		})
		for _, c := range conns {
			c.Close()
		}
		eventually(t, "their goroutines end", func() error {
			if n := w.metric("go_goroutines"); n > before+5 || n < before-5 {
				return fmt.Errorf("%v goroutines, %v before", n, before)
			}
			return nil
		})
	}
}

func TestWaitAnswersWhenReadyAndAtItsLimit(t *testing.T) {
	t.Parallel()
	well := filepath.Join(t.TempDir(), "well")
	w := start(t, options{config: script("it", "sleep 1000", "readiness: {delay: 0s, period: 50ms, failureThreshold: 100000, file: {path: "+well+"}}")})
	began := time.Now()
	if status, body := w.get("/readiness?wait=100ms"); status != 503 {
		t.Errorf("%d within 100 ms: %s", status, body)
	}
	made := make(chan error, 1)
	time.AfterFunc(500*time.Millisecond, func() { made <- os.WriteFile(well, nil, 0o600) })
	if status, body := w.get("/readiness?wait"); status != 200 {
		t.Errorf("%d at last: %s", status, body)
	}
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	within(t, began, 15*time.Second, "ready")
	if status, _ := w.get("/readiness?wait=soon"); status != 400 {
		t.Errorf("%d for a limit that is none", status)
	}
}

func TestWaitAnswersAtTheEnd(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("it", stubborn, "readiness: {delay: 0s, period: 1h, failureThreshold: 2, file: {path: /no/such/file}}"), args: []string{"-graceful-shutdown-deadline", "3s"}})
	w.in("it", "running")
	c, err := dial(strings.TrimPrefix(w.url(""), "http://"), "GET /readiness?wait HTTP/1.1\r\nHost: x\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w.signal(syscall.SIGTERM)
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 503 {
		t.Errorf("%d", response.StatusCode)
	}
}

// manyFiles lets the test have a descriptor for each of n connections.
func manyFiles(t *testing.T, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < n {
		limit.Cur, limit.Max = n, max(n, limit.Max)
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			skip(t, "needs %d descriptors: %v", n, err)
		}
	}
}

func TestFloodOfConnectionsStopsNothing(t *testing.T) {
	for _, test := range []struct{ name, text string }{
		{"that say nothing", ""},
		{"in the middle of a header", "GET /readiness HTTP/1.1\r\nHost:"},
		{"that wait", "GET /readiness?wait HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) { flood(t, test.text) })
	}
}

func flood(t *testing.T, text string) {
	const total, dialers = 10_000, 20
	manyFiles(t, total+1000)
	w := start(t, options{nofile: 1024, config: script("it", forever, "readiness: {delay: 0s, period: 50ms, failureThreshold: 1, exec: {command: {entrypoint: /bin/true}}}")})
	w.ready()
	addr := strings.TrimPrefix(w.url(""), "http://")
	var wg sync.WaitGroup
	conns := make([][]net.Conn, dialers)
	defer func() {
		for _, c := range conns {
			for _, c := range c {
				c.Close()
			}
		}
	}()
	for i := range dialers {
		wg.Go(func() {
			for range total / dialers {
				if c, err := dial(addr, text); c != nil && err == nil {
					conns[i] = append(conns[i], c)
				}
			}
		})
	}
	var all sync.WaitGroup
	flooding := make(chan struct{})
	all.Go(func() {
		wg.Wait()
		close(flooding)
	})
	defer all.Wait()
	slowest, probes := time.Duration(0), 0
	for over := false; !over; {
		select {
		case <-flooding:
			over = true
		default:
		}
		began := time.Now()
		if err := ok("http://"+addr+"/readiness", 10*time.Second); err != nil {
			t.Errorf("probe %d: %v", probes, err)
			over = true
		}
		slowest = max(slowest, time.Since(began))
		probes++
	}
	<-flooding
	t.Logf("%d probes, the slowest took %v", probes, slowest)
	for range 10 { // and while all are open
		if err := ok("http://"+addr+"/readiness", 10*time.Second); err != nil {
			t.Error(err)
		}
	}
	if s := w.states()["it"]; s.Restarts != 0 || !s.Ready {
		t.Errorf("it is %+v", s)
	}
	began := time.Now()
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	within(t, began, 10*time.Second, "the end")
}
