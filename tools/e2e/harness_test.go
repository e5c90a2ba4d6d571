package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// options say how a process-wrapper is started.
type options struct {
	config    string   // YAML of -config; "" starts without -config
	args      []string // more flags, or a subcommand
	env       []string // K=V, over the test's own environment
	namespace bool     // as PID 1 of a pid namespace
	stdin     io.Reader
	nofile    int      // how many descriptors it may have, 0: as the test
	chdir     string   // its directory, else that of the test
	stdout    *os.File // given to it as it is, instead of the transcript
	program   string   // the binary, else that of the build
	under     []string // a command that executes it
	account   string   // directory of its service account of Kubernetes, mounted where one is
}

// wrapper is a running process-wrapper.
type wrapper struct {
	t              *testing.T
	cmd            *exec.Cmd
	pid            int // of process-wrapper itself, in the namespace of the test
	dir            string
	readinessFile  string
	socket         string // of ctl
	stdout, stderr *transcript
	exited         chan struct{}
	err            error // of cmd.Wait, once exited is closed
}

// start runs process-wrapper until the test ends.
func start(t *testing.T, o options) *wrapper {
	t.Helper()
	dir := t.TempDir()
	sockets, err := os.MkdirTemp("", "pw") // in a directory of a test its path may become too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	w := &wrapper{
		t: t, dir: dir, readinessFile: filepath.Join(dir, "started"), socket: filepath.Join(sockets, "control.sock"),
		stdout: newTranscript(), stderr: newTranscript(), exited: make(chan struct{}),
	}
	if o.program == "" {
		o.program = filepath.Join(bin, "process-wrapper")
	}
	argv := append(slices.Clone(o.under), o.program, "-readiness-file", w.readinessFile, "-control-socket", w.socket)
	if o.config != "" {
		file := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(file, []byte(o.config), 0o600); err != nil {
			t.Fatal(err)
		}
		argv = append(argv, "-config", file)
	}
	argv = append(argv, o.args...)
	if o.nofile > 0 {
		argv = append([]string{"/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$@"`, o.nofile), "sh"}, argv...)
	}
	if o.account != "" {
		needs(t, "unshare")
		needsRoot(t)
		mount := `mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io && ln -s "$0" /run/secrets/kubernetes.io/serviceaccount && exec "$@"`
		argv = append([]string{"unshare", "--mount", "/bin/sh", "-c", mount, o.account}, argv...)
	}
	if o.namespace {
		needs(t, "unshare")
		needsRoot(t)
		argv = append([]string{"unshare", "--pid", "--fork", "--mount-proc", "--kill-child"}, argv...)
	}
	w.cmd = exec.Command(argv[0], argv[1:]...)
	w.cmd.Env = environment(append([]string{"HEALTH_SOCKET=127.0.0.1:0"}, o.env...)...)
	w.cmd.Stdin, w.cmd.Stdout, w.cmd.Stderr = o.stdin, w.stdout, w.stderr
	w.cmd.Dir = o.chdir
	if o.stdout != nil {
		w.cmd.Stdout = o.stdout
	}
	w.cmd.WaitDelay = patience // a grandchild may hold our pipes
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		w.err = w.cmd.Wait()
		close(w.exited)
	}()
	t.Cleanup(w.cleanup)
	w.pid = w.cmd.Process.Pid
	if o.namespace {
		w.pid = onlyChild(t, w.pid)
	}
	return w
}

// cleanup ends a wrapper that the test did not end: the second SIGTERM makes it kill at once what
// it runs, which SIGKILL would leave behind.
func (w *wrapper) cleanup() {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGKILL} {
		select {
		case <-w.exited:
		default:
			_ = syscall.Kill(w.pid, sig)
		}
		select {
		case <-w.exited:
		case <-time.After(patience / 2):
		}
	}
	<-w.exited
	if w.t.Failed() {
		w.t.Logf("stdout:\n%s\nstderr:\n%s", w.stdout, w.stderr)
	}
}

// onlyChild waits for unshare's child, which is process-wrapper after its exec.
func onlyChild(t *testing.T, parent int) int {
	t.Helper()
	var child process
	eventually(t, "unshare starts process-wrapper", func() error {
		for _, child = range processes(t)[parent] {
			if child.comm == "process-wrapper" {
				return nil
			}
		}
		return fmt.Errorf("its last child is %+v", child)
	})
	return child.pid
}

// signal sends sig to process-wrapper.
func (w *wrapper) signal(sig syscall.Signal) {
	w.t.Helper()
	if err := syscall.Kill(w.pid, sig); err != nil {
		w.t.Fatalf("send %v: %v", sig, err)
	}
}

// wait waits for the end and returns the exit code, 128+n for signal n.
func (w *wrapper) wait() int {
	w.t.Helper()
	select {
	case <-w.exited:
	case <-time.After(patience):
		w.t.Fatalf("process-wrapper did not exit within %v", patience)
	}
	return code(w.t, w.err)
}

// stop sends SIGTERM and returns the exit code.
func (w *wrapper) stop() int {
	w.t.Helper()
	w.signal(syscall.SIGTERM)
	return w.wait()
}

func code(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
			return 128 + int(status.Signal())
		}
		return exit.ExitCode()
	}
	t.Fatalf("wait for the command: %v", err)
	return -1
}

var listening = regexp.MustCompile(`msg="?listening"? (?:.* )?addr="?([^\s"]+)`)

// url returns the address of an endpoint, once the wrapper listens.
func (w *wrapper) url(path string) string {
	w.t.Helper()
	return "http://" + w.stderr.waitFor(w.t, listening)[1] + path
}

// get returns status and body of an endpoint.
func (w *wrapper) get(path string) (int, string) {
	w.t.Helper()
	return get(w.t, w.url(path))
}

// ready waits until /readiness is 200.
func (w *wrapper) ready() {
	w.t.Helper()
	path := fmt.Sprintf("/readiness?wait=%ds", patience/time.Second)
	if status, body := w.get(path); status != http.StatusOK {
		w.t.Fatalf("not ready within %v: %d %s", patience, status, body)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 8<<20))
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// process is one line of the process table.
type process struct {
	pid   int
	comm  string // at most 15 bytes
	state string // "Z" is a zombie
}

// processes returns the process table, by parent.
func processes(t *testing.T) map[int][]process {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]process{}
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it ended meanwhile
		}
		// "pid (comm) state ppid …", and comm may hold spaces and parentheses.
		head, tail := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		fields := strings.Fields(string(stat[tail+1:]))
		pid, _ := strconv.Atoi(string(bytes.TrimSpace(stat[:head])))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], process{pid, string(stat[head+1 : tail]), fields[0]})
	}
	return children
}

// descendants returns all processes below pid.
func descendants(t *testing.T, pid int) []process {
	t.Helper()
	children := processes(t)
	found := slices.Clone(children[pid])
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i].pid]...)
	}
	return found
}

// zombies counts the dead below the wrapper that nobody has waited for.
func (w *wrapper) zombies() int {
	w.t.Helper()
	count := 0
	for _, p := range descendants(w.t, w.pid) {
		if p.state == "Z" {
			count++
		}
	}
	return count
}

// eventually asks for a state of the outside world until it holds.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		case <-tick.C:
		}
	}
}

// environment returns the test's environment with the given variables set.
func environment(set ...string) []string {
	return append(os.Environ(), set...)
}

// needs skips the test without the programs; under CI=true it fails.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			skip(t, "needs %s: %v", program, err)
		}
	}
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "needs root, for namespaces and other users")
	}
}

func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true, nothing may be skipped: "+format, args...)
	}
	t.Skipf(format, args...)
}

// transcript collects a stream and wakes those who wait for a line in it.
type transcript struct {
	mu      sync.Mutex // guards text and changed
	text    bytes.Buffer
	changed chan struct{} // closed at the next write
}

func newTranscript() *transcript { return &transcript{changed: make(chan struct{})} }

// Write is called by the goroutine of exec.Cmd.
func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
	return s.text.Write(p)
}

func (s *transcript) load() (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String(), s.changed
}

func (s *transcript) String() string {
	text, _ := s.load()
	return text
}

// waitFor returns the first match of re and its groups.
func (s *transcript) waitFor(t *testing.T, re *regexp.Regexp) []string {
	t.Helper()
	return s.waitLong(t, re, patience)
}

// waitLong is waitFor for what takes its time.
func (s *transcript) waitLong(t *testing.T, re *regexp.Regexp, most time.Duration) []string {
	t.Helper()
	deadline := time.After(most)
	for {
		text, changed := s.load()
		if match := re.FindStringSubmatch(text); match != nil {
			return match
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no match for %v within %v in:\n%s", re, most, text)
		}
	}
}
