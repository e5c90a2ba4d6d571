package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ctl runs process-wrapper ctl on the socket of w.
func (w *wrapper) ctl(args ...string) result {
	w.t.Helper()
	return command(w.t, nil, append([]string{program("process-wrapper"), "ctl", "-control-socket", w.socket}, args...)...)
}

// must runs ctl and returns what it prints.
func (w *wrapper) must(args ...string) string {
	w.t.Helper()
	r := w.ctl(args...)
	if r.code != 0 || r.stderr != "" {
		w.t.Fatalf("ctl %v: code %d, %s", args, r.code, r.stderr)
	}
	return r.stdout
}

// refuses runs ctl, which must fail and say why.
func (w *wrapper) refuses(why string, args ...string) {
	w.t.Helper()
	if r := w.ctl(args...); r.code != 1 || !strings.Contains(r.stderr, why) || !strings.HasPrefix(r.stderr, "process-wrapper: ") {
		w.t.Errorf("ctl %v: code %d, %q, want %q", args, r.code, r.stderr, why)
	}
}

// prints runs ctl, which must print exactly that.
func (w *wrapper) prints(want string, args ...string) {
	w.t.Helper()
	if out := w.must(args...); out != want {
		w.t.Errorf("ctl %v: %q, want %q", args, out, want)
	}
}

func TestControlStopsAndStartsProcesses(t *testing.T) {
	w := start(t, options{config: script("job", "exit 3", "restartPolicy: never") + script("db", forever)})
	w.until("db", "is ready", func(s state) bool { return s.Ready })
	w.prints("db stopped\n", "stop", "db")
	if s := w.states()["db"]; s.Phase != "stopped" || s.Reason != "operator" {
		t.Errorf("after stop: %+v", s)
	}
	if _, failed := w.get("/liveness"); strings.Contains(failed, "db") {
		t.Errorf("a process that an operator stopped is no reason to kill the pod: %s", failed)
	}
	w.prints("db started\n", "start", "db")
	w.refuses("db: it runs already", "start", "db")
	w.refuses("job: it has failed: exited with code 3", "restart", "job")
	if r := w.ctl("logs", "job"); r.code != 0 || r.stdout != "" || r.stderr != "process-wrapper: job: nothing has been written yet\n" {
		t.Errorf("logs of one that has written nothing: %+v", r)
	}
	w.refuses(`there is no process "nobody"`, "restart", "nobody")
	w.refuses(`"nonsense" is no signal`, "signal", "nonsense", "db")
	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if exists(w.socket) {
		t.Error("the socket is still there")
	}
}

func TestControlRestartsSignalsAndReloads(t *testing.T) {
	w := start(t, options{config: script("web", "trap 'echo got hup' HUP; while :; do sleep 0.1; done", "replicas: 2") + script("db", forever)})
	w.ready()
	before := w.states()
	w.prints("web_0 restarted\nweb_1 restarted\n", "restart", "web")
	after := w.states()
	for _, name := range []string{"web_0", "web_1"} {
		if a, b := before[name], after[name]; a.PID == b.PID || b.Restarts != 1 || !b.Ready {
			t.Errorf("%s: %+v, then %+v", name, a, b)
		}
	}
	w.must("signal", "hup", "web_0")
	w.stdout.waitFor(t, regexp.MustCompile(`name=web_0 .*msg="got hup"`))
	w.replace(script("db", forever))
	w.prints("removed: web_0, web_1\nunchanged: 1\n", "reload")
	w.replace("- name: [\n")
	w.refuses("the config is wrong", "reload")
}

func TestControlShowsProcesses(t *testing.T) {
	w := start(t, options{config: script("a", "echo one; echo two >&2; "+forever) +
		script("b", forever, "readiness: {delay: 0s, period: 100ms, startupDeadline: 1h, failureThreshold: 1000, file: {path: /nowhere}}")})
	w.stdout.waitFor(t, awake) // and one before it
	w.stderr.waitFor(t, regexp.MustCompile("two"))
	w.until("a", "is ready", func(s state) bool { return s.Ready })
	w.until("b", "fails", func(s state) bool { return len(s.Probes) == 1 && s.Probes[0].Error != "" })

	table := w.must("status")
	for _, want := range []string{`pod: not ready`, `(?m)^NAME +PHASE +READY +PID +RESTARTS +FOR +CPU +MEMORY +WHY$`, `(?m)^a +ready +yes +\d+ +0 `, `(?m)^b +running +no +\d+ +0 .*file: stat /nowhere: no such file`} {
		if !regexp.MustCompile(want).MatchString(table) {
			t.Errorf("status lacks %q:\n%s", want, table)
		}
	}
	if top := w.must("top"); !strings.HasPrefix(top, "pod: not ready\nNAME ") { // there is no terminal
		t.Errorf("top:\n%s", top)
	}
	w.prints("a\nb\n", "status", "-o", "names")
	w.showsJSON()
	logs := w.must("logs", "a")
	if strings.Count(logs, "\n") != 3 || !strings.Contains(logs, `name=a`) || !strings.Contains(logs, `out=stderr msg="two"`) {
		t.Errorf("logs:\n%s", logs)
	}
	if out := w.must("logs", "a", "-n", "1"); strings.Count(out, "\n") != 1 {
		t.Errorf("one line: %q", out)
	}
	events := w.must("events", "b")
	for _, want := range []string{"b  starting", "b  running, pid", "b  probe file: failure: stat /nowhere"} {
		if !strings.Contains(events, want) {
			t.Errorf("events lack %q:\n%s", want, events)
		}
	}
}

// showsJSON checks what is told of two processes as JSON, of which a has written a line to each stream.
func (w *wrapper) showsJSON() {
	w.t.Helper()
	for _, command := range []string{"status", "top"} {
		var all struct{ Processes []state }
		if err := json.Unmarshal([]byte(w.must(command, "-o", "json")), &all); err != nil || len(all.Processes) != 2 {
			w.t.Errorf("%s as json: %v, %+v", command, err, all)
		}
	}
	told := map[string]string{}
	for line := range strings.Lines(w.must("logs", "-o", "json", "a")) {
		var l struct {
			Name, Stream, Line string
			Time               time.Time
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Name != "a" || time.Since(l.Time).Abs() > time.Hour {
			w.t.Errorf("%v: %s", err, line)
		}
		told[l.Stream] += l.Line
	}
	if !strings.Contains(told["stdout"], `msg="one"`) || !strings.Contains(told["stderr"], `msg="two"`) {
		w.t.Errorf("logs as json: %v", told)
	}
	for line := range strings.Lines(w.must("events", "-o", "json")) {
		if !json.Valid([]byte(line)) {
			w.t.Errorf("no JSON: %s", line)
		}
	}
}

func TestCompletion(t *testing.T) {
	w := start(t, options{config: script("alpha", forever) + script("beta", forever)})
	w.ready()
	for _, test := range []struct{ words, want string }{
		{"c", "completion ctl"},
		{"ctl re", "reload restart"},
		{"ctl restart -wi", "-within"},
		{"ctl top -o", "-output"},
		{"ctl logs -o", "-output"},
		{"ctl -control-socket SOCKET restart a", "alpha"},
		{"ctl -control-socket=SOCKET logs -n 5 ", "alpha beta"},
		{"-config ", ""},
		{"ctl -control-socket /nowhere restart a", ""},
		{"run -- ", ""},
	} {
		words := strings.Split(strings.ReplaceAll(test.words, "SOCKET", w.socket), " ")
		got := command(t, nil, append([]string{program("process-wrapper"), "complete", "--"}, words...)...)
		if lines := strings.Join(strings.Fields(got.stdout), " "); lines != test.want || got.code != 0 {
			t.Errorf("%q: %q, want %q (%+v)", test.words, lines, test.want, got)
		}
	}
}

func TestControlSocketIsForRootAndItsUser(t *testing.T) {
	needsRoot(t)
	w := start(t, options{config: script("a", forever)})
	w.ready()
	pid := w.states()["a"].PID
	// The binary lies where nobody else may go.
	copied := filepath.Join(t.TempDir(), "process-wrapper")
	text, err := os.ReadFile(program("process-wrapper"))
	if err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(copied); dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(copied, text, 0o755); err != nil {
		t.Fatal(err)
	}
	asNobody := func() string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), copied, "ctl", "-control-socket", w.socket, "restart", "a")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("another user may restart a process: %s", out)
		}
		return string(out)
	}
	if out := asNobody(); !strings.Contains(out, "is for root and the user of process-wrapper") {
		t.Errorf("it says: %s", out)
	}
	// Even where somebody has opened the way.
	for path, mode := range map[string]os.FileMode{w.socket: 0o777, filepath.Dir(w.socket): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	asNobody()
	w.stderr.waitFor(t, regexp.MustCompile(`somebody else tried to use the control socket" uid=65534`))
	if s := w.states()["a"]; s.PID != pid {
		t.Errorf("it was restarted: %+v", s)
	}
}

func TestControlSocketPlaces(t *testing.T) {
	first := start(t, options{config: script("a", forever)})
	first.ready()
	t.Run("one that another has is left alone", func(t *testing.T) {
		second := start(t, options{config: script("b", forever), args: []string{"-control-socket", first.socket}})
		second.ready()
		second.stderr.waitFor(t, regexp.MustCompile("another process-wrapper has it"))
		if out := first.must("status", "-o", "names"); out != "a\n" {
			t.Errorf("the first has lost its socket: %q", out)
		}
	})
	t.Run("one that nobody serves is replaced", func(t *testing.T) {
		dir, err := os.MkdirTemp("", "pw")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		path := filepath.Join(dir, "s")
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		ln.SetUnlinkOnClose(false)
		ln.Close()
		w := start(t, options{config: script("a", forever), args: []string{"-control-socket", path}})
		w.ready()
		w.socket = path
		w.must("status")
	})
	t.Run("a file that is no socket is not removed", func(t *testing.T) {
		path := write(t, "f", "precious")
		w := start(t, options{config: script("a", forever), args: []string{"-control-socket", path}})
		w.ready()
		w.stderr.waitFor(t, regexp.MustCompile("there is no control socket"))
		if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
			t.Errorf("%q, %v", text, err)
		}
	})
	t.Run("none is none", func(t *testing.T) {
		w := start(t, options{config: script("a", forever), args: []string{"-control-socket", "none"}})
		w.ready()
		if exists(w.socket) || strings.Contains(w.stderr.String(), "control socket") {
			t.Errorf("there is one, or a warning:\n%s", w.stderr)
		}
	})
	t.Run("nobody to talk to is said with the way out", func(t *testing.T) {
		r := command(t, nil, program("process-wrapper"), "ctl", "-control-socket", "/nowhere/s", "status")
		if r.code != 1 || r.stderr != "process-wrapper: no process-wrapper answers: /nowhere/s is not there; -control-socket names its socket\n" {
			t.Errorf("%+v", r)
		}
	})
}

func TestHostileClientsOfTheControlSocketChangeNothing(t *testing.T) {
	w := start(t, options{config: script("a", forever)})
	w.ready()
	pid := w.states()["a"].PID
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for i := range 400 {
		conn, err := net.Dial("unix", w.socket)
		if err != nil {
			continue // there is no room for more
		}
		conns = append(conns, conn)
		_ = conn.SetWriteDeadline(time.Now().Add(patience))
		switch i % 4 {
		case 0: // hangs
		case 1:
			_, _ = io.WriteString(conn, "\x16\x03\x01garbage\r\n\r\n")
		case 2:
			_, _ = io.WriteString(conn, "POST /v1/processes/a/restart HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("X: y\r\n", 3000))
		case 3:
			_, _ = io.WriteString(conn, "POST /v1/processes/a/restart HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
		}
	}
	w.says(200, 200)
	for _, c := range conns {
		c.Close()
	}
	eventually(t, "ctl is served again", func() error {
		if r := w.ctl("status"); r.code != 0 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	if s := w.states()["a"]; s.PID != pid || s.Restarts != 0 {
		t.Errorf("it was restarted: %+v", s)
	}
}

// follow reads the log of a process as fast as it comes, or not at all, until the test ends.
func (w *wrapper) follow(reads bool) (seen func() string) {
	w.t.Helper()
	conn, err := net.Dial("unix", w.socket)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /v1/logs?name=flood&lines=0&follow HTTP/1.0\r\n\r\n"); err != nil {
		w.t.Fatal(err)
	}
	var mu sync.Mutex
	marker := ""
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewReaderSize(conn, 1<<20)
		for reads {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if strings.HasPrefix(line, "--- ") {
				mu.Lock()
				marker = line
				mu.Unlock()
			}
		}
	}()
	w.t.Cleanup(func() { conn.Close(); <-done })
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return marker
	}
}

func TestFollowersDoNotSlowAProcess(t *testing.T) {
	sink, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	w := start(t, options{config: script("flood", "exec yes 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"), stdout: sink})
	w.ready()
	speed := func() float64 {
		count := func() float64 {
			return w.metric(`process_wrapper_log_lines_total{level="info",process_name="flood",stream="stdout"}`)
		}
		n, began := count(), time.Now()
		<-time.After(2 * time.Second)
		return (count() - n) / time.Since(began).Seconds()
	}
	alone := speed()
	var markers []func() string
	for i := range 100 {
		seen := w.follow(i%10 == 0) // the others never read
		if i%10 == 0 {
			markers = append(markers, seen)
		}
	}
	followed := speed()
	for range 3 { // others may have the machine for a while
		if followed < alone/3 {
			followed = max(followed, speed())
		}
	}
	t.Logf("%.2f M lines/s alone, %.2f followed by 100: %.2f", alone/1e6, followed/1e6, followed/alone)
	if followed < alone/3 {
		t.Errorf("%.0f lines/s are followed, %.0f alone", followed, alone)
	}
	eventually(t, "a follower is told what it missed", func() error {
		if m := markers[0](); !strings.Contains(m, "bytes of flood were written faster than they could be followed") {
			return fmt.Errorf("marker %q", m)
		}
		return nil
	})
	w.says(200, 200)
}
