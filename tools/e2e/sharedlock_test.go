package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lockServer is a program that runs until the test ends.
type lockServer struct {
	cmd    *exec.Cmd
	stderr *transcript
	url    string
}

var (
	embeddedServes = regexp.MustCompile(`msg="embedded etcd serves" addr=(\S+)`)
	lockListens    = regexp.MustCompile(`msg="?listening"? addr=(\S+)`)
)

func startLockServer(t *testing.T, env []string, argv ...string) *lockServer {
	t.Helper()
	s := &lockServer{cmd: exec.Command(argv[0], argv[1:]...), stderr: newTranscript()}
	s.cmd.Env = environment(append([]string{"SHARED_LEASE_ETCD_ENDPOINTS=127.0.0.1:0"}, env...)...)
	s.cmd.Stderr = s.stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended
		_ = s.cmd.Wait()
		if t.Failed() {
			t.Logf("%v:\n%s", argv, s.stderr)
		}
	})
	return s
}

// startSharedLock runs a server with an etcd of its own, which keeps its data in dir.
func startSharedLock(t *testing.T, dir string, args ...string) *lockServer {
	t.Helper()
	s := startLockServer(t, nil, append([]string{filepath.Join(bin, "shared-lock"), "-listen", "127.0.0.1:0", "-embedded-etcd", dir}, args...)...)
	s.url = "http://" + s.stderr.waitFor(t, lockListens)[1]
	return s
}

// ask returns the status and the token of an answer.
func (s *lockServer) ask(t *testing.T, method, path, body string) (status int, token int64) {
	t.Helper()
	return s.askWithin(t, patience, method, path, body)
}

// askWithin is ask, of which the status is 0 if no answer comes in time.
func (s *lockServer) askWithin(t *testing.T, most time.Duration, method, path, body string) (status int, token int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, 0
	}
	var got struct{ Token int64 }
	_ = json.Unmarshal(text, &got) // an error has no token
	return resp.StatusCode, got.Token
}

// end stops the server and returns its exit code.
func (s *lockServer) end(t *testing.T, sig syscall.Signal) int {
	t.Helper()
	_ = s.cmd.Process.Signal(sig) // it may have ended
	return code(t, s.cmd.Wait())
}

func TestSharedLockSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	s := startSharedLock(t, dir)
	status, token := s.ask(t, "POST", "/v1/locks/long/acquire", `{"ttl":"1h"}`)
	_, short := s.ask(t, "POST", "/v1/locks/short/acquire", `{"ttl":"10s"}`)
	if status != 201 {
		t.Fatalf("acquire: %d", status)
	}
	waiting := make(chan int, 1)
	go func() {
		status, _ := s.ask(t, "POST", "/v1/locks/long/acquire", `{"wait":"1m"}`)
		waiting <- status
	}()
	eventually(t, "it waits", func() error {
		if _, text := get(t, s.url+"/v1/locks/long"); !strings.Contains(text, `"waiters":1`) {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	if got := s.end(t, syscall.SIGTERM); got != 0 {
		t.Errorf("exit code %d", got)
	}
	if got := <-waiting; got != 503 {
		t.Errorf("the waiter got %d, want 503", got)
	}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		s = startSharedLock(t, dir)
		if status, _ := s.ask(t, "POST", "/v1/locks/long/acquire", `{}`); status != 409 {
			t.Errorf("another acquires after the restart: %d", status)
		}
		if status, _ := s.ask(t, "PUT", "/v1/locks/long/renew", fmt.Sprintf(`{"token":%d}`, token)); status != 200 {
			t.Errorf("renew after the restart: %d", status)
		}
		_, _ = s.ask(t, "DELETE", fmt.Sprintf("/v1/locks/short?token=%d", short), "")
		_, next := s.ask(t, "POST", "/v1/locks/short/acquire", `{"ttl":"1m"}`)
		if next <= short {
			t.Errorf("token %d after %d", next, short)
		}
		short = next
		s.end(t, sig)
	}
}

// underLock starts shared-lock run with a command that tells that it lives.
func underLock(t *testing.T, s *lockServer, ttl string) (cmd *exec.Cmd, alive string) {
	t.Helper()
	alive = filepath.Join(t.TempDir(), "alive")
	cmd = exec.Command(filepath.Join(bin, "shared-lock"), "run", "-shared-lock-url", s.url, "-ttl", ttl, "job", "--",
		"sh", "-c", `trap "" TERM; (while :; do echo x >> "$0"; sleep 0.02; done) & wait`, alive)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	eventually(t, "the command runs", func() error { _, err := os.Stat(alive); return err })
	return cmd, alive
}

// lastSign waits until nothing is written any more, and returns when the last was.
func lastSign(t *testing.T, alive string) (at time.Time) {
	t.Helper()
	eventually(t, "the command and its children end", func() error {
		info, err := os.Stat(alive)
		if err != nil {
			return err
		}
		at = info.ModTime()
		if age := time.Since(at); age < 500*time.Millisecond {
			return fmt.Errorf("it wrote %s ago", age)
		}
		return nil
	})
	return at
}

func TestRunKillsTheCommandBeforeItsLockCanEnd(t *testing.T) {
	for name, fault := range map[string]func(s *lockServer){
		"a frozen server": func(s *lockServer) { _ = s.cmd.Process.Signal(syscall.SIGSTOP) },
		"a killed server": func(s *lockServer) { _ = s.cmd.Process.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			s := startSharedLock(t, t.TempDir())
			cmd, alive := underLock(t, s, "1s")
			<-time.After(1500 * time.Millisecond) // some renewals
			fault(s)
			at := time.Now()
			t.Cleanup(func() { _ = s.cmd.Process.Signal(syscall.SIGCONT) })
			if got := lastSign(t, alive).Sub(at); got > time.Second {
				t.Errorf("it lived for %s after the fault, its TTL is 1s", got)
			}
			if got := code(t, cmd.Wait()); got != 75 {
				t.Errorf("exit code %d, want 75", got)
			}
		})
	}
}

func TestRunKillsTheCommandWhenItsLockIsTaken(t *testing.T) {
	s := startSharedLock(t, t.TempDir())
	cmd, alive := underLock(t, s, "1s")
	if out, err := exec.Command(filepath.Join(bin, "shared-lock"), "release", "-shared-lock-url", s.url, "-force", "job").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	at := time.Now()
	if got := lastSign(t, alive).Sub(at); got > time.Second {
		t.Errorf("it lived for %s", got)
	}
	if got := code(t, cmd.Wait()); got != 75 {
		t.Errorf("exit code %d, want 75", got)
	}
}

func TestRunReleasesAtTheEnd(t *testing.T) {
	s := startSharedLock(t, t.TempDir())
	out, err := exec.Command(filepath.Join(bin, "shared-lock"), "run", "-shared-lock-url", s.url, "job", "--", "sh", "-c", `echo "$SHARED_LOCK_TOKEN"; exit 3`).Output()
	if got := code(t, err); got != 3 {
		t.Errorf("exit code %d, want 3", got)
	}
	var token int64
	if _, err := fmt.Sscan(string(out), &token); err != nil || token <= 0 {
		t.Errorf("the token of the command: %q", out)
	}
	if status, next := s.ask(t, "POST", "/v1/locks/job/acquire", `{}`); status != 201 || next <= token {
		t.Errorf("acquire after the end: %d, token %d after %d", status, next, token)
	}
}
