package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// wire is a connection on which a client of the old protocol speaks.
type wire struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dialWire(t *testing.T, s *lockServer) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &wire{t, conn, bufio.NewReader(conn)}
}

var (
	wireDate   = regexp.MustCompile(`Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n`)
	wireToken  = regexp.MustCompile(`X-Fencing-Token: [1-9][0-9]*\r\n`)
	wireLength = regexp.MustCompile(`Content-Length: (\d+)\r\n`)
)

// says sends bytes and returns the bytes of the answer, without what differs from one to the next.
func (w *wire) says(request string) string {
	w.t.Helper()
	if _, err := io.WriteString(w.conn, request); err != nil {
		w.t.Fatal(err)
	}
	head := ""
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := w.in.ReadString('\n')
		if err != nil {
			w.t.Fatalf("after %q: %v", head+line, err)
		}
		head += line
	}
	length := 0
	if m := wireLength.FindStringSubmatch(head); m != nil {
		_, _ = fmt.Sscan(m[1], &length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(w.in, body); err != nil {
		w.t.Fatal(err)
	}
	return wireToken.ReplaceAllString(wireDate.ReplaceAllString(head, ""), "") + string(body)
}

// wants compares an answer with what such servers always said.
func (w *wire) wants(what, request, want string) {
	w.t.Helper()
	if got := w.says(request); got != want {
		w.t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// The bytes of the old protocol, as clients write and read them that know no other. All is on one connection: no answer has a byte more.
func TestTheOldProtocolByteForByte(t *testing.T) {
	t.Parallel()
	s := startSharedLock(t, t.TempDir())
	w := dialWire(t, s)
	body := `{"key":"job","value":"pod-1","labels":{"app":"shop"},"timestamp":"2024-05-06T07:08:09Z"}`
	lease := fmt.Sprintf("POST /lease HTTP/1.1\r\nHost: lock:8191\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: %d\r\nContent-Type: application/json\r\n"+
		"X-Lease-Ttl: 2s\r\nAccept-Encoding: gzip\r\n\r\n%s", len(body), body)
	const (
		head    = "HTTP/1.1 201 Created\r\nContent-Length: "
		held    = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
		alive   = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		isGone  = "HTTP/1.1 204 No Content\r\n\r\n"
		keep    = "POST /keepalive HTTP/1.1\r\nHost: lock:8191\r\nContent-Length: %d\r\n\r\n%s"
		noLease = "1234567890123456789"
	)
	id := newLease(t, w.says(lease), head)
	keepalive := fmt.Sprintf(keep, len(id), id)
	w.wants("a second lease", lease, held)
	w.wants("keepalive", keepalive, alive)
	w.wants("keepalive with a line end, as of a file", fmt.Sprintf(keep, len(id)+1, id+"\n"), alive)
	w.wants("keepalive in chunks", fmt.Sprintf("POST /keepalive HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(id), id), alive)
	w.wants("keepalive of another", fmt.Sprintf(keep, len(noLease), noLease), isGone)
	w.wants("health", "GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n\r\nok\n")
	eventually(t, "the lock ends", func() error {
		if got := w.says(keepalive); got != isGone {
			<-time.After(2100 * time.Millisecond) // without a keepalive
			return fmt.Errorf("%q", got)
		}
		return nil
	})

	for name, request := range map[string]string{
		"no TTL":                "POST /lease HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s",
		"TTL in small letters":  "POST /lease HTTP/1.1\r\nHost: x\r\nx-lease-ttl: 10s\r\nContent-Length: %d\r\n\r\n%s",
		"curl's type of a body": "POST /lease HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
	} {
		body := fmt.Sprintf(`{"key":%q,"another":["field"],"labels":null}`, name)
		id := newLease(t, w.says(fmt.Sprintf(request, len(body), body)), head)
		w.wants(name, fmt.Sprintf(keep, len(id), id), alive)
	}
	bad := w.says("POST /lease HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	if !strings.HasPrefix(bad, "HTTP/1.1 400 Bad Request\r\n") || !strings.HasSuffix(bad, "\r\n\r\nthe key is empty\n") {
		t.Errorf("without a key: %q", bad)
	}
	method := w.says("GET /lease HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(method, "HTTP/1.1 405 Method Not Allowed\r\nAllow: POST, DELETE\r\n") {
		t.Errorf("GET: %q", method)
	}

	old := dialWire(t, s) // HTTP/1.0, as small clients speak
	body = `{"key":"old"}`
	newLease(t, old.says(fmt.Sprintf("POST /lease HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", len(body), body)), "HTTP/1.0 201 Created\r\nContent-Length: ")
	if n, err := old.in.ReadByte(); err != io.EOF {
		t.Errorf("after the answer to HTTP/1.0: %q, %v", n, err)
	}
}

// newLease returns the id of an answer, which is nothing but decimal digits.
func newLease(t *testing.T, answer, head string) string {
	t.Helper()
	m := regexp.MustCompile(`^` + regexp.QuoteMeta(head) + `\d+\r\n(?:Content-Type: text/plain; charset=utf-8\r\n)?(?:Connection: close\r\n)?\r\n([1-9][0-9]{0,18})$`).FindStringSubmatch(answer)
	if m == nil {
		t.Fatalf("lease: %q", answer)
	}
	return m[1]
}

// longBody is a body that counts what is taken of it.
type longBody struct{ left, read int }

func (e *longBody) Read(p []byte) (int, error) {
	n := min(len(p), e.left)
	if n == 0 {
		return 0, io.EOF
	}
	for i := range p[:n] {
		p[i] = '1'
	}
	e.left, e.read = e.left-n, e.read+n
	return n, nil
}

// A body of 200 MB costs next to no memory, whether it tells its length or not.
func TestAHugeBodyCostsNoMemory(t *testing.T) {
	t.Parallel()
	const size = 200 << 20
	s := startSharedLock(t, t.TempDir())
	for range 20 {
		_, _ = s.ask(t, "POST", "/v1/locks/warm/acquire", `{"ttl":"200ms"}`)
	}
	pid := s.cmd.Process.Pid
	kb := func(field string) (n int) {
		_, _ = fmt.Sscan(procStatus(t, pid)[field], &n)
		return n
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil { // VmHWM begins anew
		t.Skip(err)
	}
	before := kb("VmRSS")
	for _, length := range []string{fmt.Sprintf("Content-Length: %d\r\n", size), "Transfer-Encoding: chunked\r\n"} {
		for _, path := range []string{"POST /lease", "POST /keepalive", "POST /v1/locks/a/acquire", "PUT /v1/locks/a/renew", "PUT /v1/renew"} {
			w := dialWire(t, s)
			body := &longBody{left: size}
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = fmt.Fprintf(w.conn, "%s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, length)
				to := io.Writer(w.conn)
				if strings.HasPrefix(length, "Transfer") {
					to = chunks{w.conn}
				}
				_, _ = io.Copy(to, body) // until the server hangs up
				_ = w.conn.Close()
			}()
			line, err := w.in.ReadString('\n') // its last words may be lost
			if err == nil && !strings.HasPrefix(line, "HTTP/1.1 413 ") {
				t.Errorf("%s: %q", path, line)
			}
			_, _ = io.Copy(io.Discard, w.in)
			<-sent
			if body.read > 32<<20 {
				t.Errorf("%s: %d bytes were taken", path, body.read)
			}
		}
	}
	if more := kb("VmHWM") - before; more > 8<<10 {
		t.Errorf("bodies of 200 MB cost %d KiB", more)
	} else {
		t.Logf("bodies of 200 MB cost %d KiB at most", more)
	}
}

// chunks writes each write as a chunk.
type chunks struct{ to io.Writer }

func (c chunks) Write(p []byte) (int, error) {
	if _, err := fmt.Fprintf(c.to, "%x\r\n%s\r\n", len(p), p); err != nil {
		return 0, err
	}
	return len(p), nil
}
