package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// starve lowers the limit of descriptors of a running wrapper so that it can open none, until the
// returned function is called.
func (w *wrapper) starve() (feed func()) {
	w.t.Helper()
	w.limit(syscall.Rlimit{Cur: 3, Max: 1024})
	return func() {
		w.t.Helper()
		w.limit(syscall.Rlimit{Cur: 1024, Max: 1024})
	}
}

// limit sets the limit of descriptors of a running wrapper.
func (w *wrapper) limit(nofile syscall.Rlimit) {
	w.t.Helper()
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(w.pid), syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&nofile)), 0, 0, 0)
	if errno != 0 {
		w.t.Fatal(errno)
	}
}

func TestAHealthyProcessOutlivesOurShortageOfDescriptors(t *testing.T) {
	t.Parallel()
	config := script("web", forever,
		`readiness: {delay: 0s, period: 100ms, failureThreshold: 2, exec: {command: {entrypoint: /bin/true}}}`,
		`livenessProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: [/bin/true]}}`)
	w := start(t, options{config: config})
	w.ready()
	before := w.in("web", "ready")
	feed := w.starve()
	w.stderr.waitFor(t, regexp.MustCompile(`probe=exec result=unknown err="run /bin/true: could not be tried: .*too many open files"`))
	w.stderr.waitFor(t, regexp.MustCompile(`probe=livenessProbe result=unknown`))
	quietly(t, time.Second, func() error { // many failureThresholds
		if strings.Contains(w.stderr.String(), "not ready any more") {
			return fmt.Errorf("it was taken out of service")
		}
		return nil
	})
	feed()
	after := w.in("web", "ready")
	if after.PID != before.PID || after.Restarts != 0 {
		t.Errorf("it was %+v and is %+v", before, after)
	}
	if n := w.metric(`process_wrapper_probe_total{probe="exec",process_name="web",result="unknown"}`); n < 5 {
		t.Errorf("%v inconclusive checks are counted", n)
	}
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}

func TestAWrapperOutlivesTheEndOfItsProcesses(t *testing.T) {
	t.Parallel()
	needs(t, "setpriv", "prlimit")
	needsRoot(t)
	dir, err := os.MkdirTemp("", "process-wrapper-nproc-") // t.TempDir is not for others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join(bin, "process-wrapper"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "process-wrapper")
	if err := os.WriteFile(file, program, 0o755); err != nil {
		t.Fatal(err)
	}
	config := script("web", forever, `readiness: {delay: 0s, period: 100ms, failureThreshold: 2, exec: {command: {entrypoint: /bin/true}}}`)
	w := start(t, options{config: "", args: nil, env: []string{"CONFIG=" + config},
		under: []string{"setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"}, program: file})
	w.ready()
	before := w.in("web", "ready")
	eventually(t, "its threads are there", func() error {
		if tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", w.pid)); len(tasks) < 12 {
			return fmt.Errorf("%d threads", len(tasks))
		}
		return nil
	})
	nproc := func(soft string) {
		as := exec.Command("setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "prlimit", "--pid", strconv.Itoa(w.pid), "--nproc="+soft+":")
		if out, err := as.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	nproc("1")
	w.stderr.waitFor(t, regexp.MustCompile(`probe=exec result=unknown err="run /bin/true: could not be tried: fork: .*the limit of processes`))
	url := w.url("/metrics")
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			for range 20 {
				if resp, err := http.Get(url); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			}
		})
	}
	wg.Wait()
	nproc("1000")
	w.ready()
	if after := w.in("web", "ready"); after.PID != before.PID || after.Restarts != 0 {
		t.Errorf("it was %+v and is %+v", before, after)
	}
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}
