package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// collector is a running metrics-server.
type collector struct {
	t               *testing.T
	cmd             *exec.Cmd
	stderr          *transcript
	exited          chan struct{}
	err             error
	http, udp, unix string
}

var (
	collecting = regexp.MustCompile(`msg="listening" http=(\S+) sockets="\[udp (\S+) unix`)
	counted    = regexp.MustCompile(`(?m)^(\w+(?:\{[^}\n]*\})?) (\S+)$`)
)

// collect runs metrics-server until the test ends.
func collect(t *testing.T, env []string, args ...string) *collector {
	t.Helper()
	return collectUnder(t, nil, env, args...)
}

// collectUnder has another command execute it.
func collectUnder(t *testing.T, under, env []string, args ...string) *collector {
	t.Helper()
	c := &collector{t: t, stderr: newTranscript(), exited: make(chan struct{}), unix: filepath.Join(t.TempDir(), "app.sock")}
	argv := append(slices.Clone(under), program("metrics-server"), "-udp", "127.0.0.1:0", "-socket", "127.0.0.1:0", "-uds", c.unix)
	argv = append(argv, args...)
	c.cmd = exec.Command(argv[0], argv[1:]...)
	c.cmd.Env, c.cmd.Stderr = environment(env...), c.stderr
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.err = c.cmd.Wait(); close(c.exited) }()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.exited
		if t.Failed() {
			t.Logf("metrics-server: %s", c.stderr)
		}
	})
	m := c.stderr.waitFor(t, collecting)
	c.http, c.udp = m[1], m[2]
	return c
}

func (c *collector) stop() int {
	c.t.Helper()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.exited:
	case <-time.After(patience):
		c.t.Fatal("metrics-server does not end")
	}
	return code(c.t, c.err)
}

func (c *collector) send(network, text string) {
	c.t.Helper()
	address := c.udp
	if network == "unix" {
		address = c.unix
	}
	conn, err := net.Dial(network, address)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// sum adds up the series of a name whose labels hold each of with.
func (c *collector) sum(name string, with ...string) float64 {
	c.t.Helper()
	status, page := get(c.t, "http://"+c.http+"/metrics")
	if status != http.StatusOK {
		c.t.Fatalf("/metrics is %d", status)
	}
	var sum float64
next:
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, name) { // a page may have 100,000 others
			continue
		}
		m := counted.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if n, _, _ := strings.Cut(m[1], "{"); n != name {
			continue
		}
		for _, w := range with {
			if !strings.Contains(m[1], w) {
				continue next
			}
		}
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			c.t.Fatal(err)
		}
		sum += v
	}
	return sum
}

func (c *collector) until(want float64, name string, with ...string) {
	c.t.Helper()
	eventually(c.t, name, func() error {
		if got := c.sum(name, with...); got != want {
			return fmt.Errorf("%s%v is %v, not %v", name, with, got, want)
		}
		return nil
	})
}

func TestMetricsServerTakesWhatSendersSend(t *testing.T) {
	c := collect(t, nil, "-extra-labels", "zone:eu", "-allow-shutdown")
	c.send("udp", `{"name":"jobs","op":"inc","value":2,"labels":[]}`+"\n"+`{"name":"bro`)
	c.send("unix", `{"name":"jobs","op":"inc","value":3}`)
	c.until(2, "jobs", `data_source="127.0.0.1:0"`, `zone="eu"`)
	c.until(3, "jobs", `source_app="app"`)
	c.until(1, "metrics_server_dropped_total", `reason="truncated"`)
	for _, path := range []string{"/health", "/ready"} {
		if status, body := get(t, "http://"+c.http+path); status != http.StatusOK {
			t.Errorf("%s is %d: %s", path, status, body)
		}
	}
	c.send("udp", `{"op":"shutdown"}`)
	c.until(1, "metrics_server_dropped_total", `reason="shutdown_not_allowed"`)
	c.send("unix", `{"op":"shutdown"}`)
	select {
	case <-c.exited:
		if c.err != nil || exists(c.unix) {
			t.Errorf("it ended with %v, its socket is left: %v", c.err, exists(c.unix))
		}
	case <-time.After(patience):
		t.Error("it does not shut down")
	}
}

func TestMetricsServerRefusesFlagsThatMakeNoSense(t *testing.T) {
	for args, want := range map[string]string{
		"-uds-mode=999":                 "-uds-mode",
		"-allow-cidr=10.0.0.0/99":       "-allow-cidr",
		"-extra-labels=a":               "-extra-labels",
		"-extra-labels=__name__:x":      "keeps for itself",
		"-max-series=0":                 "-max-series",
		"-remote=host":                  "-remote",
		"-loki-address=loki:3100":       "loki address",
		"-spool-fsync=sometimes":        "-spool-fsync",
		"-udp= -uds=":                   "nothing to listen on",
		"-pyroscope-url=localhost:4040": "is no URL",
	} {
		r := command(t, nil, append([]string{program("metrics-server"), "-socket", "127.0.0.1:0", "-udp", "127.0.0.1:0", "-uds="}, strings.Fields(args)...)...)
		if r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: exit code %d, %s", args, r.code, r.stderr)
		}
	}
}

func TestMetricsServerEndsWithoutItsSpool(t *testing.T) {
	file := write(t, "loki", "not a directory")
	r := command(t, nil, program("metrics-server"), "-socket", "127.0.0.1:0", "-udp", "127.0.0.1:0", "-uds=",
		"-loki-address", "http://127.0.0.1:1", "-spool-dir", filepath.Dir(file))
	if r.code != 1 || !strings.Contains(r.stderr, "loki") {
		t.Errorf("exit code %d, %s", r.code, r.stderr)
	}
}

func TestMetricsServerPassesOnToAnother(t *testing.T) {
	far := collect(t, nil)
	near := collect(t, nil, "-remote", far.udp)
	for range 50 {
		near.send("udp", `{"name":"a","op":"inc","value":1,"labels":{"x":"1"}}{"name":"b","op":"set","value":7,"labels":{"instance":"kept"}}`)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	near.send("udp", `{"name":"e","op":"event","id":"1"}{"name":"e","op":"event","id":"1"}{"name":"i","op":"index"}`)
	near.until(50, "a")
	far.until(2, "metrics_server_dropped_total", "no_sink") // it has no store
	far.until(50, "a", `instance="`+host+`"`, `x="1"`)
	far.until(7, "b", `instance="kept"`)
	if n := far.sum("metrics_server_received_total", "udp"); n >= 100 {
		t.Errorf("%v datagrams for 100 messages", n)
	}
}

func TestAServerWithoutDescriptorsGoesOn(t *testing.T) {
	c := collectUnder(t, []string{"/bin/sh", "-c", `ulimit -n 20; exec "$@"`, "sh"}, nil)
	var conns []net.Conn
	for range 40 { // more than it can accept, all of which the kernel holds for it
		conn, err := net.Dial("unix", c.unix)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	c.stderr.waitFor(t, regexp.MustCompile(`msg="?accept"?.*too many open files`))
	for range 10 {
		c.send("udp", `{"name":"jobs","op":"inc","value":1,"labels":{"over":"udp"}}`)
	}
	for _, conn := range conns {
		if _, err := conn.Write([]byte(`{"name":"jobs","op":"inc","value":1,"labels":{"over":"unix"}}`)); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	c.until(10, "jobs", `over="udp"`)
	c.until(40, "jobs", `over="unix"`)
}

// TestEventsOfTheWrapper has both programs side by side, as in a pod.
func TestEventsOfTheWrapper(t *testing.T) {
	c := collect(t, nil)
	labels := write(t, "labels", "app.kubernetes.io/name=\"web \\\"x\\\"\"\npod-template-hash=\"1\"\n")
	w := start(t, options{
		config: script("flaky", "sleep 1; exit 3", "readiness: {delay: 50ms, period: 100ms, file: {path: /nonexistent}, failureThreshold: 1000}", "backoff: {initial: 50ms}"),
		env: []string{
			"METRICS_SERVER_ADDRESS=" + c.udp, "POD_NAME=pod-1", "METRICS_EXTRA_LABELS_FILE_PATH=" + labels,
			"METRICS_EXTRA_LABELS_FILE_EXCLUDE=pod_template_hash", `METRICS_JSON_EXTRA_LABELS={"team":"a"}`,
		},
	})
	c.until(1, "metrics_server_series") // preempted, at 0
	if page := c.sum("preempted", `pod="pod-1"`, `team="a"`, `app_kubernetes_io_name="web \"x\""`); page != 0 {
		t.Errorf("preempted is %v", page)
	}
	// Without a store an event is counted as no_sink: readiness, restart, then termination, twice.
	eventually(t, "events", func() error {
		if n := c.sum("metrics_server_dropped_total", "no_sink"); n < 2 {
			return fmt.Errorf("%v events", n)
		}
		return nil
	})
	if w.metric(`process_wrapper_events_sent_total{type="readiness"}`) < 1 {
		t.Error("no readiness event is counted")
	}
	before := c.sum("metrics_server_dropped_total", "no_sink")
	w.stop()
	eventually(t, "the termination", func() error {
		if n := c.sum("metrics_server_dropped_total", "no_sink"); n < before+2 {
			return fmt.Errorf("%v events, %v before", n, before)
		}
		return nil
	})
}
