//go:build bench

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manager is a process manager that is measured.
type manager struct {
	t     *testing.T
	cmd   *exec.Cmd
	pid   int
	began time.Time      // right before it was forked
	out   *os.File       // its stdout, to read
	sig   syscall.Signal // that ends it

	discarded bool
}

// contestant is a process manager with its configuration.
type contestant struct {
	name  string
	argv  []string
	env   []string
	sig   syscall.Signal // that ends it; 0: SIGTERM
	stdin *os.File
	// bothOut makes its stderr a part of what is read; else it goes to nobody.
	bothOut bool
}

// launch runs a manager until the test ends, or until it is ended.
func (c contestant) launch(t *testing.T) *manager {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t: t, cmd: exec.Command(c.argv[0], c.argv[1:]...), out: r, sig: c.sig}
	if m.sig == 0 {
		m.sig = syscall.SIGTERM
	}
	m.cmd.Env = environment(append([]string{"HEALTH_SOCKET=127.0.0.1:0"}, c.env...)...)
	m.cmd.Stdout = w
	if c.bothOut {
		m.cmd.Stderr = w
	}
	if c.stdin != nil {
		m.cmd.Stdin = c.stdin
	}
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	m.began = time.Now()
	err = m.cmd.Start()
	w.Close()
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	m.pid = m.cmd.Process.Pid
	t.Cleanup(m.end)
	return m
}

// end ends it, and what is left in its process group.
func (m *manager) end() {
	if m.cmd.ProcessState != nil {
		return
	}
	m.discard()
	_ = syscall.Kill(m.pid, m.sig)
	stuck := time.AfterFunc(patience, func() { _ = syscall.Kill(-m.pid, syscall.SIGKILL) })
	_ = m.cmd.Wait() // however it ends
	if !stuck.Stop() {
		m.t.Errorf("%v did not end within %v", m.cmd.Args, patience)
	}
	_ = syscall.Kill(-m.pid, syscall.SIGKILL) // mostly nobody is left
	m.out.Close()
}

// discard reads what nobody needs, so that it holds nobody up.
func (m *manager) discard() {
	if m.discarded {
		return
	}
	m.discarded = true
	_ = m.out.SetReadDeadline(time.Time{}) // a pipe has deadlines
	go func() { _, _ = io.Copy(io.Discard, m.out) }()
}

// ours is process-wrapper with a config.
func ours(t *testing.T, config string, env ...string) contestant {
	t.Helper()
	return contestant{
		name: "process-wrapper",
		argv: []string{program("process-wrapper"), "-config", write(t, "config.yaml", config), "-readiness-file", filepath.Join(t.TempDir(), "ready")},
		env:  env,
	}
}

// supervisor is supervisord with one program, whose output it copies to its own.
func supervisor(t *testing.T, command string, more ...string) contestant {
	t.Helper()
	config := fmt.Sprintf(`[supervisord]
nodaemon=true
user=root
logfile=/dev/null
logfile_maxbytes=0
pidfile=%s
minfds=8192
[program:w]
command=%s
startsecs=0
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
%s
`, filepath.Join(t.TempDir(), "pid"), command, strings.Join(more, "\n"))
	return contestant{name: "supervisord", argv: []string{"supervisord", "-n", "-s", "-c", write(t, "supervisord.conf", config)}}
}

// s6 is s6-svscan with one service, which inherits its output.
func s6(t *testing.T, run string) contestant {
	t.Helper()
	return contestant{name: "s6-svscan", argv: []string{"s6-svscan", service(t, run)}}
}

// runit is runsvdir with one service, which inherits its output.
func runit(t *testing.T, run string) contestant {
	t.Helper()
	return contestant{name: "runsvdir", argv: []string{"runsvdir", service(t, run)}, sig: syscall.SIGHUP}
}

// service makes a directory with one service.
func service(t *testing.T, run string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "w"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "w", "run"), []byte(run), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
