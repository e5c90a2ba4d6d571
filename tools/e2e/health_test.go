package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestProcessThatEndsAgainAndAgainIsNotReadyInBetween(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, config string
		late         bool // it may be believed at first
	}{
		{"with exit code 0", "- {name: it, entrypoint: /bin/true, backoff: {initial: 100ms}}\n", false},
		{"with exit code 1", "- {name: it, entrypoint: /bin/false, backoff: {initial: 100ms}}\n", false},
		{"but not at once", script("it", "sleep 0.15", "backoff: {initial: 100ms}"), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, options{config: test.config})
			began := time.Now()
			believed := test.late // until it has crashed twice
			quietly(t, 4*time.Second, func() error {
				if s := w.states()["it"]; believed && (s.Restarts == 0 || s.Restarts == 1 && s.Phase != "backoff") {
					return nil
				}
				believed = false
				if status, body := w.get("/readiness"); status != http.StatusServiceUnavailable {
					return fmt.Errorf("ready after %v: %s", time.Since(began), body)
				}
				return nil
			})
			if exists(w.readinessFile) {
				t.Error("there is a readiness file")
			}
			if !test.late && strings.Contains(w.stderr.String(), `msg="ready"`) {
				t.Error("it was ready for a moment")
			}
			// 0.1 + 0.2 + 0.4 + 0.8 + 1.6 s are less than 4 s, and 3.2 s more are not.
			if n := w.states()["it"].Restarts; n < 2 || n > 6 {
				t.Errorf("%d restarts in 4 s: the pauses do not grow, or are too long", n)
			}
		})
	}
}

func TestReadinessFollowsEveryProcess(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "well")
	w := start(t, options{config: script("good", forever) + script("moody", forever,
		fmt.Sprintf("readiness: {delay: 0s, period: 50ms, failureThreshold: 1000, file: {path: %s}}", file))})
	w.in("good", "ready")
	w.says(503, 200)
	if _, body := w.get("/readiness"); !strings.Contains(body, "moody: running") || strings.Contains(body, "good") {
		t.Errorf("/readiness names the wrong process: %s", body)
	}
	if _, body := w.get("/status"); strings.TrimSpace(body) != `{"good":true,"moody":false}` {
		t.Errorf("/status is %s", body)
	}
	if exists(w.readinessFile) {
		t.Error("there is a readiness file")
	}
	for range 2 {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		w.ready()
		eventually(t, "the readiness file comes", func() error { _, err := os.Stat(w.readinessFile); return err })
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		w.in("moody", "running")
		w.says(503, 200)
		eventually(t, "the readiness file goes", func() error {
			if exists(w.readinessFile) {
				return os.ErrExist
			}
			return nil
		})
	}
}

func TestStaleReadinessFileIsRemoved(t *testing.T) {
	t.Parallel()
	file := write(t, "started", "")
	w := start(t, options{config: "- {name: it, entrypoint: /bin/false, backoff: {initial: 1h, max: 1h}}\n", args: []string{"-readiness-file", file}})
	w.in("it", "backoff")
	eventually(t, "the file goes", func() error {
		if exists(file) {
			return os.ErrExist
		}
		return nil
	})
}

func TestWithoutConfigTheEndpointsServe(t *testing.T) {
	t.Parallel()
	w := start(t, options{namespace: true})
	w.ready()
	w.says(200, 200)
	for _, path := range []string{"/status", "/pids", "/metrics", "/v1/processes", "/"} {
		if status, body := w.get(path); status != 200 {
			t.Errorf("%s is %d: %s", path, status, body)
		}
	}
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	if n := strings.Count(w.stderr.String(), "level=warn"); n != 1 {
		t.Errorf("%d warnings", n)
	}
}

// The bar is 50 ms.
func TestCrashIsSeenAtOnceThoughAGrandchildHoldsStdout(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("it", `(trap '' TERM; exec setsid sleep 1000) & echo awake; exec sleep 1000`, "backoff: {initial: 30s}")})
	w.stdout.waitFor(t, awake)
	w.ready()
	pid := w.states()["it"].PID
	began := time.Now()
	kill(t, pid)
	eventually(t, "/readiness is 503", func() error {
		if status, _ := w.get("/readiness"); status == 200 {
			return fmt.Errorf("it is %d", status)
		}
		return nil
	})
	within(t, began, soon, "503")
	if left := descendants(t, w.pid); len(left) == 0 {
		t.Error("nothing held stdout: the test shows nothing")
	}
}

func TestQuickRecoveryLeavesLivenessGood(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("it", forever, "backoff: {initial: 300ms}")})
	w.ready()
	kill(t, w.states()["it"].PID)
	recovered := false
	quietly(t, 3*time.Second, func() error {
		if status, body := w.get("/liveness"); status != 200 {
			return fmt.Errorf("/liveness is %d: %s", status, body)
		}
		recovered = recovered || w.states()["it"].Restarts == 1 && w.states()["it"].Ready
		return nil
	})
	if !recovered {
		t.Errorf("it is %+v", w.states()["it"])
	}
}

func TestTruthTable(t *testing.T) {
	t.Parallel()
	const never = "restartPolicy: never"
	unready := "readiness: {delay: 0s, period: 50ms, failureThreshold: 100000, file: {path: /no/such/file}}"
	for _, test := range []struct {
		name, config, phase string
		readiness, liveness int
	}{
		{"ready", script("it", forever), "ready", 200, 200},
		{"completed", script("it", "exit 0", never), "completed", 200, 200},
		{"waiting", script("dep", "sleep 1000", unready) + script("it", forever, "dependsOn: [dep]"), "waiting", 503, 200},
		{"running but not ready", script("it", forever, unready), "running", 503, 200},
		{"in back-off", script("it", "exit 1", "backoff: {initial: 1h, max: 1h}"), "backoff", 503, 200},
		{"failed", script("it", "exit 1", never), "failed", 503, 503},
		{
			"stopping for a restart", script("it", "trap '' TERM; sleep 1000 & wait; sleep 1000",
				"livenessProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: ['false']}}"), "stopping", 503, 200,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, options{config: test.config + script("other", forever), namespace: true, args: []string{"-graceful-shutdown-deadline", "5s"}})
			w.in("other", "ready")
			w.in("it", test.phase)
			w.says(test.readiness, test.liveness)
			file := test.readiness == 200
			eventually(t, "the readiness file agrees", func() error {
				if exists(w.readinessFile) != file {
					return fmt.Errorf("there is one: %t", !file)
				}
				return nil
			})
		})
	}
}

func TestSkippedProcessIsNotCounted(t *testing.T) {
	t.Parallel()
	w := start(t, options{
		config: script("it", "exit 1", "replicas: 2") + script("other", forever, "dependsOn: [it]"),
		args:   []string{"-skip-commands", "it,nobody"},
	})
	w.ready()
	w.says(200, 200)
	if got := w.states()["it_0"].Phase; got != "skipped" {
		t.Errorf("it is %q", got)
	}
	w.stderr.waitFor(t, regexp.MustCompile(`level=warn .*unknown=nobody known="it_0, it_1, other"`))
}

func TestUnreadyForTooLongIsDead(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("it", forever,
		"readiness: {delay: 0s, period: 50ms, failureThreshold: 100000, startupDeadline: 3s, file: {path: /no/such/file}}")})
	w.in("it", "running")
	w.says(503, 200)
	eventually(t, "/liveness turns bad", func() error {
		if status, _ := w.get("/liveness"); status != 503 {
			return fmt.Errorf("it is %d", status)
		}
		return nil
	})
}

func TestHungEndpointFailsAtItsTimeout(t *testing.T) {
	t.Parallel()
	hung, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	w := start(t, options{config: script("it", forever, fmt.Sprintf(
		"readiness: {delay: 0s, period: 100ms, timeout: 200ms, failureThreshold: 3, http: {url: 'http://%s/'}}", hung.Addr()), "backoff: {initial: 1h, max: 1h}")})
	began := time.Now()
	s := w.in("it", "backoff")
	within(t, began, 10*time.Second, "three timeouts")
	if s.Reason != "probe" || !strings.Contains(s.Cause, "timed out after 200ms") {
		t.Errorf("it ended with %q: %s", s.Reason, s.Cause)
	}
}

func TestReadinessBlockRestartsAtItsThreshold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, probe string }{
		{"http", "http: {url: 'http://127.0.0.1:1/'}"},
		{"tcp", "tcp: {socket: '127.0.0.1:1'}"},
		{"file", "file: {path: /no/such/file}"},
		{"env", "env: {name: X, value: y}"},
		{"exec", "exec: {command: {entrypoint: /bin/false}}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, options{config: script("it", forever, "readiness: {delay: 0s, period: 20ms, failureThreshold: 2, "+test.probe+"}", "backoff: {initial: 50ms}")})
			s := w.until("it", "was restarted", func(s state) bool { return s.Restarts > 0 })
			if s.Reason != "probe" {
				t.Errorf("the reason is %q", s.Reason)
			}
			if n := w.metric(`process_wrapper_process_restarts_total{process_name="it",reason="probe"}`); n < 1 {
				t.Errorf("%v restarts are counted", n)
			}
		})
	}
}

func TestProbesOfKubernetes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	up, well := filepath.Join(dir, "up"), filepath.Join(dir, "well")
	w := start(t, options{config: script("it", forever,
		"startupProbe: {periodSeconds: 1, failureThreshold: 100, exec: {command: [test, -e, "+up+"]}}",
		"livenessProbe: {periodSeconds: 1, exec: {command: ['true']}}",
		"readinessProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: [test, -e, "+well+"]}}")})
	s := w.until("it", "has a failing startup probe", func(s state) bool { return len(s.Probes) > 0 && s.Probes[0].Failures > 0 })
	if len(s.Probes) != 1 {
		t.Errorf("other probes have begun: %+v", s.Probes)
	}
	for _, path := range []string{up, well} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.ready()
	if err := os.Remove(well); err != nil {
		t.Fatal(err)
	}
	w.in("it", "running")
	s = w.until("it", "fails often", func(s state) bool { return s.Phase == "running" })
	if s.Restarts != 0 {
		t.Error("a readiness probe restarted it")
	}
	if err := syscall.Kill(s.PID, 0); err != nil {
		t.Error(err)
	}
}
