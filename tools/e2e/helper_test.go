package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// script returns the config of a process that runs a shell script; more are further keys of it,
// one in each string.
func script(name, text string, more ...string) string {
	quoted, err := json.Marshal(text) // which is YAML too
	if err != nil {
		panic(err) // a string cannot fail
	}
	var b strings.Builder
	fmt.Fprintf(&b, "- name: %s\n  entrypoint: /bin/sh\n  args: [-c, %s]\n", name, quoted)
	for _, line := range more {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return b.String()
}

// Scripts of processes that end when they are told to, and that do not.
const (
	forever  = `echo awake; exec sleep 1000`
	stubborn = `trap '' TERM; sleep 1000 & echo awake; while :; do sleep 1; done`
)

var awake = regexp.MustCompile(`msg="awake"`)

// state is what /v1/processes says of one process.
type state struct {
	Name     string
	Phase    string
	Ready    bool
	PID      int
	Restarts int
	ExitCode *int
	Cause    string
	Reason   string
	Detail   string
	Probes   []struct {
		Name, Result, Error string
		Failures            int
	}
}

// states returns what /v1/processes says, by name.
func (w *wrapper) states() map[string]state {
	w.t.Helper()
	_, body := w.get("/v1/processes")
	var all struct{ Processes []state }
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		w.t.Fatalf("decode /v1/processes: %v\n%s", err, body)
	}
	byName := map[string]state{}
	for _, s := range all.Processes {
		byName[s.Name] = s
	}
	return byName
}

// until waits until a process is in a state, and returns it.
func (w *wrapper) until(name, what string, is func(state) bool) state {
	w.t.Helper()
	var s state
	eventually(w.t, name+" "+what, func() error {
		if s = w.states()[name]; !is(s) {
			return fmt.Errorf("it is %+v", s)
		}
		return nil
	})
	return s
}

// in waits until a process is in a phase.
func (w *wrapper) in(name, phase string) state {
	w.t.Helper()
	return w.until(name, "is "+phase, func(s state) bool { return s.Phase == phase })
}

// says checks the status codes of the two questions of the kubelet.
func (w *wrapper) says(readiness, liveness int) {
	w.t.Helper()
	for path, want := range map[string]int{"/readiness": readiness, "/liveness": liveness} {
		if got, body := w.get(path); got != want {
			w.t.Errorf("%s is %d, not %d: %s", path, got, want, body)
		}
	}
}

var sample = regexp.MustCompile(`(?m)^(\S+) (\S+)$`)

// metric returns the value of a series of /metrics, 0 where there is none yet.
func (w *wrapper) metric(series string) float64 {
	w.t.Helper()
	_, body := w.get("/metrics")
	for _, m := range sample.FindAllStringSubmatch(body, -1) {
		if m[1] == series {
			v, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				w.t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// quietly checks again and again, for a while, that something never happens.
func quietly(t *testing.T, d time.Duration, check func() error) {
	t.Helper()
	over := time.After(d)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := check(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-over:
			return
		case <-tick.C:
		}
	}
}

// within fails when what began at a time took too long.
func within(t *testing.T, began time.Time, most time.Duration, what string) {
	t.Helper()
	if took := time.Since(began); took > most {
		t.Errorf("%s took %v, more than %v", what, took, most)
	}
}

// gone fails when one of the processes is still there.
func gone(t *testing.T, all []process) {
	t.Helper()
	for _, p := range all {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid)); err == nil {
			t.Errorf("%s (%d) is still there: %s", p.comm, p.pid, stat)
		}
	}
}

// write makes a file in a new directory and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// result is how a command ended that ran to its end.
type result struct {
	code           int
	stdout, stderr string
}

// once runs process-wrapper to its end.
func once(t *testing.T, o options) result {
	t.Helper()
	w := start(t, o)
	return result{w.wait(), w.stdout.String(), w.stderr.String()}
}

// command runs a command of which only the output counts.
func command(t *testing.T, env []string, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	var out, errs strings.Builder
	cmd.Env, cmd.Stdout, cmd.Stderr = environment(env...), &out, &errs
	cmd.WaitDelay = patience
	err := cmd.Run()
	return result{code(t, err), out.String(), errs.String()}
}

func program(name string) string { return filepath.Join(bin, name) }

// ok says whether a URL answers 200; an answer that does not come is none.
func ok(url string, timeout time.Duration) error {
	client := http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return nil
}

// procStatus returns /proc/PID/status.
func procStatus(t *testing.T, pid int) map[string]string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.TrimSpace(value)
	}
	return fields
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

// matches fails where a text does not match a pattern.
func matches(t *testing.T, what, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("%s does not match %q:\n%s", what, pattern, text)
	}
}
