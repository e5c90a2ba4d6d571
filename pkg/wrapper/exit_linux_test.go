package wrapper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/command"
	"github.com/process-wrapper/process-wrapper/pkg/process"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
	"github.com/process-wrapper/process-wrapper/pkg/telemetry"
)

// memoryCgroup makes the test run again in a memory cgroup of its own.
const memoryCgroup = "WRAPPER_TEST_MEMORY_CGROUP"

// reaper runs a reaper until the end of the test.
func reaper(t *testing.T) *command.Reaper {
	t.Helper()
	r := command.NewReaper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return r
}

func TestAnExitSaysHowAndWhatItCost(t *testing.T) {
	r := reaper(t)
	for _, tt := range []struct {
		name, script, want string
		kill               bool
	}{
		{"it completed", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done", "completed", false},
		{"it failed", "exit 3", "exit", false},
		{"somebody killed it", "kill -KILL $$", "signal", false},
		{"we killed it", "sleep 1000", "signal", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			type told struct {
				name string
				pid  int
				cpu  time.Duration
			}
			var ends []told
			s := &starter{p: &spec.Process{Name: "p"}, oom: telemetry.NewOOM(), ended: func(name string, pid int, cpu time.Duration) {
				ends = append(ends, told{name, pid, cpu})
			}}
			kills := s.oom.Kills()
			c, err := r.Start(&command.Command{Path: "/bin/sh", Args: []string{"-c", tt.script}})
			if err != nil {
				t.Fatal(err)
			}
			if tt.kill {
				if err := c.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			<-c.Exited()
			end := child{exit: sync.OnceValue(func() error { return s.exit(c, kills) })}
			if got := process.Reason(end.Exit()); got != tt.want {
				t.Errorf("reason %q: %v", got, end.Exit())
			}
			if len(ends) != 1 || ends[0].name != "p" || ends[0].pid != c.PID() || ends[0].cpu <= 0 {
				t.Errorf("told of its end: %v", ends)
			}
		})
	}
}

func TestTheKernelsKillIsReported(t *testing.T) {
	if os.Getenv(memoryCgroup) != "" {
		reportKernelsKill(t)
		return
	}
	dir := makeMemoryCgroup(t)
	r := reaper(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := &command.Command{
		Path: "/bin/sh", Args: []string{"-c", `echo $$ >"$1/cgroup.procs" && exec "$2" -test.run "^$3\$" -test.v`, "sh", dir, self, t.Name()},
		Env: append(os.Environ(), memoryCgroup+"="+dir),
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	res, err := r.Output(ctx, run, 1<<16)
	if err != nil || !res.Status.Success() || !strings.Contains(string(res.Output), "--- PASS") {
		t.Errorf("%v, %v\n%s", err, res.Status, res.Output)
	}
}

// reportKernelsKill has a memory limit.
func reportKernelsKill(t *testing.T) {
	r := reaper(t)
	s := &starter{p: &spec.Process{Name: "p"}, oom: telemetry.NewOOM(), ended: func(string, int, time.Duration) {}}
	kills := s.oom.Kills()
	for _, tt := range []struct{ script, want string }{
		{"exec tail /dev/zero", "killed by signal 9 (killed): out of memory (the container's memory limit)"},
		{"kill -KILL $$", "killed by signal 9 (killed)"},
		{"exec tail /dev/zero", "killed by signal 9 (killed): out of memory (the container's memory limit)"},
	} {
		c, err := r.Start(&command.Command{Path: "/bin/sh", Args: []string{"-c", tt.script}})
		if err != nil {
			t.Fatal(err)
		}
		<-c.Exited()
		if err := s.exit(c, kills); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v", tt.script, err)
		}
	}
}

// makeMemoryCgroup makes one of 64 MiB, below our own.
func makeMemoryCgroup(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var tried []error
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		mount, limit := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		if f[1] == "" {
			mount, limit = "/sys/fs/cgroup", "memory.max"
		} else if f[1] != "memory" {
			continue
		}
		dir := filepath.Join(mount, f[2], fmt.Sprintf("wrapper-test-%d", os.Getpid()))
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			t.Cleanup(func() { _ = os.Remove(dir) })
			err = os.WriteFile(filepath.Join(dir, limit), []byte("67108864"), 0)
		}
		if err == nil {
			_ = os.WriteFile(filepath.Join(dir, "memory.swap.max"), []byte("0"), 0) // where there is swap
			_ = os.WriteFile(filepath.Join(dir, "memory.memsw.limit_in_bytes"), []byte("67108864"), 0)
			return dir
		}
		tried = append(tried, err)
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("in CI the tests may make a memory cgroup: %v", errors.Join(tried...))
	}
	t.Skipf("no memory cgroup can be made: %v", errors.Join(tried...))
	return ""
}
