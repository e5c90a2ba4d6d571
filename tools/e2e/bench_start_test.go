//go:build bench

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	startRounds    = 10
	thousandRounds = 3
)

var nanoseconds = regexp.MustCompile(`\b\d{19}\b`)

// measureStart takes the time until the first child's main runs, by its own clock. The bar is for the time
// until its exec: what the child itself needs until its main is taken off.
func measureStart(t *testing.T, load string) {
	needs(t, "tini", "s6-svscan", "runsvdir", "supervisord")
	run := "#!" + load + " now\n"
	all := []struct {
		contestant
		bar  time.Duration
		took []time.Duration
	}{
		{contestant: contestant{name: "nobody: the child itself", argv: []string{load, "now"}}},
		{contestant: contestant{name: "tini", argv: []string{"tini", "-s", "--", load, "now"}}},
		{contestant: ours(t, fmt.Sprintf("- name: w\n  entrypoint: %s\n  args: [now]\n", load)), bar: 10 * time.Millisecond},
		{contestant: s6(t, run)},
		{contestant: runit(t, run)},
		{contestant: supervisor(t, load+" now")},
	}
	tab := newTable(fmt.Sprintf("From our start to the first child's main, %d rounds", startRounds),
		"through", "least (median, most)", "without the child's own", "bar", "verdict")
	for range startRounds {
		for i := range all {
			m := all[i].launch(t)
			all[i].took = append(all[i].took, printed(t, m.out).Sub(m.began))
			m.end()
		}
	}
	child := least(all[0].took)
	for _, c := range all {
		if c.bar == 0 {
			tab.add(c.name, spread(c.took), ms(least(c.took)-child), "", "")
			continue
		}
		tab.add(c.name, spread(c.took), ms(least(c.took)-child), ms(c.bar), verdict(least(c.took)-child, c.bar))
	}
	tab.print()
}

// printed returns the next time that a child prints.
func printed(t *testing.T, r *os.File) time.Time {
	t.Helper()
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	text := ""
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatalf("no time in %q: %v", text, err)
		}
		text += string(buf[:n])
		if found := nanoseconds.FindString(text); found != "" {
			return parseNanoseconds(found)
		}
	}
}

func parseNanoseconds(text string) time.Time {
	ns, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(err) // it is 19 digits
	}
	return time.Unix(0, ns)
}

// crowd are many processes under one manager.
type crowd struct {
	contestant
	started func(line string) bool // says that one more runs
	lines   int                    // of these until all run

	start, cpu, stop []time.Duration
}

// measureThousand starts and stops many. supervisord stops one after the other, and is not asked
// to start as many.
func measureThousand(t *testing.T, load string) {
	needs(t, "busybox", "supervisord")
	for _, size := range []struct {
		n   int
		bar time.Duration // of the stop
	}{{100, 100 * time.Millisecond}, {1000, 500 * time.Millisecond}} {
		all := crowds(t, load, size.n)
		tab := newTable(fmt.Sprintf("%d × `busybox sleep`, best of %d", size.n, thousandRounds),
			"by", "until all run", "its CPU", "× bare", "× bare CPU", "bar", "SIGTERM → all gone, exit", "bar", "verdict")
		for range thousandRounds {
			for i := range all {
				all[i].round(t)
			}
		}
		bare := all[0]
		for i, c := range all {
			wall := float64(least(c.start)) / float64(least(bare.start))
			cpu := float64(least(c.cpu)) / float64(max(least(bare.cpu), 10*time.Millisecond))
			row := []string{c.name, spread(c.start), ms(least(c.cpu)), fmt.Sprintf("%.2f", wall), fmt.Sprintf("%.2f", cpu), "", spread(c.stop), "", ""}
			if i == 1 {
				row[7], row[8] = ms(size.bar), verdict(least(c.stop), size.bar)
				if size.n == 1000 {
					row[5], row[8] = "1.15", verdict(wall, 1.15)+", "+row[8]
				}
			}
			tab.add(row...)
		}
		tab.print()
	}
}

func crowds(t *testing.T, load string, n int) []crowd {
	line := func(text string) func(string) bool {
		return func(line string) bool { return strings.Contains(line, text) }
	}
	config := fmt.Sprintf("- name: w\n  entrypoint: /bin/busybox\n  args: [sleep, '1000']\n  replicas: %d\n", n)
	all := []crowd{
		{contestant: contestant{name: "a bare fork and exec loop", argv: []string{load, "spawn", strconv.Itoa(n), "/bin/busybox", "sleep", "1000"}}, started: line("started"), lines: 1},
		{contestant: ours(t, config), started: line(`msg="started"`), lines: n},
	}
	if n <= 100 {
		super := supervisor(t, "/bin/busybox sleep 1000", "numprocs="+strconv.Itoa(n), "process_name=w%(process_num)d")
		super.argv = slices.Delete(super.argv, 2, 3) // not silent: its log says who runs
		all = append(all, crowd{contestant: super, started: line("entered RUNNING state"), lines: n})
	}
	return all
}

// round starts all, waits until they are settled, and stops all.
func (c *crowd) round(t *testing.T) {
	one := c.contestant
	one.bothOut = true
	m := one.launch(t)
	lines := bufio.NewReader(m.out)
	if err := m.out.SetReadDeadline(time.Now().Add(2 * patience)); err != nil {
		t.Fatal(err)
	}
	for seen := 0; seen < c.lines; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: after %d of %d: %v", c.name, seen, c.lines, err)
		}
		if c.started(line) {
			seen++
		}
	}
	c.start = append(c.start, time.Since(m.began))
	c.cpu = append(c.cpu, cpuTime(t, m.pid))
	m.discard()
	<-time.After(2 * time.Second) // for what follows a start
	began := time.Now()
	m.end()
	c.stop = append(c.stop, time.Since(began))
}

func least(all []time.Duration) time.Duration {
	best := all[0]
	for _, d := range all {
		best = min(best, d)
	}
	return best
}
