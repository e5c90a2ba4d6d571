package telemetry

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

func statLine(pid int, name, state string, ppid int) string {
	return fmt.Sprintf("%d (%s) %s %d 7 8 0 -1 4194304 99 0 0 0 100 20 30 4 20 0 5 0 100877 3133440 382 18446744073709551615 1 2 3\n", pid, name, state, ppid)
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	good := stat{
		pid: 12, ppid: 3, group: 7, session: 8, start: 100877,
		own: 1200 * time.Millisecond, waited: 340 * time.Millisecond, rss: 382 * 4096, threads: 5,
	}
	zombie := good
	zombie.zombie = true
	cases := []struct {
		name, line string
		want       stat
		ok         bool
	}{
		{"plain", statLine(12, "cat", "R", 3), good, true},
		{"a name with spaces and parentheses", statLine(12, "a) R 1 (b c", "S", 3), good, true},
		{"a name with a line break", statLine(12, "a\nb", "S", 3), good, true},
		{"an empty name", statLine(12, "", "S", 3), good, true},
		{"a zombie", statLine(12, "cat", "Z", 3), zombie, true},
		{"cut short", statLine(12, "cat", "R", 3)[:60], stat{}, false},
		{"empty", "", stat{}, false},
		{"no name", "12 R 1 2 3", stat{}, false},
		{"only a name", "12 (x)", stat{}, false},
		{"a pid that is none", statLine(0, "cat", "R", 3), stat{}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, ok := parseStat([]byte(c.line), 4096)
			if d := cmp.Diff(c.want, got, cmp.AllowUnexported(stat{})); d != "" || ok != c.ok {
				t.Errorf("ok %v\n%s", ok, d)
			}
		})
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte(statLine(12, "a) R 1 (b c", "S", 3)))
	f.Add([]byte("1 () S -1 -1 9999999999999999999"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := parseStat(b, 4096); ok && (s.pid <= 0 || s.own < 0 && s.waited < 0) {
			t.Errorf("%q: %+v", b, s)
		}
	})
}

// fakeProc makes a proc file system of n processes below 1, with descriptors.
func fakeProc(t testing.TB, n int) string {
	t.Helper()
	root := t.TempDir()
	write := func(dir, name, text string) {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for pid := 1; pid <= n; pid++ {
		dir := strconv.Itoa(pid)
		write(dir, "stat", statLine(pid, "x y", "S", pid/2))
		write(dir+"/fd", "0", "")
		write(dir+"/fd", "1", "")
		write(dir, "limits", "Limit Soft Limit Hard Limit Units\nMax open files            1024                 524288               files     \n")
	}
	write("sys", "x", "")
	write("12x", "stat", "not a process")
	write(strconv.Itoa(n+1), "other", "a process that is gone")
	return root
}

func TestFakeProc(t *testing.T) {
	t.Parallel()
	sys := newSystem(fakeProc(t, 300))
	stats, err := sys.scan(nil)
	if err != nil || len(stats) != 300 {
		t.Fatalf("%d processes, %v", len(stats), err)
	}
	for i, s := range stats {
		if int(s.pid) != i+1 || int(s.ppid) != (i+1)/2 {
			t.Errorf("at %d: %+v", i, s)
		}
	}
	if n := sys.fds(7); n != 2 {
		t.Errorf("%d descriptors", n)
	}
	if n := sys.fds(1000); n != 0 {
		t.Errorf("%d descriptors of a process that is gone", n)
	}
	if n := sys.maxFDs(t.Context(), 7); n != 1024 {
		t.Errorf("at most %d descriptors", n)
	}
	if _, err := newSystem("/nonexistent").scan(nil); err == nil {
		t.Error("no error without a proc file system")
	}
}

// real is a running shell with what it prints, and a sampler of it.
type real struct {
	*Sampler
	t   *testing.T
	pid int
	in  io.Writer
	out *bufio.Reader
}

func shell(t *testing.T, script string) *real {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	t.Cleanup(func() {
		_ = syscall.Kill(-pid, syscall.SIGKILL) // with all that is left of its group
		_ = cmd.Wait()                          // killed
	})
	return &real{NewSampler(quiet()), t, pid, in, bufio.NewReader(out)}
}

// line waits for the shell to print.
func (r *real) line() {
	r.t.Helper()
	if _, err := r.out.ReadString('\n'); err != nil {
		r.t.Fatal(err)
	}
}

func (r *real) measure() Usage {
	r.t.Helper()
	board := status.NewBoard()
	board.Put(status.State{Name: "x", Phase: status.Running, PID: r.pid})
	snap, _ := board.Load()
	r.look(r.t.Context(), snap, time.Now())
	u, ok := r.Usage("x")
	if !ok {
		r.t.Fatal("not measured")
	}
	return u
}

func TestRealTree(t *testing.T) {
	t.Parallel()
	r := shell(t, `sleep 1000 & (sleep 1000 & echo started); echo started; wait`)
	r.line()
	r.line()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	u := r.measure() // the sleep of the subshell is an orphan by now, or soon
	if u.Processes < 3 || u.Processes > 4 || u.Threads < 3 || u.Memory < 100<<10 || u.FDs < 3*3 || u.MaxFDs == 0 {
		t.Errorf("got %+v", u)
	}
	if u.PID != r.pid {
		t.Errorf("got pid %d, want %d", u.PID, r.pid)
	}
}

func TestRealWorkersLeaveTheirCPUTimeBehind(t *testing.T) {
	t.Parallel()
	const burn = `i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done`
	r := shell(t, `for n in 1 2 3; do (`+burn+`; echo half; read x; `+burn+`); echo done; read x; done`)
	var last time.Duration
	for range 3 {
		for range 2 {
			r.line()
			u := r.measure()
			if u.CPU <= last {
				t.Errorf("%v after %v", u.CPU, last)
			}
			last = u.CPU
			if _, err := io.WriteString(r.in, "\n"); err != nil && !errors.Is(err, syscall.EPIPE) {
				t.Fatal(err)
			}
		}
	}
	var children unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &children); err != nil {
		t.Fatal(err)
	}
	s, err := (&proc{root: "/proc", file: make([]byte, 1024), dirents: make([]byte, 4096)}).scan(nil)
	if err != nil {
		t.Fatal(err)
	}
	if i := find(s, int32(r.pid)); i >= 0 && last > s[i].total()+time.Second {
		t.Errorf("counted %v, but it used %v", last, s[i].total())
	}
}

func TestRealMemoryLimit(t *testing.T) {
	t.Parallel()
	r := shell(t, `(head -c 60000000 /dev/zero; sleep 1000) | tail`) // tail keeps the last line
	board := status.NewBoard()
	stop := runSampler(r.Sampler, board)
	defer stop()
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = r.Watch(30<<20)(t.Context(), r.pid) })
	wg.Wait()
	var over *OverLimit
	if !errors.As(err, &over) || over.Used <= over.Limit {
		t.Errorf("got %v", err)
	}
}

func TestRealScanOfOurselves(t *testing.T) {
	t.Parallel()
	stats, err := newSystem("/proc").scan(nil)
	if err != nil {
		t.Fatal(err)
	}
	i := find(stats, int32(os.Getpid()))
	if i < 0 {
		t.Fatal("we are not there")
	}
	s := stats[i]
	if int(s.ppid) != os.Getppid() || int(s.group) != syscall.Getpgrp() || s.rss < 1<<20 || s.threads < 2 || s.zombie {
		t.Errorf("got %+v", s)
	}
}

func BenchmarkScan(b *testing.B) {
	for _, bench := range []struct{ name, root string }{{"real", "/proc"}, {"fake1000", fakeProc(b, 1000)}} {
		b.Run(bench.name, func(b *testing.B) {
			sys := newSystem(bench.root)
			var stats []stat
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if stats, err = sys.scan(stats[:0]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(stats)), "processes")
		})
	}
}

func BenchmarkDivide1000(b *testing.B) {
	l := newLooker()
	var stats []stat
	for i := range int32(1000) {
		l.roots[10*i+10] = &tree{}
		stats = append(stats, stat{pid: 10*i + 10, ppid: us}, stat{pid: 10*i + 11, ppid: 10*i + 10})
	}
	b.ReportAllocs()
	for b.Loop() {
		l.look(append(l.prev[:0], stats...)...)
	}
}
