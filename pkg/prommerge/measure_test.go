//go:build bench

package prommerge_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// TestMeasure prints tables with the bars that merging should hold. A bar missed is not a failure, for machines
// differ. Contenders take turns, each in a process of its own, and the middle one of the ratios of all rounds
// counts, so that a busy machine changes the numbers less than the ratios.
func TestMeasure(t *testing.T) {
	fmt.Printf("# %s: %d CPUs, %s\n", time.Now().UTC().Format("2006-01-02 15:04"), runtime.NumCPU(), runtime.Version())
	t.Run("memory", measureMemory)
	pages := startRole(t, rolePages)
	defer pages.end()
	exporter := filepath.Join(t.TempDir(), "prommerge")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", exporter, "../../cmd/prommerge")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Run("http", func(t *testing.T) { measureHTTP(t, exporter, pages) })
	t.Run("encodings", func(t *testing.T) { measureEncodings(t, exporter, pages) })
	t.Run("peak", func(t *testing.T) { measurePeak(t, exporter, pages) })
}

// table is printed as one block of Markdown.
type table struct {
	title string
	rows  [][]string
}

func newTable(title string, head ...string) *table {
	rule := slices.Repeat([]string{"---"}, len(head))
	return &table{title, [][]string{head, rule}}
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print() {
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("\n## %s\n\nLoad average at the end: %.4s.\n\n", t.title, load)
	w := tabwriter.NewWriter(os.Stdout, 0, 1, 1, ' ', tabwriter.Debug)
	for _, row := range t.rows {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush()
}

// atMost and atLeast show a number with its bar; a bar of 0 is none.
func atMost(format string, v, bar float64) string  { return verdict(format, v, bar, v <= bar, "≤") }
func atLeast(format string, v, bar float64) string { return verdict(format, v, bar, v >= bar, "≥") }

func verdict(format string, v, bar float64, ok bool, sign string) string {
	s := fmt.Sprintf(format, v)
	switch {
	case bar == 0:
		return s
	case ok:
		return fmt.Sprintf("%s (%s %v)", s, sign, bar)
	}
	return fmt.Sprintf("**%s** (%s %v)", s, sign, bar)
}

func middle(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// measureMemory merges without a network. The speed is that of one target after the other.
func measureMemory(t *testing.T) {
	tab := newTable("In memory", "pages", "size", "MB per CPU second", "allocations per merge", "side by side", "expfmt takes")
	for _, wire := range []string{"text", "proto"} {
		for _, s := range pageSets(wire) {
			cpu, allocs := s.cost(t, wire, false, 500*time.Millisecond)
			_, beside := s.cost(t, wire, true, time.Second)
			bar, less := 400.0, ""
			if s.bytes() < 5e5 {
				bar = 0
			}
			if wire == "proto" && s.n <= 100 {
				pages := make([][]byte, s.n)
				for i := range pages {
					pages[i] = s.pages[i%len(s.pages)]
				}
				theirs, _ := cost(func() { decodeMergeEncode(discard{}, pages, wire) }, 500*time.Millisecond)
				less = atLeast("%.1f×", theirs.Seconds()/cpu.Seconds(), 5)
			}
			tab.add(s.name+" "+wire, fmt.Sprintf("%.1f MB", float64(s.bytes())/1e6), atLeast("%.0f", float64(s.bytes())/1e6/cpu.Seconds(), bar),
				atMost("%.0f", allocs, 64), atMost("%.0f", beside, 64), less)
		}
	}
	tab.print()
}

// cost returns CPU time and allocations of a merge in steady state.
func (s pageSet) cost(t *testing.T, wire string, async bool, atLeast time.Duration) (time.Duration, float64) {
	m := prommerge.New(prommerge.Options{Sort: true, Async: async})
	defer m.Close()
	ts := s.opened(typeOf(wire))
	merge := func() { mergeInMemory(t, m, typeOf(wire), ts) }
	for range 10 { // pools fill
		merge()
	}
	return cost(merge, atLeast)
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// cost returns CPU time and allocations of one call of f.
func cost(f func(), atLeast time.Duration) (cpu time.Duration, allocs float64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start, n := cpuTime(), 0
	for ; n < 3 || cpuTime()-start < atLeast; n++ {
		f()
	}
	cpu = (cpuTime() - start) / time.Duration(n)
	runtime.ReadMemStats(&after)
	return cpu, float64(after.Mallocs-before.Mallocs) / float64(n)
}

// cpuTime is the CPU time of this process so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// startExporter starts the program that merges.
func startExporter(t *testing.T, path string, targets []prommerge.Target) other {
	t.Helper()
	var config strings.Builder
	config.WriteString("targets:\n")
	for i := range targets {
		fmt.Fprintf(&config, "- {name: %s, url: %q}\n", targets[i].Name, targets[i].URL)
	}
	file := filepath.Join(t.TempDir(), "targets.yaml")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-listen", "127.0.0.1:0", "-config", file)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	o := start(t, cmd, out, `address="?([^\s"]+)`, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	o.url = "http://" + o.url + "/metrics"
	return o
}

// bars are those of one page set.
var bars = map[string]struct{ concat, expfmt, p50 float64 }{
	"node×10 text": {1.7, 8, 0}, "node×100 text": {2.5, 8, 3.5}, "node×1000 text": {3, 8, 0},
	"kube×1 text": {3, 8, 0}, "kube×10 text": {0, 20, 0},
}

// runner is a contender in its own process.
type runner struct {
	other
	cpu, wall []float64 // per scrape, of each round
	page      int64
}

func (r *runner) round(t *testing.T, pages other, wire, encoding string, scrapes int) {
	before := r.other.cpu(t)
	s := pages.scrape(t, r.other, wire, encoding, scrapes)
	r.cpu = append(r.cpu, (r.other.cpu(t)-before).Seconds()*1000/float64(scrapes))
	took := make([]float64, scrapes)
	for i, d := range s.Took {
		took[i] = d.Seconds() * 1000
	}
	r.wall = append(r.wall, middle(took))
	r.page = s.Bytes
}

// over returns the middle one of a's rounds divided by b's.
func over(a, b []float64) float64 {
	ratios := make([]float64, min(len(a), len(b)))
	for i := range ratios {
		ratios[i] = a[i] / b[i]
	}
	return middle(ratios)
}

func measureHTTP(t *testing.T, exporter string, pages other) {
	tab := newTable("CPU time of the merging process over loopback HTTP; concat writes the same bytes back unchanged, expfmt decodes, merges and encodes",
		"pages", "in", "out", "prommerge", "concat", "expfmt", "× concat", "expfmt takes", "p50 × concat")
	for _, wire := range []string{"text", "proto"} {
		for _, s := range pageSets(wire) {
			if s.name != "node×2000" {
				t.Run(s.name+" "+wire, func(t *testing.T) { tab.add(compared(t, exporter, pages, s, wire)...) })
			}
		}
	}
	tab.print()
}

// compared is the row of one page set.
func compared(t *testing.T, exporter string, pages other, s pageSet, wire string) []string {
	scrapes := int(max(1, min(40, 2e7/s.bytes())))
	all := map[string]*runner{"prommerge": {other: startExporter(t, exporter, targetsOf(pages.url, s.name, wire))}}
	for name := range contenders {
		all[name] = &runner{other: startRole(t, name, s.name, wire, pages.url)}
	}
	for _, r := range all {
		pages.scrape(t, r.other, wire, "identity", 3) // connects, and learns
	}
	for i := range 15 {
		all["prommerge"].round(t, pages, wire, "identity", scrapes)
		all["concat"].round(t, pages, wire, "identity", scrapes)
		if i%5 == 0 {
			all["expfmt"].round(t, pages, wire, "identity", (scrapes+7)/8)
		}
	}
	for _, r := range all {
		r.end()
	}
	p, c, e, bar := all["prommerge"], all["concat"], all["expfmt"], bars[s.name+" "+wire]
	mb := func(n int64) string { return fmt.Sprintf("%.2f MB", float64(n)/1e6) }
	millis := func(v []float64) string { return fmt.Sprintf("%.2f ms", middle(slices.Clone(v))) }
	return []string{s.name + " " + wire, mb(s.bytes()), mb(p.page), millis(p.cpu), millis(c.cpu), millis(e.cpu), atMost("%.2f", over(p.cpu, c.cpu), bar.concat),
		atLeast("%.1f×", middle(slices.Clone(e.cpu))/middle(slices.Clone(p.cpu)), bar.expfmt), atMost("%.2f", over(p.wall, c.wall), bar.p50)}
}

// measureEncodings takes the CPU time that compressed answers cost beyond plain ones.
func measureEncodings(t *testing.T, exporter string, pages other) {
	tab := newTable("Compression of the answer, MB of the page per CPU second", "pages", "page", "gzip", "zstd")
	for _, s := range []pageSet{pageSets("text")[1], pageSets("text")[4]} {
		o := startExporter(t, exporter, targetsOf(pages.url, s.name, "text"))
		took := map[string]*runner{"identity": {other: o}, "gzip": {other: o}, "zstd": {other: o}}
		for range 9 {
			for encoding, r := range took {
				r.round(t, pages, "text", encoding, 5)
			}
		}
		o.end()
		mb := float64(took["identity"].page) / 1e6
		speed := func(encoding string) string {
			return atLeast("%.0f", mb/(middle(took[encoding].cpu)-middle(took["identity"].cpu))*1000, 250)
		}
		tab.add(s.name, fmt.Sprintf("%.1f MB", mb), speed("gzip"), speed("zstd"))
	}
	tab.print()
}

func measurePeak(t *testing.T, exporter string, pages other) {
	tab := newTable("How much resident memory grows at its peak, per byte of the merged page", "pages", "merged page", "1 scrape", "10 scrapes")
	for _, wire := range []string{"text", "proto"} {
		for _, s := range pageSets(wire) {
			if s.n*len(s.pages[0]) < 40e6 {
				continue
			}
			r := startExporter(t, exporter, targetsOf(pages.url, s.name, wire))
			before := r.memory(t, "VmRSS")
			row := []string{s.name + " " + wire, ""}
			for _, n := range []int{1, 9} {
				page := pages.scrape(t, r, wire, "identity", n).Bytes
				bar := 2.0
				if page < 50e6 {
					bar = 0
				}
				row[1] = fmt.Sprintf("%.1f MB", float64(page)/1e6)
				row = append(row, atMost("%.2f", float64(r.memory(t, "VmHWM")-before)/float64(page), bar))
			}
			tab.add(row...)
			r.end()
		}
	}
	tab.print()
}
