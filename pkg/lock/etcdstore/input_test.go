package etcdstore

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

func TestBadRequests(t *testing.T) {
	r := startReplica(t)
	long := strings.Repeat("k", 513)
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/v1/locks/a/acquire", `{"ttl":"10"}`, 400, "bad_ttl"},
		{"POST", "/v1/locks/a/acquire", `{"ttl":"0s"}`, 400, "bad_ttl"},
		{"POST", "/v1/locks/a/acquire", `{"ttl":"-1s"}`, 400, "bad_ttl"},
		{"POST", "/v1/locks/a/acquire", `{"ttl":"99999999999h"}`, 400, "bad_ttl"},
		{"POST", "/v1/locks/a/acquire", `{"ttl":10}`, 400, "bad_request"},
		{"POST", "/v1/locks/a/acquire", `junk`, 400, "bad_request"},
		{"POST", "/v1/locks/a/acquire", `{} {}`, 400, "more than one"},
		{"POST", "/v1/locks/a/acquire", `{"tll":"1s"}`, 400, "tll"},
		{"POST", "/v1/locks/a/acquire", `{"slots":0}`, 400, "slots"},
		{"POST", "/v1/locks/a/acquire", `{"slots":1001}`, 400, "slots"},
		{"POST", "/v1/locks/a/acquire", `{"reentrant":true}`, 400, "session"},
		{"POST", "/v1/locks/a/acquire", `{"session":"short"}`, 400, "session"},
		{"POST", "/v1/locks/a/acquire?wait=x", `{}`, 400, "wait"},
		{"POST", "/v1/locks/a/acquire?namespace=a%2Fb", `{}`, 400, "bad_namespace"},
		{"POST", "/v1/locks/" + long + "/acquire", `{}`, 400, "bad_key"},
		{"POST", "/v1/locks//acquire", `{}`, 400, "bad_key"},
		{"POST", "/v1/locks/a%00b/acquire", `{}`, 400, "bad_key"},
		{"POST", "/v1/locks/%ff/acquire", `{}`, 400, "bad_key"},
		{"POST", "/v1/locks/a/acquire", strings.Repeat(" ", 70000), 413, "too_large"},
		{"GET", "/v1/locks/a/validate", "", 400, "token"},
		{"DELETE", "/v1/locks/a?token=-1", "", 400, "token"},
		{"DELETE", "/v1/locks/a", "", 400, "token"},
		{"DELETE", "/v1/locks/nobody?force", "", 410, "gone"},
		{"PUT", "/v1/locks/a/renew", `{}`, 400, "token"},
		{"PUT", "/v1/renew", `{"locks":[]}`, 400, "locks"},
		{"PUT", "/v1/locks/a/acquire", `{}`, 405, "POST"},
		{"POST", "/v1/locks/a", `{}`, 405, "GET or DELETE"},
		{"POST", "/v1/locks", `{}`, 405, "GET"},
		{"GET", "/v1/locks/nobody", "", 404, "not_held"},
		{"GET", "/v1/nothing", "", 404, "not_found"},
		{"GET", "/", "", 404, "not_found"},
		{"GET", "/lease", "", 405, "POST"},
		{"PUT", "/keepalive", "", 405, "POST"},
		{"POST", "/health", "", 405, "GET"},
		{"POST", "/lease", `junk`, 400, "JSON"},
		{"POST", "/lease", `{}`, 400, "empty"},
		{"POST", "/lease", `{"key":"` + long + `"}`, 400, "at most 512"},
		{"POST", "/keepalive", "junk", 400, "lease id"},
		{"POST", "/keepalive", "", 400, "lease id"},
		{"POST", "/keepalive", "99999999999999999999", 400, "lease id"},
		{"POST", "/keepalive", "7", 204, ""},
	} {
		status, text, header := r.do(t, test.method, test.path, test.body)
		if status != test.status || !contains(text, test.want) {
			t.Errorf("%s %.60s %.40s: %d %s, want %d with %q", test.method, test.path, test.body, status, text, test.status, test.want)
		}
		if status == 405 && header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", test.method, test.path)
		}
	}
	for _, ttl := range []string{"10", "0s", "-1s", "1e99s", "99999999999h", "x"} {
		if status, text, _ := r.do(t, "POST", "/lease", `{"key":"a"}`, "x-lease-ttl", ttl); status != 400 || !contains(text, "TTL") {
			t.Errorf("x-lease-ttl %s: %d %s", ttl, status, text)
		}
	}
}

func TestOddKeysAreKeptApart(t *testing.T) {
	r := startReplica(t)
	for _, key := range []string{"a/b", "a//b", "../x", "100%", "a%2Fb", "ключ", "@x", "@@x", "@+/a#0", "a#0", " ", "x/acquire", "x/validate", "?", "🔒"} {
		path := "/v1/locks/" + url.PathEscape(key)
		if status, text, _ := r.do(t, "POST", path+"/acquire", `{}`); status != 201 {
			t.Errorf("%q: %d %s", key, status, text)
		}
		if status, text, _ := r.do(t, "GET", path, ""); status != 200 || false {
			t.Errorf("get %q: %d %s", key, status, text)
		}
		if status, text, _ := r.do(t, "POST", path+"/acquire?namespace=other", `{}`); status != 201 {
			t.Errorf("%q in another namespace: %d %s", key, status, text)
		}
	}
	if status, _, _ := r.do(t, "POST", "/v1/locks/a/b/acquire", `{}`); status != 409 {
		t.Errorf("raw slashes: %d", status)
	}
}

func TestRenewalOfMany(t *testing.T) {
	a, b := startReplica(t), startReplica(t)
	var refs []string
	for i := range 10 {
		got := a.must(t, fmt.Sprintf("k%d", i), `{"session":"0123456789abcdef"}`)
		refs = append(refs, fmt.Sprintf(`{"key":"k%d","token":%d}`, i, got.Token))
	}
	refs = append(refs, `{"key":"nobody","token":5}`)
	for _, r := range []*replica{a, b, a} {
		status, text, _ := r.do(t, "PUT", "/v1/renew", `{"locks":[`+strings.Join(refs, ",")+`]}`)
		if status != 200 || strings.Count(text, `"status":"ok"`) != 10 || strings.Count(text, `"status":"gone"`) != 1 {
			t.Errorf("%d %s", status, text)
		}
	}
}

func TestForceAndValidate(t *testing.T) {
	a, b := startReplica(t), startReplica(t)
	got := a.must(t, "k", `{"owner":"me"}`)
	valid := fmt.Sprintf("/v1/locks/k/validate?token=%d", got.Token)
	if status, text, _ := b.do(t, "GET", valid, ""); status != 200 {
		t.Errorf("validate: %d %s", status, text)
	}
	if status, text, _ := b.do(t, "DELETE", "/v1/locks/k?force", ""); status != 200 {
		t.Errorf("force: %d %s", status, text)
	}
	if status, _, _ := a.do(t, "GET", valid, ""); status != 410 {
		t.Errorf("validate after force: %d", status)
	}
	if status := a.renew(t, "k", got.Token); status != 410 {
		t.Errorf("renew after force: %d", status)
	}
}

func TestEvents(t *testing.T) {
	a, b := startReplica(t), startReplica(t)
	req, err := http.NewRequestWithContext(t.Context(), "GET", b.URL+"/v1/events?prefix=ev", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := b.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Scan() // it listens now
	a.must(t, "other", `{}`)
	got := a.must(t, "ev/1", `{"ttl":"300ms"}`)
	want := []string{
		"event: acquired", fmt.Sprintf(`data: {"key":"ev/1","token":%d}`, got.Token),
		"event: freed", fmt.Sprintf(`data: {"key":"ev/1","token":%d}`, got.Token),
	}
	for _, line := range want {
		for lines.Scan() && lines.Text() == "" {
		}
		if lines.Text() != line {
			t.Fatalf("got %q, want %q", lines.Text(), line)
		}
	}
}

func TestBearerTokens(t *testing.T) {
	access, err := lock.ParseAccess([]byte(`{"tokens":[
		{"name":"ci","token":"secret-of-the-ci","prefixes":["ci/"],"rights":["hold"]},
		{"name":"ops","token":"secret-of-ops-16","prefixes":[""],"namespaces":["*"],"rights":["read","force"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	srv := lock.NewServer(lock.Options{Access: access, Log: slog.New(slog.DiscardHandler)})
	srv.Use(startStore(t, srv.Observe))
	web := httptest.NewServer(srv)
	defer web.Close()
	r := &replica{Server: web}
	for _, test := range []struct {
		token, method, path, body string
		want                      int
	}{
		{"", "POST", "/v1/locks/ci%2Fa/acquire", `{}`, 401},
		{"wrong", "POST", "/v1/locks/ci%2Fa/acquire", `{}`, 401},
		{"secret-of-the-ci", "POST", "/v1/locks/ci%2Fa/acquire", `{}`, 201},
		{"secret-of-the-ci", "POST", "/v1/locks/prod/acquire", `{}`, 403},
		{"secret-of-the-ci", "POST", "/v1/locks/ci%2Fa/acquire?namespace=x", `{}`, 403},
		{"secret-of-the-ci", "GET", "/v1/locks", ``, 403},
		{"secret-of-the-ci", "GET", "/v1/locks?prefix=ci/", ``, 200},
		{"secret-of-the-ci", "DELETE", "/v1/locks/ci%2Fa?force", ``, 403},
		{"secret-of-the-ci", "PUT", "/v1/renew", `{"locks":[{"key":"ci/a","token":1},{"key":"prod","token":1}]}`, 403},
		{"secret-of-the-ci", "POST", "/lease", `{"key":"prod"}`, 403},
		{"secret-of-the-ci", "POST", "/lease", `{"key":"ci/b"}`, 201},
		{"", "POST", "/lease", `{"key":"ci/b"}`, 401},
		{"", "GET", "/v1/events", ``, 401},
		{"secret-of-ops-16", "POST", "/v1/locks/ci%2Fa/acquire", `{}`, 403},
		{"secret-of-ops-16", "DELETE", "/v1/locks/ci%2Fa?force", ``, 200},
		{"", "GET", "/health", ``, 200},
		{"", "GET", "/ready", ``, 200},
	} {
		if status, text, _ := r.do(t, test.method, test.path, test.body, "Authorization", "Bearer "+test.token); status != test.want {
			t.Errorf("%q %s %s: %d %s, want %d", test.token, test.method, test.path, status, text, test.want)
		}
	}
}

// stopper is a proxy in front of etcd that can be made to swallow everything, or to refuse.
type stopper struct {
	net.Listener
	stopped chan struct{} // closed: nothing passes
	cut     *atomic.Bool  // new connections are closed
	wg      sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func startStopper(t *testing.T) *stopper {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startStopperOn(t, l, new(atomic.Bool))
}

func startStopperOn(t *testing.T, l net.Listener, cut *atomic.Bool) *stopper {
	s := &stopper{Listener: l, stopped: make(chan struct{}), cut: cut}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", endpoint)
			if err != nil || cut.Load() {
				c.Close()
				if err == nil {
					up.Close()
				}
				continue
			}
			s.mu.Lock()
			s.conns = append(s.conns, c, up)
			s.mu.Unlock()
			s.wg.Go(func() { s.copy(up, c) })
			s.wg.Go(func() { s.copy(c, up) })
		}
	})
	t.Cleanup(func() { l.Close(); s.drop(); s.wg.Wait() })
	return s
}

// drop closes what is open.
func (s *stopper) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

func (s *stopper) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-s.stopped:
			_, _ = io.Copy(io.Discard, from) // for ever
			return
		default:
		}
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestWithoutEtcdNothingIsClaimed(t *testing.T) {
	p := startStopper(t)
	r := startReplica(t, p.Addr().String())
	got := r.must(t, "k", `{"ttl":"10s"}`)
	_, id, _ := r.do(t, "POST", "/lease", `{"key":"old"}`)
	if status := r.renew(t, "k", got.Token); status != 200 { // what it learns now is too old soon
		t.Fatalf("renew: %d", status)
	}
	close(p.stopped)
	begin := time.Now()
	if status, _, header := r.do(t, "GET", "/ready", ""); status != 503 || header.Get("Retry-After") == "" {
		t.Errorf("ready: %d", status)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("ready took %s", took)
	}
	if status, _, _ := r.do(t, "GET", "/health", ""); status != 200 {
		t.Errorf("health: %d", status)
	}
	var wg sync.WaitGroup
	for _, ask := range [][3]string{
		{"PUT", "/v1/locks/k/renew", fmt.Sprintf(`{"token":%d}`, got.Token)},
		{"DELETE", fmt.Sprintf("/v1/locks/k?token=%d", got.Token), ""},
		{"POST", "/v1/locks/new/acquire", "{}"}, {"POST", "/lease", `{"key":"new"}`}, {"POST", "/keepalive", id},
		{"GET", "/v1/locks/k", ""}, {"GET", fmt.Sprintf("/v1/locks/k/validate?token=%d", got.Token), ""},
	} {
		wg.Go(func() {
			begin := time.Now()
			status, text, header := r.do(t, ask[0], ask[1], ask[2])
			if status != 503 || header.Get("Retry-After") == "" || time.Since(begin) > 20*time.Second {
				t.Errorf("%s %s: %d %s after %s, want 503", ask[0], ask[1], status, text, time.Since(begin))
			}
		})
	}
	wg.Wait()
}

func TestAHugeBodyIsNotRead(t *testing.T) {
	r := startReplica(t)
	for _, path := range []string{"/lease", "/keepalive", "/v1/locks/a/acquire", "/v1/renew"} {
		sent := &counter{left: 200 << 20} // read by a goroutine of the client, which may outlive the answer
		method := "POST"
		if path == "/v1/renew" {
			method = "PUT"
		}
		req, err := http.NewRequestWithContext(t.Context(), method, r.URL+path, sent)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := r.Client().Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != 413 {
				t.Errorf("%s: %d", path, resp.StatusCode)
			}
		}
		if n := sent.read.Load(); n > 16<<20 {
			t.Errorf("%s: %d bytes were taken", path, n)
		}
	}
}

// counter is a body that counts what is read of it.
type counter struct {
	left int
	read atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n := min(len(p), c.left)
	if n == 0 {
		return 0, io.EOF
	}
	copy(p, bytes.Repeat([]byte{' '}, n))
	c.left -= n
	c.read.Add(int64(n))
	return n, nil
}
