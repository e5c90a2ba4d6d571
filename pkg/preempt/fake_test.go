package preempt

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// proxyAddr is what the environment of all tests has as a proxy. Go reads that only
// once, so that no single test can set it.
const proxyAddr = "proxy.example:3128"

func TestMain(m *testing.M) {
	for name, value := range map[string]string{"HTTP_PROXY": "http://" + proxyAddr, "NO_PROXY": "", "http_proxy": "", "no_proxy": ""} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// network is one without cables, so that time in it can be faked. Who is dialed
// is a server, or a fault.
type network struct {
	t  *testing.T
	wg sync.WaitGroup

	mu    sync.Mutex // guards what follows
	hosts map[string]server
	fault string      // what happens to all connections, "": nothing
	dials []string    // their addresses
	times []time.Time // of those to addresses that there are
}

// server answers one request of a connection. It is strict: what a real one
// refuses, it refuses.
type server interface {
	serve(ctx context.Context, r *http.Request) response
}

type response struct {
	code int
	head map[string]string
	body string
}

func newNetwork(t *testing.T) *network { return &network{t: t, hosts: map[string]server{}} }

func (n *network) set(fault string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault = fault
}

func (n *network) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.dials)
}

// crowded says where there were more connections than a bucket lets through that holds
// three tokens and gets one each time that every has passed, "" where there were not.
func (n *network) crowded(every time.Duration) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, from := range n.times {
		for j, to := range n.times[i:] {
			if most := 3 + int(to.Sub(from)/every); j+1 > most {
				return fmt.Sprintf("%d requests in %v, of %d", j+1, to.Sub(from), len(n.times))
			}
		}
	}
	return ""
}

// dialed counts the connections to an address.
func (n *network) dialed(addr string) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.dials {
		if a == addr {
			count++
		}
	}
	return count
}

// dial is a dialer.
func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, addr)
	host, fault := n.hosts[addr], n.fault
	if host != nil { // a name that is not known leads to no request
		n.times = append(n.times, time.Now())
	}
	if fault == "flapping" {
		fault = []string{"", "503", "", "reset", ""}[len(n.dials)%5]
	}
	if addr == elsewhere+":80" {
		fault = "" // it answers
	}
	n.mu.Unlock()
	switch {
	case host == nil:
		return nil, &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}
	case fault == "refused":
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case fault == "unreachable":
		select {
		case <-time.After(dialTimeout):
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	ours, theirs := net.Pipe()
	n.mu.Lock()
	n.wg.Go(func() { n.answer(theirs, host, fault) })
	n.mu.Unlock()
	if fault == "reset" {
		return resetConn{ours}, nil
	}
	return ours, nil
}

// resetConn is a connection that the other side does not close but break.
type resetConn struct{ net.Conn }

func (c resetConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		err = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	}
	return n, err
}

func (n *network) answer(conn net.Conn, host server, fault string) {
	defer func() { _ = conn.Close() }()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	ctx, gone := context.WithCancel(context.Background())
	n.wg.Go(func() { _, _ = io.Copy(io.Discard, conn); gone() })
	if status, err := strconv.Atoi(fault); err == nil {
		write(conn, response{status, nil, "fault"}, -1)
		return
	}
	switch fault {
	case "":
		write(conn, host.serve(ctx, r), -1)
	case "hang":
		<-ctx.Done()
	case "slowloris":
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n")
		for i := 0; i < 999 && ctx.Err() == nil; i++ {
			if _, err := io.WriteString(conn, "T"); err != nil {
				break
			}
			_ = sleep(ctx, time.Second)
		}
	case "truncated":
		write(conn, response{200, map[string]string{"ETag": "0123456789abcdef"}, "FALSE"}, 3)
	case "garbage":
		write(conn, response{200, map[string]string{"ETag": "0123456789abcdef"}, "<html>\x00\xff" + strings.Repeat("x", 300)}, -1)
	case "endless":
		write(conn, response{200, nil, strings.Repeat("FALSE ", maxBody)}, -1)
	case "binary":
		_, _ = io.WriteString(conn, "\x16\x03\x01\x02\x00\x01")
	case "at once": // an answer that nothing has changed, as if nobody had asked to wait
		write(conn, response{200, map[string]string{"ETag": "0123456789abcdef"}, "FALSE"}, -1)
	case "redirect":
		write(conn, response{302, map[string]string{"Location": "http://" + elsewhere + "/login"}, ""}, -1)
	}
	// "reset" and "flapping": nothing comes
}

// write writes a response, or the first bytes of its body.
func write(w io.Writer, r response, only int) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\n", r.code, http.StatusText(r.code), len(r.body))
	for k, v := range r.head {
		fmt.Fprintf(&b, "%s: %s\r\n", k, v)
	}
	b.WriteString("\r\n")
	if only < 0 {
		only = len(r.body)
	}
	b.WriteString(r.body[:only])
	_, _ = w.Write(b.Bytes())
}

// googleServer is the metadata server of GCE, as far as a watcher needs it.
type googleServer struct {
	t    *testing.T
	etag bool // it has ETags

	mu      sync.Mutex // guards what follows
	values  map[string]string
	changed chan struct{}
	asked   []string // paths with their queries
	times   []time.Time
}

func newGoogle(t *testing.T) *googleServer {
	return &googleServer{t: t, etag: true, changed: make(chan struct{}), values: map[string]string{
		"instance/preempted": "FALSE", "instance/maintenance-event": "NONE", "instance/id": "4242",
	}}
}

func (g *googleServer) put(name, value string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.values[name] = value
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *googleServer) paths() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.asked...)
}

func (g *googleServer) load(name string) (string, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.values[name], g.changed
}

func tag(value string) string {
	h := fnv.New64a()
	_, _ = io.WriteString(h, value)
	return fmt.Sprintf("%016x", h.Sum64())
}

func (g *googleServer) serve(ctx context.Context, r *http.Request) response {
	g.mu.Lock()
	g.asked, g.times = append(g.asked, r.URL.RequestURI()), append(g.times, time.Now())
	g.mu.Unlock()
	head := map[string]string{"Metadata-Flavor": "Google", "Content-Type": "application/text"}
	name, ok := strings.CutPrefix(r.URL.Path, "/computeMetadata/v1/")
	value, changed := g.load(name)
	q := r.URL.Query()
	switch {
	case r.Method != http.MethodGet:
		return response{405, head, ""}
	case r.Header.Get("Metadata-Flavor") != "Google" || r.Header.Get("X-Forwarded-For") != "":
		return response{403, head, "Missing Metadata-Flavor:Google header."}
	case !ok || value == "":
		return response{404, head, "Not Found"}
	}
	if q.Get("wait_for_change") == "true" {
		for last := q.Get("last_etag"); last == "" || last == tag(value); value, changed = g.load(name) {
			seconds, err := strconv.Atoi(q.Get("timeout_sec"))
			if err != nil {
				return response{400, head, "timeout_sec"}
			}
			select {
			case <-changed:
				continue
			case <-time.After(time.Duration(seconds) * time.Second):
			case <-ctx.Done():
			}
			break
		}
	}
	if g.etag {
		head["ETag"] = tag(value)
	}
	return response{200, head, value}
}

// watched is a watcher that runs, with what it tells.
type watched struct {
	*Watcher
	log  *strings.Builder
	end  func() // and wait
	over chan struct{}

	mu      sync.Mutex // guards what follows
	notices []Notice
	at      []time.Time
	hints   []Hint
}

// watch runs a watcher on a network, in fake time, until the test ends it.
func watch(n *network, cfg Config) *watched {
	n.t.Helper()
	w := &watched{log: new(strings.Builder), over: make(chan struct{})}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(w.log, nil))
	}
	cfg.dial, cfg.dmi = n.dial, n.t.TempDir()
	cfg.OnNotice = func(x Notice) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.notices, w.at = append(w.notices, x), append(w.at, time.Now())
	}
	cfg.OnHint = func(h Hint) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.hints = append(w.hints, h)
	}
	var err error
	if w.Watcher, err = New(cfg); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.wg.Go(func() { w.Run(ctx); close(w.over) })
	w.end = func() {
		cancel()
		<-w.over
		time.Sleep(dialTimeout) // Go goes on dialing for a request that is gone
		_ = n.count()           // whoever dialed is seen to have done so
		n.wg.Wait()
	}
	return w
}

func (w *watched) told() []Notice {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Notice(nil), w.notices...)
}

// lines returns what was logged. The watcher has ended.
func (w *watched) lines() []string {
	text := strings.TrimSpace(w.log.String())
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

const (
	googleAddr = "metadata.google.internal:80"
	elsewhere  = "elsewhere.example" // where "redirect" leads
)
