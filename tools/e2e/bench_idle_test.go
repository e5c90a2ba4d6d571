//go:build bench

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	settleTime = 12 * time.Second // one pass of our sampler comes every 10 s
	idleTime   = 30 * time.Second
	awakeBar   = 4 // seconds of these in which anything runs: the sampler's passes, at any phase
	restarts   = 10_000
)

// idler is a manager whose children do nothing.
type idler struct {
	contestant
	children int
	helpers  string // comm of further processes of the manager, one for each child

	m           *manager
	pids        []int
	first, last int // context switches
	awake       int // seconds in which there were some
}

// measureIdle watches all of them at the same time: they do nothing.
func measureIdle(t *testing.T, _ string) {
	needs(t, "tini", "s6-svscan", "runsvdir", "supervisord", "busybox")
	sleeper := func(n int) string {
		return fmt.Sprintf("- name: w\n  entrypoint: busybox\n  args: [sleep, '1000']\n  replicas: %d\n", n)
	}
	const run = "#!/bin/sh\nexec busybox sleep 1000\n"
	all := []*idler{
		{contestant: ours(t, sleeper(1)), children: 1},
		{contestant: ours(t, sleeper(1000)), children: 1000},
		{contestant: contestant{name: "tini", argv: []string{"tini", "-s", "--", "busybox", "sleep", "1000"}}, children: 1},
		{contestant: s6(t, run), children: 1, helpers: "s6-supervise"},
		{contestant: runit(t, run), children: 1, helpers: "runsv"},
		{contestant: supervisor(t, "/bin/busybox sleep 1000"), children: 1},
	}
	tab := newTable(fmt.Sprintf("Idle: memory %v after the start, wake-ups in the %v after that", settleTime, idleTime),
		"", "children", "processes", "RSS", "bar", "anonymous", "bar", "threads", "bar", "switches/s", "seconds awake", "bar", "verdict")
	for _, i := range all {
		i.m = i.launch(t)
		i.m.discard()
	}
	<-time.After(settleTime)
	for _, i := range all {
		i.pids = i.processes(t)
		i.first = switches(t, i.pids)
		i.last = i.first
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range int(idleTime / time.Second) {
		<-tick.C
		for _, i := range all {
			i.look(t)
		}
	}
	for _, i := range all {
		i.row(t, tab)
	}
	tab.print()
}

func (i *idler) processes(t *testing.T) []int {
	t.Helper()
	below := descendants(t, i.m.pid)
	pids, sleepers := []int{i.m.pid}, 0
	for _, p := range below {
		switch p.comm {
		case i.helpers:
			pids = append(pids, p.pid)
		case "busybox":
			sleepers++
		}
	}
	if sleepers != i.children {
		t.Fatalf("%s: %d children, not %d: %v", i.name, sleepers, i.children, below)
	}
	return pids
}

// look notes whether it ran since the last look.
func (i *idler) look(t *testing.T) {
	t.Helper()
	if now := switches(t, i.pids); now != i.last {
		i.last = now
		i.awake++
	}
}

func (i *idler) row(t *testing.T, tab *table) {
	perSecond := float64(i.last-i.first) / idleTime.Seconds()
	rss, anon, threads := 0, 0, 0
	for _, pid := range i.pids {
		s := procStatus(t, pid)
		rss, anon, threads = rss+ofKB(t, s["VmRSS"]), anon+ofKB(t, s["RssAnon"]), threads+ofKB(t, s["Threads"])>>10
	}
	cells := []string{i.name, strconv.Itoa(i.children), strconv.Itoa(len(i.pids)), mib(rss), "", mib(anon), "", strconv.Itoa(threads), "", fmt.Sprintf("%.2f", perSecond), strconv.Itoa(i.awake), "", ""}
	switch {
	case i.name != "process-wrapper":
	case i.children == 1:
		cells[4], cells[6], cells[11] = "10 MiB", "4 MiB", strconv.Itoa(awakeBar)
		cells[12] = verdict(rss, 10<<20) + ", " + verdict(anon, 4<<20) + ", " + verdict(i.awake, awakeBar)
	default:
		cells[4], cells[8], cells[12] = "28 MiB", "12", verdict(rss, 28<<20)+", "+verdict(threads, 12)
	}
	tab.add(cells...)
}

// ofKB reads "12 kB" as bytes, and so a plain number as 1,024 times as much.
func ofKB(t *testing.T, field string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(field, " kB"))
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// switches counts how often threads gave up or lost their processor: each wake-up ends in one.
func switches(t *testing.T, pids []int) int {
	t.Helper()
	sum := 0
	for _, pid := range pids {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue // the thread has ended
			}
			for line := range strings.Lines(string(text)) {
				if key, value, _ := strings.Cut(line, ":"); strings.HasSuffix(key, "voluntary_ctxt_switches") {
					n, err := strconv.Atoi(strings.TrimSpace(value))
					if err != nil {
						t.Fatal(err)
					}
					sum += n
				}
			}
		}
	}
	return sum
}

// measureRestarts looks at the memory while one process ends again and again. What the first
// thousand leave is the heap that any work needs.
func measureRestarts(t *testing.T, _ string) {
	tab := newTable(fmt.Sprintf("%d restarts of one process", restarts), "", "anonymous", "bar", "verdict")
	w := start(t, options{config: "- name: w\n  entrypoint: busybox\n  args: ['true']\n  backoff: {initial: 1ms, max: 1ms, jitter: 0%}\n"})
	at := func(n int) int {
		t.Helper()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for last, since := 0, time.Now(); ; <-tick.C {
			got := w.states()["w"].Restarts
			if got >= n {
				return ofKB(t, procStatus(t, w.pid)["RssAnon"])
			}
			if got != last {
				last, since = got, time.Now()
			} else if time.Since(since) > patience {
				t.Fatalf("stuck at %d restarts", got)
			}
		}
	}
	began := time.Now()
	before := at(1000)
	after := at(1000 + restarts)
	tab.add("after 1,000", mib(before), "", "")
	tab.add(fmt.Sprintf("after %d more", restarts), mib(after), "+ 1 MiB", verdict(after-before, 1<<20))
	tab.add("a restart takes", ms(time.Since(began)/(restarts+1000)), "", "")
	tab.print()
}
