//go:build bench

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// measureLock compares shared-lock with a lock server as such are usually written (classic), and with
// clients that speak to etcd themselves (raw). All use one etcd, of which the CPU time counts, too.
func measureLock(t *testing.T, _ string) {
	b := startLockBench(t)
	t.Run("waiters", func(*testing.T) { b.waiters() }) // first, while there are few leases
	t.Run("acquire", func(*testing.T) { b.acquire() })
	t.Run("renew", func(*testing.T) { b.renew() })
}

// lockBench are the servers of the comparison.
type lockBench struct {
	t             *testing.T
	tool          string
	etcd, classic *lockServer
	lock          *lockServer
	endpoint      string
	runs          int
}

func startLockBench(t *testing.T) *lockBench {
	b := &lockBench{t: t, tool: filepath.Join(t.TempDir(), "lockload")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", b.tool, "./lockload")
	build.Env = environment("CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build lockload: %v\n%s", err, out)
	}
	// Its etcd is used, its locks are not.
	b.etcd = startLockServer(t, nil, filepath.Join(bin, "shared-lock"), "-listen", "127.0.0.1:0", "-embedded-etcd", t.TempDir(), "-etcd-prefix", "/unused/")
	b.endpoint = b.etcd.stderr.waitFor(t, embeddedServes)[1]
	b.lock = startLockServer(t, []string{"SHARED_LEASE_ETCD_ENDPOINTS=" + b.endpoint}, filepath.Join(bin, "shared-lock"), "-listen", "127.0.0.1:0")
	b.lock.url = "http://" + b.lock.stderr.waitFor(t, lockListens)[1]
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	b.classic = startLockServer(t, nil, b.tool, "classic", "-listen", address, "-etcd", b.endpoint)
	b.classic.url = "http://" + address
	eventually(t, "classic listens", func() error {
		resp, err := httpClient.Get(b.classic.url)
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	return b
}

// lockRun is what one run of clients came to. CPU is that of etcd and server.
type lockRun struct {
	Ops      int
	Seconds  float64
	P50, P99 float64 // ms; of rounds the median
	Failed   int
	cpu      time.Duration
}

func (r lockRun) rate() float64 { return float64(r.Ops) / r.Seconds }

// per is the CPU time of one operation in µs.
func (r lockRun) per() float64 { return float64(r.cpu.Microseconds()) / float64(max(r.Ops, 1)) }

func (b *lockBench) drive(mode string, clients, batch int, seconds float64) lockRun {
	b.t.Helper()
	b.runs++
	s := b.lock
	if mode == "classic" || mode == "classic-renew" {
		s = b.classic
	}
	cmd := exec.CommandContext(b.t.Context(), b.tool, "drive", "-url", s.url, "-etcd", b.endpoint, "-mode", mode, "-key", fmt.Sprintf("b%d", b.runs),
		"-clients", fmt.Sprint(clients), "-batch", fmt.Sprint(batch), "-seconds", fmt.Sprint(seconds))
	in, err := cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	cpu := func() time.Duration { return cpuTime(b.t, b.etcd.cmd.Process.Pid) + cpuTime(b.t, s.cmd.Process.Pid) }
	lines.Scan() // ready
	before := cpu()
	_, _ = io.WriteString(in, "\n")
	lines.Scan()
	r := lockRun{cpu: cpu() - before}
	if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
		b.t.Fatalf("%s: %v in %q", mode, err, lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		b.t.Fatal(err)
	}
	if r.Failed > 0 {
		b.t.Errorf("%s with %d clients: %d operations failed", mode, clients, r.Failed)
	}
	return r
}

// lockLoad is one kind of clients of a comparison.
type lockLoad struct {
	mode  string
	batch int
}

// rounds is how often each kind of clients has its turn, for two seconds each: a machine that others use, too, is quicker at some
// times than at others, and an etcd that holds more is slower.
const rounds = 5

// compare drives all kinds of clients in turn, and returns what each came to in all rounds.
func (b *lockBench) compare(clients int, loads ...lockLoad) []lockRun {
	sums := make([]lockRun, len(loads))
	medians := make([][]float64, len(loads))
	for range rounds {
		for i, l := range loads {
			r := b.drive(l.mode, clients, l.batch, 2)
			sums[i].Ops += r.Ops * l.batch
			sums[i].Seconds += r.Seconds
			sums[i].cpu += r.cpu
			medians[i] = append(medians[i], r.P50)
		}
	}
	for i, all := range medians {
		slices.Sort(all)
		sums[i].P50 = all[len(all)/2]
	}
	return sums
}

func (b *lockBench) acquire() {
	table := newTable("Acquire: ops/s, p50, CPU of etcd and server per operation", "clients", "classic", "raw", "own lease", "session",
		"CPU own ≤ 0.65", "CPU session ≤ 0.35", "own ≥ 0.9 raw", "p50 own ≤ 0.65", "p50 session ≤ 0.40")
	for _, clients := range []int{1, 16, 128, 1000} {
		runs := b.compare(clients, lockLoad{"classic", 1}, lockLoad{"raw", 1}, lockLoad{"own", 1}, lockLoad{"session", 1})
		classic, raw, own, session := runs[0], runs[1], runs[2], runs[3]
		cells := []string{fmt.Sprint(clients), show(classic), show(raw), show(own), show(session)}
		if clients > 1 {
			cells = append(cells, ratio(own.per(), classic.per(), .65), ratio(session.per(), classic.per(), .35),
				fmt.Sprintf("%.2f %s", own.rate()/raw.rate(), atLeast(own.rate()/raw.rate(), .9)), "", "")
		} else {
			cells = append(cells, ratio(own.per(), classic.per(), 1), ratio(session.per(), classic.per(), 1), "",
				ratio(own.P50, classic.P50, .65), ratio(session.P50, classic.P50, .40))
		}
		table.add(cells...)
	}
	table.print()
}

func (b *lockBench) renew() {
	table := newTable("Renew: renewals/s, p50, CPU of etcd and server per renewal", "clients", "classic", "one key", "ten keys a request",
		"CPU one ≤ 0.55", "CPU ten ≤ 0.20", "rate ≥ 2.5 at 1,000")
	for _, clients := range []int{1, 16, 128, 1000} {
		runs := b.compare(clients, lockLoad{"classic-renew", 1}, lockLoad{"renew", 1}, lockLoad{"renew", 10})
		classic, one, ten := runs[0], runs[1], runs[2]
		speed := fmt.Sprintf("%.2f", one.rate()/classic.rate())
		if clients == 1000 {
			speed += " " + atLeast(one.rate()/classic.rate(), 2.5)
		}
		table.add(fmt.Sprint(clients), show(classic), show(one), show(ten), ratio(one.per(), classic.per(), .55), ratio(ten.per(), classic.per(), .20), speed)
	}
	table.print()
}

func show(r lockRun) string {
	return fmt.Sprintf("%.0f/s %.2f ms %.0f µs", r.rate(), r.P50, r.per())
}

func ratio(a, b, bar float64) string { return fmt.Sprintf("%.2f %s", a/b, verdict(a/b, bar)) }
