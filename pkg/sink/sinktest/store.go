package sinktest

import (
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Store is a server that runs as a process of its own, and can be killed and paused.
type Store struct {
	t    testing.TB
	argv []string
	addr string
	path string // that answers 200 once it is ready
	cmd  *exec.Cmd
}

// program is the path in an environment variable. The test fails where that is not set.
func program(t testing.TB, env, target string) string {
	t.Helper()
	path := os.Getenv(env)
	if path == "" {
		t.Fatalf("%s is not set: run make %s", env, target)
	}
	return path
}

// startStore runs a store until the test ends.
func startStore(t testing.TB, addr, path string, argv ...string) *Store {
	t.Helper()
	s := &Store{t: t, argv: argv, addr: addr, path: path}
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

func unusedPort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// Start starts it (again), on the same data, and waits until it is ready.
func (s *Store) Start() {
	s.t.Helper()
	s.cmd = exec.Command(s.argv[0], s.argv[1:]...)
	if testing.Verbose() {
		s.cmd.Stderr = os.Stderr
	}
	s.cmd.SysProcAttr = dieWithParent()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; {
		resp, err := http.Get(s.URL() + s.path)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s is not ready: %v", s.argv[0], err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Kill ends it, SIGKILL.
func (s *Store) Kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// Stop ends it, SIGTERM, so that it keeps what it holds in memory.
func (s *Store) Stop() { s.signal(syscall.SIGTERM); _ = s.cmd.Wait() }

// Pause stops it where it is.
func (s *Store) Pause() { s.signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (s *Store) Resume() { s.signal(syscall.SIGCONT) }

func (s *Store) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// URL is its base address.
func (s *Store) URL() string { return "http://" + s.addr }

// Handler passes requests on to it.
func (s *Store) Handler() http.Handler {
	u, err := url.Parse(s.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	p := httputil.NewSingleHostReverseProxy(u)
	p.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	return p
}
