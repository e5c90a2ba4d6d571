//go:build bench

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	logRounds = 5
	logBudget = 100 * time.Second // no further round after that
	fileLines = 500_000           // numbered from 0
	logCopies = 4                 // of the file are a run
	logLines  = logCopies * fileLines
	lineBytes = 100
	silence   = 5 * time.Second // ends the wait for lines that are lost
)

// Lines as programs write them, up to the number that all of them have.
var logKinds = map[string][2]string{
	"plain":  {"2026-01-02 15:04:05 request served path=/api/v1/things seq ", " "},
	"logfmt": {"ts=2026-01-02T15:04:05Z level=info msg=\"request served\" path=/api status=200 seq=", " p="},
	"json":   {`{"ts":1735830245.12,"level":"info","msg":"request served","status":200,"seq":"`, `","p":"`},
}

// logFile writes lines of 100 bytes, newline included.
func logFile(t *testing.T, kind string) string {
	t.Helper()
	parts := logKinds[kind]
	var all bytes.Buffer
	for i := range fileLines {
		line := fmt.Sprintf("%s%08d%s", parts[0], i, parts[1])
		tail := "\n"
		if kind == "json" {
			tail = "\"}\n"
		}
		line += strings.Repeat("x", lineBytes-len(line)-len(tail)) + tail
		all.WriteString(line)
	}
	path := filepath.Join(t.TempDir(), kind)
	if err := os.WriteFile(path, all.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// logger is somebody through whom lines go.
type logger struct {
	name, does string
	barCPU     float64 // µs per line; 0: none
	manager    func(t *testing.T, script string) contestant
	filter     []string // instead of manager: reads stdin
	file       string   // which the lines go to; "": to stdout
	input      string   // file with the lines

	speed, cpu float64 // best so far: lines/s, µs per line
	lost       int
}

func measureLog(t *testing.T, _ string) {
	needs(t, "s6-log", "svlogd", "supervisord")
	files := map[string]string{}
	for kind := range logKinds {
		files[kind] = logFile(t, kind)
	}
	svlogd := t.TempDir()
	if err := os.WriteFile(filepath.Join(svlogd, "config"), []byte("s0\n"), 0o600); err != nil { // never rotate
		t.Fatal(err)
	}
	wrapper := func(env ...string) func(*testing.T, string) contestant {
		return func(t *testing.T, text string) contestant { return ours(t, script("w", text), env...) }
	}
	all := []*logger{
		{name: "process-wrapper, plain", does: "logfmt with 5 labels", barCPU: 0.25, manager: wrapper(), input: files["plain"]},
		{name: "process-wrapper, logfmt", does: "logfmt, fields kept", barCPU: 0.45, manager: wrapper(), input: files["logfmt"]},
		{name: "process-wrapper, JSON", does: "logfmt, fields kept", barCPU: 0.45, manager: wrapper(), input: files["json"]},
		{name: "process-wrapper, LOG_FORMAT=free", does: "passed through", manager: wrapper("LOG_FORMAT=free"), input: files["plain"]},
		{name: "cat", does: "copied: the limit", filter: []string{"cat"}, input: files["plain"]},
		{name: "s6-log 1", does: "passed through, line by line", filter: []string{"s6-log", "1"}, input: files["plain"]},
		{name: "s6-log t 1", does: "a TAI64N stamp", filter: []string{"s6-log", "t", "1"}, input: files["plain"]},
		{name: "svlogd -tt DIR", does: "a UTC stamp, to a file", filter: []string{"svlogd", "-tt", svlogd}, file: filepath.Join(svlogd, "current"), input: files["plain"]},
		{name: "supervisord", does: "passed through to /dev/stdout", manager: func(t *testing.T, text string) contestant {
			return supervisor(t, "/bin/sh "+write(t, "run.sh", text))
		}, input: files["plain"]},
	}
	tab := newTable(fmt.Sprintf("Log path: one child, %d lines of %d bytes flat out, into a pipe; best of up to %d", logLines, lineBytes, logRounds),
		"through", "what becomes of a line", "lines/s", "bar", "CPU per line", "bar", "× cat's CPU", "lost", "verdict")
	for began, n := time.Now(), 0; n < logRounds && time.Since(began) < logBudget; n++ {
		for _, l := range all {
			t.Run("round", func(t *testing.T) { l.round(t) })
		}
	}
	for _, l := range all {
		l.row(tab, all[4].cpu)
		if l.lost != 0 && l.manager != nil {
			t.Errorf("%s: %d lines lost", l.name, l.lost)
		}
	}
	tab.print()
	for _, l := range all[:4] {
		t.Run("order", func(t *testing.T) { l.verify(t) })
	}
}

func (l *logger) row(tab *table, limit float64) {
	bars, verdicts := [2]string{"", ""}, ""
	if l.barCPU > 0 {
		bars = [2]string{"2.0 M", fmt.Sprintf("%.2f µs", l.barCPU)}
		verdicts = atLeast(l.speed, 2e6) + ", " + verdict(l.cpu, l.barCPU)
	}
	tab.add(l.name, l.does, fmt.Sprintf("%.2f M", l.speed/1e6), bars[0], fmt.Sprintf("%.3f µs", l.cpu), bars[1],
		fmt.Sprintf("%.1f", l.cpu/limit), strconv.Itoa(l.lost), verdicts)
}

// run starts it with its lines coming.
func (l *logger) run(t *testing.T) *manager {
	t.Helper()
	text := "cat" + strings.Repeat(" "+l.input, logCopies) + "; exec sleep 1000"
	if l.manager != nil {
		return l.manager(t, text).launch(t)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	feeder := exec.Command("/bin/sh", "-c", text)
	feeder.Stdout = w
	err = feeder.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = feeder.Process.Kill(); _ = feeder.Wait() })
	m := contestant{name: l.name, argv: l.filter, stdin: r}.launch(t)
	r.Close()
	return m
}

// round measures once. CPU is read while everybody is still alive, so that no child's is in it.
func (l *logger) round(t *testing.T) {
	if l.file != "" {
		_ = os.Remove(l.file) // there is none before the first round
	}
	m := l.run(t)
	before := cpuTime(t, m.pid)
	lines, took := 0, time.Duration(0)
	if l.file == "" {
		lines, took = countLines(t, m.out)
	} else {
		lines, took = countFile(t, l.file)
	}
	if lines == 0 {
		t.Fatalf("%s: nothing came", l.name)
	}
	l.speed = max(l.speed, float64(lines)/took.Seconds())
	if cpu := float64((cpuTime(t, m.pid) - before).Microseconds()) / float64(lines); l.cpu == 0 || cpu < l.cpu {
		l.cpu = cpu
	}
	l.lost += logLines - lines
}

// countLines reads until all lines are there or no more come. The time is from the first bytes on.
func countLines(t *testing.T, r *os.File) (lines int, took time.Duration) {
	t.Helper()
	buf := make([]byte, 1<<20)
	var first, last time.Time
	for wait := patience; lines < logLines; wait = silence {
		if err := r.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		n, err := r.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = time.Now()
		if first.IsZero() {
			first = last
		}
		lines += bytes.Count(buf[:n], []byte("\n"))
	}
	return lines, last.Sub(first)
}

// countFile waits until a file is as long as it must become: all its lines are equally long.
func countFile(t *testing.T, path string) (lines int, took time.Duration) {
	t.Helper()
	const stamp = len("2026-01-02_15:04:05.00000 ")
	const all = int64(logLines * (lineBytes + stamp))
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var first, last time.Time
	size := int64(0)
	for size < all && (last.IsZero() || time.Since(last) < silence) {
		now := <-tick.C
		info, err := os.Stat(path)
		if err != nil || info.Size() == size {
			continue
		}
		size, last = info.Size(), now
		if first.IsZero() {
			first = now
		}
	}
	return int(size) / (lineBytes + stamp), last.Sub(first)
}

// verify checks that each line comes once and in its place.
func (l *logger) verify(t *testing.T) {
	m := l.run(t)
	if err := m.out.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	lines, seen := bytes.NewBuffer(nil), 0
	buf := make([]byte, 1<<20)
	for seen < logLines {
		n, err := m.out.Read(buf)
		if err != nil {
			t.Fatalf("%s: after %d lines: %v", l.name, seen, err)
		}
		lines.Write(buf[:n])
		for {
			end := bytes.IndexByte(lines.Bytes(), '\n')
			if end < 0 {
				break
			}
			line := lines.Next(end + 1)
			if got := number(line); got != seen%fileLines {
				t.Fatalf("%s: line %d is %q", l.name, seen, line)
			}
			seen++
		}
	}
}

// number returns the number of a line, -1 where there is none.
func number(line []byte) int {
	_, tail, found := bytes.Cut(line, []byte("seq"))
	tail = bytes.TrimLeft(tail, `"':= `)
	if !found || len(tail) < 8 {
		return -1
	}
	n, err := strconv.Atoi(string(tail[:8]))
	if err != nil {
		return -1
	}
	return n
}
