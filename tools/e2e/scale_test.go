package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// kib returns a size of /proc/PID/status in KiB.
func kib(t *testing.T, pid int, key string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(procStatus(t, pid)[key], " kB"))
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return n
}

// The bars are 28 MiB, 12 threads and 500 ms to stop.
func TestThousandProcesses(t *testing.T) {
	w := start(t, options{config: "- {name: it, entrypoint: /bin/sleep, args: ['1000'], replicas: 1000}\n", namespace: true})
	began := time.Now()
	w.ready()
	t.Logf("ready after %v", time.Since(began))
	below := descendants(t, w.pid)
	if len(below) != 1000 {
		t.Errorf("%d processes", len(below))
	}
	if _, body := w.get("/status"); strings.Count(body, ":true") != 1000 {
		t.Errorf("%d are ready", strings.Count(body, ":true"))
	}
	rss, threads := kib(t, w.pid, "VmRSS"), kib(t, w.pid, "Threads")
	t.Logf("RSS %d KiB, %d threads", rss, threads)
	if rss > 2*28<<10 {
		t.Errorf("RSS is %d KiB", rss)
	}
	if threads > 40 {
		t.Errorf("%d threads", threads)
	}
	began = time.Now()
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	t.Logf("stopped after %v", time.Since(began))
	within(t, began, 5*time.Second, "the end")
	gone(t, below)
}

func TestRestartsDoNotGrowTheWrapper(t *testing.T) {
	w := start(t, options{config: "- {name: it, entrypoint: /bin/true, backoff: {initial: 1ms, max: 1ms}}\n" + script("other", forever), namespace: true})
	restarts := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprint(n, " restarts"), func() error {
			if got := w.states()["it"].Restarts; got < n {
				return fmt.Errorf("%d", got)
			}
			return nil
		})
	}
	restarts(100)
	anon, goroutines, fds := kib(t, w.pid, "RssAnon"), w.metric("go_goroutines"), openFiles(t, w.pid)
	restarts(800)
	if now := kib(t, w.pid, "RssAnon"); now > anon+4<<10 {
		t.Errorf("anonymous memory grew from %d to %d KiB", anon, now)
	}
	if now := w.metric("go_goroutines"); now > goroutines+10 {
		t.Errorf("goroutines grew from %v to %v", goroutines, now)
	}
	if now := openFiles(t, w.pid); now > fds+10 {
		t.Errorf("descriptors grew from %d to %d", fds, now)
	}
	noZombies(t, w.pid)
}

func openFiles(t *testing.T, pid int) int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
