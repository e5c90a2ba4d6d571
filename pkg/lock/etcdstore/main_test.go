package etcdstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/process-wrapper/process-wrapper/pkg/internal/etcdtest"
	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

// endpoint is the etcd that all tests share. Each test has a prefix of its own.
var endpoint string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	code := etcdtest.Main(m, &endpoint, Embed)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// replica is one server of a test.
type replica struct {
	*httptest.Server
	store *Store
	lock  *lock.Server
}

func etcdClient(t *testing.T, endpoints ...string) *clientv3.Client {
	t.Helper()
	if len(endpoints) == 0 {
		endpoints = []string{endpoint}
	}
	c, err := Client(clientv3.Config{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// prefixes has one for each run of a test, by its *testing.T: with -count a test runs again on
// the etcd that holds what it left.
var prefixes sync.Map

// prefix is what keys of a test begin with.
func prefix(t *testing.T) string {
	p, _ := prefixes.LoadOrStore(t, "/"+t.Name()+"-"+rand.Text()+"/")
	return p.(string)
}

// startStore runs a store until the test ends.
func startStore(t *testing.T, observe func(lock.Event), endpoints ...string) *Store {
	t.Helper()
	s := New(etcdClient(t, endpoints...), Options{Prefix: prefix(t), Observe: observe, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// startReplica runs a server with its store until the test ends.
func startReplica(t *testing.T, endpoints ...string) *replica {
	t.Helper()
	srv := lock.NewServer(lock.Options{Log: slog.New(slog.DiscardHandler)})
	store := startStore(t, srv.Observe, endpoints...)
	srv.Use(store)
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	t.Cleanup(srv.Drain)
	return &replica{web, store, srv}
}

// do sends a request and returns status and body.
func (r *replica) do(t *testing.T, method, path, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.URL+path, stringReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// eventually waits for something that comes by itself.
func eventually(t *testing.T, within time.Duration, what string, f func() error) {
	t.Helper()
	end := time.Now().Add(within)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

// leaseCount is how many leases etcd has.
func leaseCount(t *testing.T, c *clientv3.Client) int {
	t.Helper()
	resp, err := c.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(resp.Leases)
}
