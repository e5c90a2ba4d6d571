package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A bar of 50 ms, ten times wider: a test machine does more than one thing.
const soon = 500 * time.Millisecond

func TestStubbornTreeIsGoneAtTheDeadline(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("mule", stubborn), args: []string{"-graceful-shutdown-deadline", "1s"}})
	w.stdout.waitFor(t, awake)
	below := descendants(t, w.pid)
	if len(below) < 2 {
		t.Fatalf("it has no tree: %v", below)
	}
	began := time.Now()
	if got := w.stop(); got != 137 {
		t.Errorf("exit code %d, but the deadline passed", got)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("killed after %v, before the deadline", took)
	}
	within(t, began, 10*time.Second, "the shutdown")
	gone(t, below)
}

// onTERM says when SIGTERM came and whether the readiness file $FILE was there, and takes a
// while to end.
const onTERM = `
told() {
	if [ -e "$FILE" ]; then echo "told $(date +%s%N) file=there"; else echo "told $(date +%s%N) file=gone"; fi
	while [ ! -e "$FILE.go" ]; do sleep 0.05; done
	exit 0
}
trap told TERM
sleep 1000 & wait`

var told = regexp.MustCompile(`msg="told (\d+) file=(\w+)"`)

// toldAt is when SIGTERM came.
func toldAt(t *testing.T, w *wrapper) time.Time {
	t.Helper()
	nanos, err := strconv.ParseInt(w.stdout.waitFor(t, told)[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(0, nanos)
}

func TestChildrenAreToldAfterThePodLeftService(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ready")
	w := start(t, options{
		config: script("worker", onTERM), env: []string{"FILE=" + file},
		args: []string{"-readiness-file", file},
	})
	w.ready()
	eventually(t, "the readiness file is there", func() error { _, err := os.Stat(file); return err })
	began := time.Now()
	w.signal(syscall.SIGTERM)
	if took := toldAt(t, w).Sub(began); took > soon {
		t.Errorf("SIGTERM came after %v, more than %v", took, soon)
	}
	if told.FindStringSubmatch(w.stdout.String())[2] != "gone" {
		t.Error("the readiness file was still there when the process was told to stop")
	}
	quietly(t, soon, func() error {
		w.says(503, 200)
		return nil
	})
	if _, body := w.get("/readiness"); !strings.Contains(body, "draining: SIGTERM") {
		t.Errorf("/readiness does not say why: %q", body)
	}
	if err := os.WriteFile(file+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := w.wait(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}

func TestDrainDelayComesBeforeTheFirstSIGTERM(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("worker", `trap 'echo told $(date +%s%N) file=none; exit 0' TERM; echo awake; sleep 1000 & wait`), args: []string{"-drain-delay", "1s"}})
	w.stdout.waitFor(t, awake)
	w.ready()
	began := time.Now()
	w.signal(syscall.SIGTERM)
	eventually(t, "/readiness is 503", func() error {
		if status, _ := w.get("/readiness"); status != 503 {
			return os.ErrExist
		}
		return nil
	})
	if got := w.wait(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	if took := toldAt(t, w).Sub(began); took < time.Second {
		t.Errorf("told after %v, before the drain delay was over", took)
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	graceful := `trap 'sleep 0.5; echo done; exit 0' TERM; echo awake; sleep 1000 & wait`
	for _, test := range []struct {
		name    string
		script  string
		signals []syscall.Signal
		code    int
		says    string
	}{
		{"SIGTERM lets a process finish", graceful, []syscall.Signal{syscall.SIGTERM}, 0, "done"},
		{"SIGQUIT lets a process finish", graceful, []syscall.Signal{syscall.SIGQUIT}, 0, "done"},
		{"SIGINT lets a quick process finish", strings.Replace(graceful, "0.5", "0.1", 1), []syscall.Signal{syscall.SIGINT}, 0, "done"},
		{"SIGINT kills after a second", stubborn, []syscall.Signal{syscall.SIGINT}, 137, ""},
		{"a second SIGTERM kills", stubborn, []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM}, 137, ""},
		{"SIGINT after SIGTERM kills", stubborn, []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}, 137, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, options{config: script("it", test.script), namespace: true, args: []string{"-graceful-shutdown-deadline", "1m"}})
			w.stdout.waitFor(t, awake)
			began := time.Now()
			for i, sig := range test.signals {
				if i > 0 {
					<-time.After(time.Second) // for one that comes at once may be an echo of the first
				}
				w.signal(sig)
				w.stderr.waitFor(t, regexp.MustCompile("leaving service"))
			}
			if got := w.wait(); got != test.code {
				t.Errorf("exit code %d, not %d", got, test.code)
			}
			within(t, began, 15*time.Second, "the end")
			if !strings.Contains(w.stdout.String(), test.says) {
				t.Errorf("it does not say %q", test.says)
			}
		})
	}
}

// A shell, a terminal and a runtime of containers may all pass on the same signal.
func TestEchoOfTheFirstSignalKillsNothing(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("it", `trap 'sleep 0.5; echo done; exit 0' TERM; echo awake; sleep 1000 & wait`)})
	w.stdout.waitFor(t, awake)
	w.signal(syscall.SIGTERM)
	w.signal(syscall.SIGTERM)
	if got := w.wait(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	ordered(t, w.stdout.String(), "it done")
}

func TestSignalsThatDoNotEndIt(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		sig    syscall.Signal
		prints string
	}{
		{"SIGUSR1 prints the table", syscall.SIGUSR1, `msg="process" name=it phase=ready .*pid=\d+`},
		{"SIGUSR2 prints the table", syscall.SIGUSR2, `msg="process" name=it phase=ready .*pid=\d+`},
		{"SIGHUP reloads the config", syscall.SIGHUP, `level=info msg="the config was reloaded" by=SIGHUP .*unchanged=1`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, options{config: script("it", forever), namespace: true})
			w.ready()
			w.signal(test.sig)
			w.stderr.waitFor(t, regexp.MustCompile(test.prints))
			w.says(200, 200)
			if got := w.stop(); got != 0 {
				t.Errorf("exit code %d", got)
			}
		})
	}
}

// reads reports whether a thread of a process is in read(2) of descriptor 0.
func reads(pid int) bool {
	number := map[string]string{"amd64": "0 ", "arm64": "63 "}[runtime.GOARCH]
	calls, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/syscall")
	for _, name := range calls {
		call, _ := os.ReadFile(name)
		if strings.HasPrefix(string(call), number+"0x0 ") {
			return true
		}
	}
	return false
}

func TestSIGTERMDuringStartUpIsHonoured(t *testing.T) {
	t.Parallel()
	for _, namespace := range []bool{false, true} {
		stdin, config, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		mark := filepath.Join(t.TempDir(), "started")
		w := start(t, options{args: []string{"-config", "-"}, stdin: stdin, namespace: namespace})
		eventually(t, "it reads its config", func() error {
			if !reads(w.pid) {
				return os.ErrProcessDone
			}
			return nil
		})
		w.signal(syscall.SIGTERM)
		if _, err := config.WriteString(script("it", "touch "+mark+"; exec sleep 1000")); err != nil {
			t.Fatal(err)
		}
		config.Close()
		if got := w.wait(); got != 0 {
			t.Errorf("exit code %d", got)
		}
		if exists(mark) {
			t.Error("it started a process all the same")
		}
	}
}

func TestSIGTERMWhileNothingRuns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, config, of, phase string }{
		{"in back-off", script("it", "exit 1", "backoff: {initial: 1h, max: 1h}"), "it", "backoff"},
		{
			"waiting for a dependency",
			script("late", "exit 1", "backoff: {initial: 1h, max: 1h}") + script("it", forever, "dependsOn: [late]"), "it", "waiting",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, options{config: test.config, namespace: true})
			w.in(test.of, test.phase)
			began := time.Now()
			if got := w.stop(); got != 0 {
				t.Errorf("exit code %d", got)
			}
			within(t, began, 5*time.Second, "the end")
		})
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	never := "restartPolicy: never"
	for _, test := range []struct {
		name   string
		config string
		code   int
	}{
		{"of an essential process", script("it", "sleep 0.2; exit 7", never, "essential: true") + script("other", forever), 7},
		{"of an essential process that completes", script("it", "exit 0", never, "essential: true") + script("other", forever), 0},
		{"of an essential process that is out of restarts", script("it", "exit 9", "essential: true", "maxRestarts: {count: 2}", "backoff: {initial: 10ms}") + script("other", forever), 9},
		{"all completed", script("a", "exit 0", never) + script("b", "sleep 0.2", "restartPolicy: onFailure"), 0},
		{"the first failure", script("late", "sleep 1; exit 4", never) + script("early", "exit 3", never) + script("good", "exit 0", never), 3},
		{"killed by SIGKILL", script("it", "kill -9 $$", never), 137},
		{"killed by SIGTERM that nobody sent to us", script("it", "kill -TERM $$", never), 143},
		{"no such program", "- {name: it, entrypoint: /no/such/program, restartPolicy: never}\n", 127},
		{"no executable file", "- {name: it, entrypoint: /etc/passwd, restartPolicy: never}\n", 126},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := once(t, options{config: test.config}); got.code != test.code {
				t.Errorf("exit code %d, not %d", got.code, test.code)
			}
		})
	}
}
