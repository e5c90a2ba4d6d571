package e2e

import (
	"fmt"
	"regexp"
	"strings"
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
