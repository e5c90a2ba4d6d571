package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// hostile answers every request with handle.
func hostile(t *testing.T, handle func(conn net.Conn, done <-chan struct{})) string {
	t.Helper()
	return "http://" + listen(t, "127.0.0.1:0", func(conn net.Conn, done <-chan struct{}) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			handle(conn, done)
		}
	}) + "/"
}

func send(text string) func(net.Conn, <-chan struct{}) {
	return func(conn net.Conn, _ <-chan struct{}) { _, _ = io.WriteString(conn, text) }
}

func sendAndHang(text string) func(net.Conn, <-chan struct{}) {
	return func(conn net.Conn, done <-chan struct{}) {
		_, _ = io.WriteString(conn, text)
		<-done
	}
}

// flood sends head, and chunk until nobody reads.
func flood(head, chunk string) func(net.Conn, <-chan struct{}) {
	return func(conn net.Conn, _ <-chan struct{}) {
		_, err := io.WriteString(conn, head)
		for err == nil {
			_, err = io.WriteString(conn, chunk)
		}
	}
}

// drip sends text slowly and endlessly.
func drip(text string) func(net.Conn, <-chan struct{}) {
	return func(conn net.Conn, done <-chan struct{}) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			if _, err := conn.Write([]byte{text[i%len(text)]}); err != nil {
				return
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}
}

func TestHTTPAgainstHostileServers(t *testing.T) {
	const brief, some, long = 200 * time.Millisecond, 3 * time.Second, 20 * time.Second // some is enough for a header
	big := strings.Repeat("x", 64<<10)
	for name, c := range map[string]struct {
		handle  func(net.Conn, <-chan struct{})
		timeout time.Duration
		want    string
		parts   []string
	}{
		"silence fails":                          {sendAndHang(""), brief, "failed", []string{"timed out after"}},
		"silence after one byte fails":           {sendAndHang("H"), brief, "failed", []string{"timed out"}},
		"silence in the header fails":            {sendAndHang("HTTP/1.1 200 OK\r\nX: "), brief, "failed", []string{"timed out"}},
		"silence in the body is inconclusive":    {sendAndHang("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx"), some, "inconclusive", []string{"body not complete", "timed out"}},
		"a slow header fails":                    {drip("HTTP/1.1 200 OK\r\nX: " + big), brief, "failed", []string{"timed out"}},
		"a slow body is inconclusive":            {drip("HTTP/1.1 200\r\n\r\n" + big), some, "inconclusive", []string{"status 200, body not complete"}},
		"100 GB of body pass":                    {flood("HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n", big), long, "passed", nil},
		"an endless body passes":                 {flood("HTTP/1.1 200 OK\r\n\r\n", big), long, "passed", nil},
		"an endless chunked body passes":         {flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "10000\r\n"+big+"\r\n"), long, "passed", nil},
		"an endless error fails":                 {flood("HTTP/1.1 500 No\r\nContent-Type: text/plain\r\n\r\n", big), long, "failed", []string{"status 500: xxxx", "…"}},
		"an endless header fails":                {flood("HTTP/1.1 200 OK\r\n", "X: "+big+"\r\n"), long, "failed", []string{"header is larger than 1024 KiB"}},
		"an endless line of header fails":        {flood("HTTP/1.1 200 OK\r\nX: ", big), long, "failed", []string{"header is larger than 1024 KiB"}},
		"an endless status line fails":           {flood("HTTP/1.1 200 ", big), long, "failed", []string{"header is larger than 1024 KiB"}},
		"endless early hints fail":               {flood("", "HTTP/1.1 103 Early Hints\r\n\r\n"), long, "failed", []string{"too many 1xx answers"}},
		"an HTTP/0.9 answer fails":               {send("<html>hello</html>"), long, "failed", []string{`answer is not HTTP: "<html>hello</html>"`}},
		"another protocol fails":                 {send("SSH-2.0-OpenSSH_9.2\r\n\x00\x00garbage"), long, "failed", []string{`answer is not HTTP: "SSH-2.0-OpenSSH_9.2"`}},
		"bytes fail":                             {send("\x00\x01\x02\xff\xfe\xfd"), long, "failed", []string{"answer is not HTTP"}},
		"an alert of TLS fails with a hint":      {send("\x15\x03\x01\x00\x02\x02\x16"), long, "failed", []string{"is the scheme https?"}},
		"an end without a word fails":            {send(""), long, "failed", []string{"connection closed before the answer was complete"}},
		"an end in the first word fails":         {send("HTT"), long, "failed", []string{"connection closed"}},
		"an end in the header fails":             {send("HTTP/1.1 200 OK\r\nX: y\r\n"), long, "failed", []string{"connection closed"}},
		"a status that is no number fails":       {send("HTTP/1.1 OK 200\r\n\r\n"), long, "failed", []string{"header is malformed"}},
		"a header line that is none fails":       {send("HTTP/1.1 200 OK\r\nSet-Cookie s3cret\r\n\r\n"), long, "failed", []string{"header is malformed"}},
		"two lengths fail":                       {send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"), long, "failed", []string{"header is malformed"}},
		"chunks that are none are inconclusive":  {send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ns3cret\r\n"), long, "inconclusive", []string{"body cut short"}},
		"a redirect that hangs fails":            {sendAndHang("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 9\r\n\r\n"), brief, "failed", []string{"timed out"}},
		"an endless redirect loop fails":         {send("HTTP/1.1 302 Found\r\nLocation: /?a=s3cret\r\n\r\n"), long, "failed", []string{"stopped after 10 redirects"}},
		"a body that is HTML is not quoted":      {send("HTTP/1.1 500 No\r\nContent-Type: text/html\r\n\r\n<p>s3cret"), long, "failed", []string{"status 500"}},
		"a body that is JSON is, made printable": {send("HTTP/1.1 503 No\r\nContent-Type: application/problem+json; charset=utf-8\r\n\r\n{\n\"db\":\x1b[1m\"down\"}"), long, "failed", []string{`status 503: { "db":[1m"down"}`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := within(t, c.timeout, mustHTTP(t, HTTPConfig{URL: hostile(t, c.handle)}))
			want(t, err, c.want, c.parts...)
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error %q shows a secret", err)
			}
		})
	}
}

func TestHTTPHungBodyFailsWhereItMustEnd(t *testing.T) {
	u := hostile(t, sendAndHang("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx"))
	err := within(t, 2*time.Second, mustHTTP(t, HTTPConfig{URL: u, BodyMustEnd: true})) // enough for the header
	want(t, err, "failed", "status 200, body not complete: timed out")
	u = hostile(t, send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx"))
	err = within(t, 20*time.Second, mustHTTP(t, HTTPConfig{URL: u, BodyMustEnd: true}))
	want(t, err, "inconclusive", "body cut short")
}

func TestHTTPSilentHandshakeFails(t *testing.T) {
	addr := listen(t, "127.0.0.1:0", func(_ net.Conn, done <-chan struct{}) { <-done })
	err := within(t, 200*time.Millisecond, mustHTTP(t, HTTPConfig{URL: "https://" + addr}))
	want(t, err, "failed", "timed out")
}

func TestHTTPResetFails(t *testing.T) {
	u := hostile(t, func(conn net.Conn, _ <-chan struct{}) { _ = conn.(*net.TCPConn).SetLinger(0) })
	err := within(t, 20*time.Second, mustHTTP(t, HTTPConfig{URL: u}))
	want(t, err, "failed", "connection reset by peer")
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v is not ECONNRESET", err)
	}
}

func TestHTTPNoTimeLeftFails(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	u := hostile(t, send("HTTP/1.1 200 OK\r\n\r\n"))
	want(t, mustHTTP(t, HTTPConfig{URL: u}).Check(ctx), "failed", "timed out after")
}

// TestHTTPIsSafeToShare checks one probe from many goroutines, and that
// nothing of it is left: neither goroutines nor connections.
func TestHTTPIsSafeToShare(t *testing.T) {
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "well")
	}))
	srv.Config.ConnState = func(c net.Conn, s http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if s == http.StateClosed {
			delete(open, c)
		} else {
			open[c] = true
		}
	}
	srv.Start()
	p := mustHTTP(t, HTTPConfig{URL: srv.URL})
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := within(t, 20*time.Second, p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	srv.Close()                                                                                        // waits for its connections: they end because ours did
	for late := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() { // those of the client may end a little later
		if time.Now().After(late) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(open) > 0 {
		t.Errorf("%d connections are open", len(open))
	}
}
