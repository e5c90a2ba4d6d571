//go:build bench

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// receiver is somebody to whom events are sent.
type receiver struct {
	name   string
	format string
	start  func(t *testing.T) (pid int, address string, count func() float64)
	cpu    float64 // µs for each event received, best so far
	lost   float64 // share, worst so far
}

// measureReceive compares metrics-server with a loop that does no more than count datagrams, and with
// statsd_exporter where it is in PATH: go install github.com/prometheus/statsd_exporter@v0.31.0. At a rate at which it
// loses much its CPU for an event received flatters it at one per datagram, and belies it at ten, for what the kernel
// drops costs it nothing: there is a rate at which it loses little, with a receive buffer like ours, to compare at.
func measureReceive(t *testing.T, _ string) {
	load := buildUDPLoad(t)
	all := []*receiver{
		{name: "metrics-server", format: "json", start: startCollector},
		{name: "bare", format: "json", start: func(t *testing.T) (int, string, func() float64) { return startBare(t, load) }},
	}
	if _, err := exec.LookPath("statsd_exporter"); err == nil {
		for name, args := range map[string][]string{"statsd_exporter": nil, "statsd_exporter, 4 MiB": {"--statsd.read-buffer=4194304"}} {
			all = append(all, &receiver{name: name, format: "statsd", start: func(t *testing.T) (int, string, func() float64) { return startStatsdExporter(t, args...) }})
		}
	}
	for _, shape := range []struct{ rate, n, each int }{{20_000, 60_000, 1}, {100_000, 300_000, 1}, {100_000, 300_000, 10}, {1_000_000, 3_000_000, 10}} {
		t.Run(fmt.Sprintf("%d_%d", shape.rate, shape.each), func(t *testing.T) { compareReceivers(t, all, load, shape.rate, shape.n, shape.each) })
	}
}

func compareReceivers(t *testing.T, all []*receiver, load string, rate, n, each int) {
	const rounds = 3
	tab := newTable(fmt.Sprintf("%d events/s of 110 bytes, %d in a datagram, default flags; %d rounds, CPU the least and loss the most of them", rate, each, rounds),
		"receiver", "CPU of an event received", "× bare", "lost", "bar")
	for _, r := range all {
		r.cpu, r.lost = 1e9, 0
	}
	for i := range rounds {
		for j, r := range all {
			n := n
			if i == 0 && j == 0 && rate == 100_000 && each == 1 {
				n = 15 * rate // the promise is for longer than buffers hide
			}
			r.round(t, load, rate, n, each)
		}
	}
	for _, r := range all {
		bar := ""
		if r == all[0] {
			bar = "0 lost: " + verdict(r.lost, 0)
			if each == 1 {
				bar += ", 1.3 × bare: " + verdict(r.cpu/all[1].cpu, 1.3)
			}
		}
		tab.add(r.name, fmt.Sprintf("%.2f µs", r.cpu), fmt.Sprintf("%.2f", r.cpu/all[1].cpu), fmt.Sprintf("%.2f %%", 100*r.lost), bar)
	}
	tab.print()
}

func buildUDPLoad(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "udpload")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./udpload")
	build.Env = environment("CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build udpload: %v\n%s", err, out)
	}
	return path
}

func (r *receiver) round(t *testing.T, load string, rate, n, each int) {
	t.Run(r.name, func(t *testing.T) {
		pid, address, count := r.start(t)
		before := cpuTime(t, pid)
		out, err := exec.CommandContext(t.Context(), load, "-to", address, "-rate", fmt.Sprint(rate), "-n", fmt.Sprint(n),
			"-each", fmt.Sprint(each), "-format", r.format).CombinedOutput()
		if err != nil {
			t.Fatalf("send: %v\n%s", err, out)
		}
		time.Sleep(300 * time.Millisecond) // what is in the socket
		cpu := cpuTime(t, pid) - before
		got := count()
		if r.name == "bare" {
			got *= float64(each)
		}
		r.cpu = min(r.cpu, float64(cpu.Microseconds())/max(got, 1))
		r.lost = max(r.lost, 1-got/float64(n))
	})
}

func startCollector(t *testing.T) (int, string, func() float64) {
	c := collect(t, nil)
	return c.cmd.Process.Pid, c.udp, func() float64 { return c.sum("metrics_server_applied_total", `op="inc"`) }
}

// startBare counts at its end.
func startBare(t *testing.T, load string) (int, string, func() float64) {
	cmd := exec.Command(load, "-bare", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	lines.Scan()
	return cmd.Process.Pid, strings.TrimPrefix(lines.Text(), "listening "), func() float64 {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		lines.Scan()
		var n, size float64
		if _, err := fmt.Sscan(lines.Text(), &n, &size); err != nil {
			t.Fatalf("read the count: %v", err)
		}
		return n
	}
}

func startStatsdExporter(t *testing.T, args ...string) (int, string, func() float64) {
	udp, http := freeAddress(t, "udp"), freeAddress(t, "tcp")
	args = append([]string{"--statsd.listen-udp=" + udp, "--statsd.listen-tcp=", "--web.listen-address=" + http}, args...)
	cmd := exec.Command("statsd_exporter", args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	eventually(t, "statsd_exporter", func() error { return ok("http://"+http+"/-/ready", time.Second) })
	c := &collector{t: t, http: http}
	return cmd.Process.Pid, udp, func() float64 { return c.sum("http_requests_total") }
}

// freeAddress returns an address of which nobody has the port now.
func freeAddress(t *testing.T, network string) string {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.LocalAddr().String()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
