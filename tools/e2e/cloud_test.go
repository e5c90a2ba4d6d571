package e2e

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// cloud plays the metadata servers that process-wrapper asks, strictly, and breaks when told to.
type cloud struct {
	t *testing.T
	*httptest.Server

	mu       sync.Mutex // guards what follows
	value    string     // of GCE's preempted
	action   string     // of AWS, "": none
	fault    string     // "": none
	requests int
	waiting  int           // long polls
	changed  chan struct{} // closed at a change of what is above
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{t: t, value: "FALSE", changed: make(chan struct{})}
	c.Server = httptest.NewServer(c)
	t.Cleanup(func() {
		c.change(func() { c.fault = "closed" })
		c.CloseClientConnections()
		c.Close()
	})
	return c
}

func (c *cloud) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cloud) preempt() { c.change(func() { c.value = "TRUE" }) }

// state is what the cloud is, and a channel that is closed when that is out of date.
func (c *cloud) state() (value, fault string, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value, c.fault, c.changed
}

func (c *cloud) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests
}

// env is the environment of a process-wrapper on this cloud.
func (c *cloud) env(more ...string) []string {
	return append(more, "HANDLE_PREEMPTION=true", "METADATA_URL="+c.URL+preempted)
}

const preempted = "/computeMetadata/v1/instance/preempted"

// watched waits until process-wrapper holds a long poll.
func (c *cloud) watched() {
	c.t.Helper()
	eventually(c.t, "process-wrapper waits for a change", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.waiting == 0 {
			return fmt.Errorf("after %d requests it does not", c.requests)
		}
		return nil
	})
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.requests++
	n, fault := c.requests, c.fault
	c.mu.Unlock()
	if fault == "flapping" {
		fault = []string{"", "503", "", "reset"}[n%4]
	}
	if fault != "" {
		c.broken(w, r, fault)
		return
	}
	switch {
	case r.URL.Path == preempted:
		c.google(w, r)
	case strings.HasPrefix(r.URL.Path, "/latest/"):
		c.amazon(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (c *cloud) google(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Metadata-Flavor", "Google")
	w.Header().Set("Content-Type", "application/text")
	if r.Header.Get("Metadata-Flavor") != "Google" || r.Header.Get("X-Forwarded-For") != "" || r.Method != http.MethodGet {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	q := r.URL.Query()
	if q.Get("wait_for_change") == "true" {
		c.change(func() { c.waiting++ })
		defer c.change(func() { c.waiting-- })
	}
	value, fault, changed := c.state()
	if seconds, err := strconv.Atoi(q.Get("timeout_sec")); q.Get("wait_for_change") == "true" {
		if err != nil {
			c.t.Errorf("timeout_sec: %v", err)
		}
		timeout := time.After(time.Duration(seconds) * time.Second)
		for q.Get("last_etag") == etag(value) && fault != "closed" {
			select {
			case <-changed:
				value, fault, changed = c.state()
				continue
			case <-timeout:
			case <-r.Context().Done():
			}
			break
		}
	}
	w.Header().Set("ETag", etag(value))
	_, _ = w.Write([]byte(value))
}

func etag(value string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(value))
	return fmt.Sprintf("%016x", h.Sum64())
}

func (c *cloud) amazon(w http.ResponseWriter, r *http.Request) {
	const token = "AQAEAtoken=="
	c.mu.Lock()
	action := c.action
	c.mu.Unlock()
	switch {
	case r.URL.Path == "/latest/api/token" && r.Method == http.MethodPut:
		_, _ = w.Write([]byte(token))
	case r.Header.Get("X-aws-ec2-metadata-token") != token:
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == "/latest/meta-data/spot/instance-action" && action != "":
		_, _ = w.Write([]byte(action))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// broken answers as a fault says.
func (c *cloud) broken(w http.ResponseWriter, r *http.Request, fault string) {
	if code, err := strconv.Atoi(fault); err == nil {
		w.WriteHeader(code)
		return
	}
	switch fault {
	case "closed":
	case "at once":
		w.Header().Set("ETag", etag("FALSE"))
		_, _ = w.Write([]byte("FALSE"))
	case "garbage":
		_, _ = w.Write([]byte("<html>\x00"))
	case "hang":
		_, _, changed := c.state()
		select {
		case <-r.Context().Done():
		case <-changed:
		}
	case "reset", "truncated":
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			c.t.Error(err)
			return
		}
		if fault == "truncated" {
			_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nFAL"))
		} else {
			_ = conn.(*net.TCPConn).SetLinger(0) // which makes it RST
		}
		_ = conn.Close()
	default:
		c.t.Errorf("no such fault: %s", fault)
	}
}

// cloudFaults are those that a metadata server is known for.
var cloudFaults = []string{"403", "404", "429", "500", "503", "truncated", "garbage", "reset", "refused", "hang", "at once", "flapping"}

// nobody is the address of a server that is not there.
func nobody(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", freePort(t))
}
