//go:build bench

package e2e

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// TestMeasure drives the built binary, in turns with what Debian ships, and prints tables with the
// bars that it should hold. A bar missed is not a failure, for machines differ; a line lost is.
// make bench BENCH=log runs one part.
func TestMeasure(t *testing.T) {
	load := buildLoad(t)
	fmt.Printf("# %s: %d × %s, %s, %s\n", time.Now().UTC().Format("2006-01-02 15:04"),
		runtime.NumCPU(), cpuModel(), kernel(), runtime.Version())
	for _, part := range []struct {
		name string
		run  func(t *testing.T, load string)
	}{
		{"size", measureSize},
		{"log", measureLog},
		{"start", measureStart},
		{"thousand", measureThousand},
		{"react", measureReactions},
		{"follow", measureFollowers},
		{"idle", measureIdle},
		{"overhead", measureOverhead},
		{"preempt", measurePreemption},
		{"broken", measureBroken},
		{"restarts", measureRestarts},
		{"receive", measureReceive},
		{"holes", measureHoles},
		{"series", measureSeries},
		{"stores", measureStores},
		{"lock", measureLock},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, load) })
	}
}

// buildLoad builds what is managed.
func buildLoad(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "load")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./load")
	build.Env = environment("CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build load: %v\n%s", err, out)
	}
	return path
}

// table is printed as one block when all of it is measured.
type table struct {
	title string
	load  string // when it began
	rows  [][]string
}

func newTable(title string, head ...string) *table {
	return &table{title: title, load: loadAverage(), rows: [][]string{head}}
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the table as Markdown, so that it can be kept as it is.
func (t *table) print() {
	fmt.Printf("\n## %s\n\nLoad average at the start %s, at the end %s.\n\n", t.title, t.load, loadAverage())
	w := tabwriter.NewWriter(os.Stdout, 0, 1, 1, ' ', tabwriter.Debug)
	for i, row := range t.rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
		if i == 0 {
			fmt.Fprintln(w, strings.Repeat("---\t", len(row)-1)+"---")
		}
	}
	w.Flush()
}

// markdown returns the table as the pages have it; one row alone is a line of text.
func (t *table) markdown() string {
	if len(t.rows) == 1 && len(t.rows[0]) == 1 {
		return t.rows[0][0] + "\n"
	}
	var b strings.Builder
	for i, row := range t.rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return b.String()
}

// verdict compares with a bar that is not to be passed.
func verdict[T cmp.Ordered](measured, bar T) string {
	if measured <= bar {
		return "ok"
	}
	return "**missed**"
}

// atLeast compares with a bar that is to be reached.
func atLeast[T cmp.Ordered](measured, bar T) string { return verdict(bar, measured) }

// spread shows the least, the middle and the most of a row of measurements.
func spread(all []time.Duration) string {
	s := slices.Sorted(slices.Values(all))
	return fmt.Sprintf("%s (median %s, most %s)", ms(s[0]), ms(s[len(s)/2]), ms(s[len(s)-1]))
}

func ms(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 1, 64) + " ms"
}

func mib(bytes int) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// cpuTime is what a process, and none of its children, has used. It comes in steps of 10 ms.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks time.Duration
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(text), " ")
	return one
}

func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return "Linux " + strings.TrimSpace(string(text))
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, _ := strings.Cut(s.Text(), ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
