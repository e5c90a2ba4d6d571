//go:build bench

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	overheadTime = 30 * time.Second
	checked      = 10                     // processes with a check each
	checkPeriod  = 200 * time.Millisecond // of each check
)

// costing is a process-wrapper whose CPU time is taken.
type costing struct {
	name      string
	processes int
	probe     string // of /metrics, "" without checks
	w         *wrapper
	cpu       time.Duration
	checks    float64
}

// measureOverhead takes the CPU time of all of them at the same time: little is done.
func measureOverhead(t *testing.T, _ string) {
	needs(t, "busybox")
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	there := write(t, "there", "")
	var all []*costing
	add := func(name string, n int, probe, readiness string) {
		config := fmt.Sprintf("- name: w\n  entrypoint: busybox\n  args: [sleep, '1000']\n  replicas: %d\n", n)
		if probe != "" {
			config += fmt.Sprintf("  readiness: {delay: 0s, period: %v, %s}\n", checkPeriod, readiness)
		}
		all = append(all, &costing{name: name, processes: n, probe: probe, w: start(t, options{config: config})})
	}
	for _, n := range []int{1, 10, 100} {
		add("idle", n, "", "")
	}
	add("tcp", checked, "tcp", fmt.Sprintf("tcp: {socket: %q}", server.Listener.Addr()))
	add("http", checked, "http", fmt.Sprintf("http: {url: %q}", server.URL))
	add("file", checked, "file", fmt.Sprintf("file: {path: %q}", there))
	add("exec", checked, "exec", "exec: {command: {entrypoint: busybox, args: ['true']}}")
	for _, x := range all {
		x.w.ready()
	}
	<-time.After(settleTime) // one pass of the sampler, and what the start left
	for _, x := range all {
		x.look(t, -1)
	}
	<-time.After(overheadTime)
	for _, x := range all {
		x.look(t, 1)
	}
	tab := newTable(fmt.Sprintf("What process-wrapper costs, over %v", overheadTime),
		"", "processes", "RSS", "anonymous", "threads", "% of a core", "checks/s", "CPU per check")
	idle := all[1].cpu
	for _, x := range all {
		s := procStatus(t, x.w.pid)
		cells := []string{x.name, strconv.Itoa(x.processes), mib(ofKB(t, s["VmRSS"])), mib(ofKB(t, s["RssAnon"])), s["Threads"],
			fmt.Sprintf("%.3f", 100*x.cpu.Seconds()/overheadTime.Seconds()), "", ""}
		if x.probe != "" {
			if x.checks < float64(checked)*overheadTime.Seconds()/checkPeriod.Seconds()/2 {
				t.Errorf("%s: only %.0f checks were made", x.name, x.checks)
			}
			cells[6] = fmt.Sprintf("%.0f", x.checks/overheadTime.Seconds())
			cells[7] = fmt.Sprintf("%.0f µs", float64((x.cpu-idle).Microseconds())/x.checks)
		}
		tab.add(cells...)
	}
	tab.print()
}

// look adds what has been used and done so far, or takes it off.
func (x *costing) look(t *testing.T, sign int) {
	t.Helper()
	x.cpu += time.Duration(sign) * ran(t, x.w.pid)
	if x.probe != "" {
		for i := range x.processes {
			x.checks += float64(sign) * x.w.metric(fmt.Sprintf(`process_wrapper_probe_total{probe="%s",process_name="w_%d",result="success"}`, x.probe, i))
		}
	}
}

// ran is the time for which the threads of a process have run, to the nanosecond, without threads that
// have ended.
func ran(t *testing.T, pid int) time.Duration {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(n)
	}
	return sum
}
