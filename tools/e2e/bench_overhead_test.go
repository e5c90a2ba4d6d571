//go:build bench

package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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

// measureOverhead prints the tables of docs/overhead.md, and with -update writes them there. The CPU time
// of all that does little is taken at the same time.
func measureOverhead(t *testing.T, _ string) {
	needs(t, "busybox")
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	began := loadAverage()
	all := startCosting(t, server)
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
	tables := map[string]*table{"overhead-idle": idleTable(t, all), "overhead-checks": checksTable(t, all)}
	for _, x := range all {
		_ = x.w.stop()
	}
	tables["overhead-output"] = outputTable(t)
	measured := newTable("When and where", fmt.Sprintf("Measured on %s with %s on %d × %s, %s; load average %s at the start, %s at the end.",
		time.Now().UTC().Format(time.DateOnly), strings.Replace(runtime.Version(), "go", "Go ", 1), runtime.NumCPU(), cpuModel(), kernel(), began, loadAverage()))
	tables["overhead-measured"] = measured
	const file = root + "/docs/overhead.md"
	page := string(content(t, file))
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		tables[name].print()
		page = pasted(t, page, name, tables[name].markdown())
	}
	if *update {
		if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// startCosting starts what costs: idle ones, and one for each kind of check.
func startCosting(t *testing.T, server *httptest.Server) []*costing {
	t.Helper()
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
		add("", n, "", "")
	}
	add("`file`", checked, "file", fmt.Sprintf("file: {path: %q}", there))
	add("`tcp`", checked, "tcp", fmt.Sprintf("tcp: {socket: %q}", server.Listener.Addr()))
	add("`http`", checked, "http", fmt.Sprintf("http: {url: %q}", server.URL))
	add("`exec` (`busybox true`)", checked, "exec", "exec: {command: {entrypoint: busybox, args: ['true']}}")
	return all
}

func idleTable(t *testing.T, all []*costing) *table {
	t.Helper()
	tab := newTable(fmt.Sprintf("Idle, over %v", overheadTime), "processes", "RSS", "anonymous", "threads", "% of a core")
	for _, x := range all {
		if x.probe == "" {
			s := procStatus(t, x.w.pid)
			tab.add(strconv.Itoa(x.processes), mib(ofKB(t, s["VmRSS"])), mib(ofKB(t, s["RssAnon"])), s["Threads"],
				fmt.Sprintf("%.2f", 100*x.cpu.Seconds()/overheadTime.Seconds()))
		}
	}
	return tab
}

// checksTable takes what ten processes cost without checks off.
func checksTable(t *testing.T, all []*costing) *table {
	t.Helper()
	tab := newTable(fmt.Sprintf("Checks, over %v", overheadTime), "check", "CPU time of process-wrapper for each",
		"with the default period of 5 s, 10 processes: % of a core", "RSS", "anonymous")
	idle := all[1].cpu
	for _, x := range all {
		if x.probe == "" {
			continue
		}
		if x.checks < float64(checked)*overheadTime.Seconds()/checkPeriod.Seconds()/2 {
			t.Errorf("%s: only %.0f checks were made", x.name, x.checks)
		}
		each := (x.cpu - idle).Seconds() / x.checks
		s := procStatus(t, x.w.pid)
		tab.add(x.name, fmt.Sprintf("%.2f ms", 1000*each), fmt.Sprintf("%.2f", 100*each*2), mib(ofKB(t, s["VmRSS"])), mib(ofKB(t, s["RssAnon"])))
	}
	return tab
}

func outputTable(t *testing.T) *table {
	t.Helper()
	tab := newTable(fmt.Sprintf("Output: one child, %d lines of %d bytes flat out, into a pipe; best of 3", logLines, lineBytes),
		"lines", "lines a second", "CPU time of a line", "10,000 a second: % of a core")
	for _, of := range []struct{ name, kind, format string }{
		{"text", "plain", ""}, {"logfmt", "logfmt", ""}, {"JSON", "json", ""}, {"text with `LOG_FORMAT=free`, passed on as it is", "plain", "free"},
	} {
		l := &logger{name: of.name, input: logFile(t, of.kind), manager: func(t *testing.T, text string) contestant {
			return ours(t, script("w", text), "LOG_FORMAT="+of.format)
		}}
		for range 3 {
			t.Run("round", func(t *testing.T) { l.round(t) })
		}
		if l.lost != 0 {
			t.Errorf("%s: %d lines were lost", l.name, l.lost)
		}
		tab.add(l.name, fmt.Sprintf("%.2f million", l.speed/1e6), fmt.Sprintf("%.2f µs", l.cpu), fmt.Sprintf("%.1f", l.cpu))
	}
	return tab
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
