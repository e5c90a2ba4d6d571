package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy is an Envoy with a listener for requests that come in and one for those that go out.
type proxy struct{ admin, inbound, outbound string }

// newProxy starts a real Envoy where $ENVOY_BIN is one, else a strict fake.
func newProxy(t *testing.T, app, database string) proxy {
	t.Helper()
	if bin := os.Getenv("ENVOY_BIN"); bin != "" {
		return realEnvoy(t, bin, app, database)
	}
	return fakeEnvoy(t, app, database)
}

var discard = log.New(io.Discard, "", 0)

// drainTime is for how long a graceful drain goes on accepting.
const drainTime = 45 * time.Second

// direction is a listener of the fake with what is behind it.
type direction struct {
	listener net.Listener
	srv      *http.Server
	draining atomic.Bool
}

func newDirection(t *testing.T, upstream string) *direction {
	t.Helper()
	to, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(to)
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	forward.Transport = transport
	forward.ErrorLog = discard
	d := new(direction)
	d.srv = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.draining.Load() {
			w.Header().Set("Connection", "close") // as Envoy discourages HTTP/1.1
		}
		forward.ServeHTTP(w, r)
	}), ErrorLog: discard}
	if d.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = d.srv.Serve(d.listener) })
	t.Cleanup(func() {
		_ = d.srv.Close()
		wg.Wait()
		transport.CloseIdleConnections()
	})
	return d
}

// drain stops listening, at once or, when it is graceful, after a while.
func (d *direction) drain(graceful bool) {
	if !graceful {
		_ = d.listener.Close() // connections that are open stay so
		return
	}
	d.draining.Store(true)
	time.AfterFunc(drainTime, func() { _ = d.listener.Close() })
}

func fakeEnvoy(t *testing.T, app, database string) proxy {
	in, out := newDirection(t, app), newDirection(t, database)
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/drain_listeners" {
			http.Error(w, "invalid path. admin commands are:", http.StatusNotFound)
			return
		}
		if r.Method != http.MethodPost {
			http.Error(w, "Method "+r.Method+" not allowed, POST required.", http.StatusBadRequest)
			return
		}
		q := r.URL.Query()
		if q.Has("skip_exit") && !q.Has("graceful") {
			http.Error(w, "skip_exit requires graceful", http.StatusBadRequest)
			return
		}
		in.drain(q.Has("graceful"))
		if !q.Has("inboundonly") {
			out.drain(q.Has("graceful"))
		}
		_, _ = io.WriteString(w, "OK\n")
	}))
	t.Cleanup(admin.Close)
	return proxy{admin.URL, "http://" + in.listener.Addr().String(), "http://" + out.listener.Addr().String()}
}

// realEnvoy runs an Envoy with the same two listeners.
func realEnvoy(t *testing.T, bin, app, database string) proxy {
	t.Helper()
	addrs := [3]string{nobody(t), nobody(t), nobody(t)} // admin, inbound, outbound
	address := func(addr string) map[string]any {
		host, port, _ := net.SplitHostPort(strings.TrimPrefix(addr, "http://"))
		return map[string]any{"socket_address": map[string]any{"address": host, "port_value": json.Number(port)}}
	}
	listener := func(direction, addr, cluster string) map[string]any {
		return map[string]any{
			"name": cluster, "traffic_direction": direction, "address": address(addr),
			"filter_chains": []any{map[string]any{"filters": []any{map[string]any{
				"name": "envoy.filters.network.http_connection_manager",
				"typed_config": map[string]any{
					"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
					"stat_prefix": cluster,
					"http_filters": []any{map[string]any{"name": "envoy.filters.http.router", "typed_config": map[string]any{
						"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
					}}},
					"route_config": map[string]any{"virtual_hosts": []any{map[string]any{
						"name": cluster, "domains": []any{"*"},
						"routes": []any{map[string]any{"match": map[string]any{"prefix": "/"}, "route": map[string]any{"cluster": cluster}}},
					}}},
				},
			}}}},
		}
	}
	cluster := func(name, upstream string) map[string]any {
		return map[string]any{
			"name": name, "type": "STATIC", "connect_timeout": "5s",
			"load_assignment": map[string]any{"cluster_name": name, "endpoints": []any{map[string]any{
				"lb_endpoints": []any{map[string]any{"endpoint": map[string]any{"address": address(upstream)}}},
			}}},
		}
	}
	config, err := json.Marshal(map[string]any{
		"admin": map[string]any{"address": address(addrs[0])},
		"static_resources": map[string]any{
			"listeners": []any{listener("INBOUND", addrs[1], "app"), listener("OUTBOUND", addrs[2], "database")},
			"clusters":  []any{cluster("app", app), cluster("database", database)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "envoy.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin, "-c", file, "--disable-hot-restart", "--concurrency", "1",
		"--drain-time-s", fmt.Sprint(int(drainTime.Seconds())), "--log-level", "warning")
	said := newTranscript()
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("envoy: %s", said)
		}
	})
	eventually(t, "Envoy is ready", func() error { return ok("http://"+addrs[0]+"/ready", time.Second) })
	return proxy{"http://" + addrs[0], "http://" + addrs[1], "http://" + addrs[2]}
}

// mesh is an application behind an Envoy, whose every request needs the database behind the same
// Envoy, over a new connection.
type mesh struct {
	proxy
	inFlight atomic.Int64
}

func newMesh(t *testing.T) *mesh {
	m := new(mesh)
	database := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "row") }))
	t.Cleanup(database.Close)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.inFlight.Add(1)
		defer m.inFlight.Add(-1)
		<-time.After(10 * time.Millisecond)
		response, err := client.Get(m.outbound)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		_, _ = io.Copy(w, response.Body)
	}))
	t.Cleanup(app.Close)
	m.proxy = newProxy(t, app.URL, database.URL)
	return m
}

// load sends so many requests, or more, from many clients, each over a connection that it keeps, and returns
// how many failed. Half of them are sent before half is called, and some after it has returned.
func (m *mesh) load(t *testing.T, requests int, half func()) (failed int) {
	t.Helper()
	const clients, after = 50, 5
	var sent, bad atomic.Int64
	var over atomic.Bool
	var once sync.Once
	var first atomic.Pointer[string]
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			transport := &http.Transport{MaxIdleConnsPerHost: 1}
			defer transport.CloseIdleConnections()
			client := http.Client{Transport: transport, Timeout: patience}
			for i, left := 0, after; i < requests/clients || left > 0; i++ {
				if over.Load() {
					left--
				}
				if sent.Add(1) > int64(requests/2) {
					once.Do(func() { wg.Go(func() { half(); over.Store(true) }) })
				}
				if err := whole(&client, m.inbound); err != nil {
					bad.Add(1)
					text := err.Error()
					first.CompareAndSwap(nil, &text)
				}
			}
		})
	}
	wg.Wait()
	if p := first.Load(); p != nil {
		t.Logf("the first failure: %s", *p)
	}
	return int(bad.Load())
}

func whole(client *http.Client, url string) error {
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || string(body) != "row" {
		return fmt.Errorf("%s %q: %w", response.Status, body, cmp.Or(err, errors.New("another answer")))
	}
	return nil
}

// patiently waits until something is so, and says whether it is. Unlike eventually it may be called beside a test.
func patiently(so func() bool) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(time.Millisecond) {
		if so() {
			return true
		}
	}
	return false
}

// drains says whether the log says that Envoy does.
func drains(w *wrapper) bool { return strings.Contains(w.stderr.String(), `msg="Envoy drains"`) }

func TestWhatBecomesOfConnectionsWhenEnvoyIsDrained(t *testing.T) {
	for _, tt := range []struct {
		query         string
		abrupt        bool
		in, out, lose bool // new connections work; requests may be lost
	}{
		{"?inboundonly&graceful", false, true, true, false},
		{"?inboundonly", true, false, true, true},
		{"?graceful", true, true, true, false},
		{"", true, false, false, true},
	} {
		t.Run("/drain_listeners"+tt.query, func(t *testing.T) {
			m := newMesh(t)
			c := newCloud(t)
			w := start(t, options{env: c.env("ENVOY_DRAIN_URL=" + m.admin + "/drain_listeners" + tt.query), args: []string{"-envoy-drain"}})
			c.watched()
			requests := 1000
			if !tt.abrupt {
				requests = 10000
			}
			failed := m.load(t, requests, func() {
				if !patiently(func() bool { return m.inFlight.Load() > 0 }) {
					t.Error("nothing is in flight")
				}
				c.preempt()
				patiently(func() bool { return drains(w) })
			})
			if !drains(w) {
				t.Fatal("Envoy was not drained, as the log says")
			}
			if !tt.lose && failed > 0 {
				t.Errorf("%d of %d requests failed", failed, requests)
			}
			if tt.query == "" && failed == 0 {
				t.Error("the plain URL broke nothing: nothing is shown here")
			}
			for name, probe := range map[string]struct {
				url  string
				want bool
			}{"in": {m.inbound, tt.in}, "out": {m.outbound, tt.out}} {
				client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
				response, err := client.Get(probe.url)
				if err == nil {
					response.Body.Close()
				}
				if (err == nil) != probe.want {
					t.Errorf("a new connection %s: %v", name, err)
				}
			}
			if hinted := strings.Contains(w.stderr.String(), "stop all listeners at once"); hinted != tt.abrupt {
				t.Errorf("hinted at a better URL: %v", hinted)
			}
		})
	}
}

// What the tests above believe of Envoy holds for the one that they run with.
func TestEnvoyTakesWhatWeThinkItTakes(t *testing.T) {
	m := newMesh(t)
	for _, tt := range []struct {
		method, query string
		code          int
		says          string
	}{
		{"GET", "?inboundonly&graceful", 400, ""},
		{"POST", "?skip_exit", 400, "skip_exit requires graceful"},
		{"POST", "?inboundonly&graceful&skip_exit", 200, "OK"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), tt.method, m.admin+"/drain_listeners"+tt.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != tt.code || !strings.Contains(string(text), tt.says) {
			t.Errorf("%s %s: %d %s", tt.method, tt.query, response.StatusCode, text)
		}
		if err := ok(m.inbound, patience); err != nil {
			t.Errorf("%s %s: %v", tt.method, tt.query, err)
		}
	}
}

func TestAnEnvoyThatRefusesIsAnErrorWithItsWords(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	c := newCloud(t)
	c.preempt()
	w := start(t, options{env: c.env("ENVOY_DRAIN_URL=" + m.admin + "/drain_listeners?skip_exit"), args: []string{"-envoy-drain"}})
	w.stderr.waitFor(t, takenAway)
	eventually(t, "the error is logged", func() error {
		if log := w.stderr.String(); !strings.Contains(log, `level=error msg="cannot drain Envoy"`) || !strings.Contains(log, "skip_exit requires graceful") {
			return errors.New(log)
		}
		return nil
	})
}
