package lease

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/process-wrapper/process-wrapper/pkg/internal/etcdtest"
	"github.com/process-wrapper/process-wrapper/pkg/lock"
	"github.com/process-wrapper/process-wrapper/pkg/lock/etcdstore"
)

// endpoint is the etcd that all tests share. Each test has a prefix of its own.
var endpoint string

func TestMain(m *testing.M) { os.Exit(etcdtest.Main(m, &endpoint, etcdstore.Embed)) }

var quiet = slog.New(slog.DiscardHandler)

// startServer runs shared-lock until the test ends.
func startServer(t *testing.T) *server {
	t.Helper()
	c, err := etcdstore.Client(clientv3.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	srv := lock.NewServer(lock.Options{Log: quiet})
	store := etcdstore.New(c, etcdstore.Options{Prefix: "/" + rand.Text() + "/", Observe: srv.Observe, Log: quiet})
	t.Cleanup(store.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := store.Start(ctx); err != nil {
		t.Fatal(err)
	}
	srv.Use(store)
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	t.Cleanup(srv.Drain)
	return front(t, web.URL)
}

// server is a proxy before a server, for faults.
type server struct {
	*httptest.Server
	renew  atomic.Int64 // requests to renew, for one or many
	listen atomic.Int64 // answers to requests for events
	fault  atomic.Pointer[fault]

	mu   sync.Mutex // guards good
	good time.Duration
}

// fault answers a request in the place of the server, which pass asks.
type fault func(w http.ResponseWriter, r *http.Request, pass http.Handler)

func front(t *testing.T, behind string) *server {
	t.Helper()
	u, err := url.Parse(behind)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.FlushInterval = -1
	proxy.Transport = &http.Transport{DisableKeepAlives: true}
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.StatusCode < 300 && r.Request.URL.Path == "/v1/events" {
			s.listen.Add(1)
		}
		if r.StatusCode < 300 && (r.Request.Method == http.MethodPut || r.Request.Method == http.MethodPost) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.good = r.Request.Context().Value(began{}).(time.Duration)
		}
		return nil
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			s.renew.Add(1)
		}
		r = r.WithContext(context.WithValue(r.Context(), began{}, Boottime()))
		if f := s.fault.Load(); f != nil {
			(*f)(w, r, proxy)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = proxy.ErrorLog
	t.Cleanup(s.Close)
	return s
}

type began struct{}

// lastGood is when the last request was received that the server granted.
func (s *server) lastGood() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.good
}

func (s *server) fails(f fault) { s.fault.Store(&f) }
func (s *server) works()        { s.fault.Store(nil) }

// frozen never answers.
func frozen(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body) // so that it is seen when the client leaves
	<-r.Context().Done()
}

func internalError(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	http.Error(w, "it always fails", http.StatusInternalServerError)
}

// lost has the server do it, and the answer gets lost.
func lost(_ http.ResponseWriter, r *http.Request, pass http.Handler) {
	pass.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

func hangUp(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// slow answers after a while.
func slow(d time.Duration) fault {
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		rec := httptest.NewRecorder()
		pass.ServeHTTP(rec, r)
		if !sleep(r.Context(), d) {
			return
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	}
}

// onTime has run do what it has to within milliseconds, and fails the test with its error. Where this machine was late itself then, as
// when others have its processors, it is run again, some times.
func onTime(t *testing.T, run func() error) {
	t.Helper()
	const most = 10 * time.Millisecond // a fifth of the least margin
	for try := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		var late time.Duration
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				due := Boottime() + 2*time.Millisecond
				_ = sleep(ctx, 2*time.Millisecond)
				late = max(late, Boottime()-due)
			}
		})
		err := run()
		cancel()
		wg.Wait()
		if err == nil {
			return
		}
		if late <= most || try == 4 {
			t.Fatal(err)
		}
		t.Logf("this machine was late by %v: %v", late, err)
	}
}

// client returns one that is closed when the test ends.
func client(t *testing.T, urls ...string) *Client {
	t.Helper()
	c, err := New(Config{URLs: urls})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) }) // the server may be gone
	return c
}

// leakless fails the test where a goroutine of ours is left once what began after this is closed. Those
// of etcd run on.
func leakless(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		left := ""
		for range 100 {
			if left = ours(); left == "" {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("it is still there:\n%s", left)
	})
}

func ours() string {
	stacks := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(g, "pkg/lease.(*hold)") || strings.Contains(g, "pkg/lease.(*Guard)") || strings.Contains(g, "pkg/lease.(*Client)") {
			return g
		}
	}
	return ""
}
