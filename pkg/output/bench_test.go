package output

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Lines of 100 bytes, newline included.
var benchLines = map[string]string{
	"text":   pad(`2026-01-02 15:04:05 request served path=/api/v1/things status=200 bytes=5120 in some time `, "x"),
	"logfmt": pad(`ts=2026-01-02T15:04:05Z level=info msg="request served" path=/api/things status=200 pad=`, "x"),
	"json":   pad(`{"ts":1735830245.12,"level":"info","msg":"request served","path":"/api/things","status":200,"p":"`, "x") + "",
}

func pad(s, with string) string {
	if strings.HasPrefix(s, "{") {
		return s + "\"}\n"
	}
	return s + strings.Repeat(with, 99-len(s)) + "\n"
}

func BenchmarkEncode(b *testing.B) {
	for _, name := range []string{"text", "logfmt", "json"} {
		for _, format := range []Format{Wrap, Auto, Plain} {
			b.Run(name+"/"+format.String(), func(b *testing.B) {
				chunk := []byte(strings.Repeat(benchLines[name], readBytes/len(benchLines[name])))
				lines := bytes.Count(chunk, newline)
				p := &Pump{}
				p.now = time.Now()
				p.enc.setTime(p.now)
				cfg := StreamConfig{Name: "web", Out: "stdout", Format: format, Labels: map[string]string{"region": "eu"}}
				s := &Stream{label: newLabel(&cfg, 4711), split: splitter{max: DefaultMaxLineBytes}, ring: new(Rings).New()}
				p.dst = &sink{fd: mustNull(b)}
				b.ReportAllocs()
				before, best := cpuTime(), time.Hour
				for b.Loop() {
					start := time.Now()
					p.encode(s, chunk)
					p.enc.out = p.enc.out[:0]
					best = min(best, time.Since(start))
				}
				b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N*lines), "cpu-ns/line")
				b.ReportMetric(float64(best.Nanoseconds())/float64(lines), "best-ns/line")
			})
		}
	}
}

func mustNull(tb testing.TB) int {
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	return int(f.Fd())
}

// BenchmarkPipeToPipe is the whole way: a process that writes flat out, the pump in this process, and a process that
// reads and forgets. cpu-ns/line is what this process spent.
func BenchmarkPipeToPipe(b *testing.B) {
	for _, name := range []string{"text", "logfmt", "json"} {
		b.Run(name+"/wrap", func(b *testing.B) { benchPipe(b, name, Wrap, 4096) })
	}
	b.Run("text/plain", func(b *testing.B) { benchPipe(b, "text", Plain, 4096) })
	b.Run("text/wrap/write per line", func(b *testing.B) { benchPipe(b, "text", Wrap, 1) })
}

func benchPipe(b *testing.B, name string, format Format, block int) {
	sinkRead, sinkWrite, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	reader := helper(b, "swallow")
	reader.Stdin = sinkRead
	if err := reader.Start(); err != nil {
		b.Fatal(err)
	}
	_ = sinkRead.Close()
	pump, err := NewPump(sinkWrite, PumpOptions{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = pump.Run(ctx) })
	var counters Counters
	s, err := pump.Open(StreamConfig{Name: "web", Out: "stdout", Format: format, Labels: map[string]string{"region": "eu"}, Counters: &counters})
	if err != nil {
		b.Fatal(err)
	}
	lines := max(b.N, 1)
	writer := helper(b, "flood", name, strconv.Itoa(lines), strconv.Itoa(block))
	writer.Stdout = s.File()
	before := cpuTime()
	b.ResetTimer()
	if err := writer.Start(); err != nil {
		b.Fatal(err)
	}
	_ = s.Attach(writer.Process.Pid)
	if err := s.Drain(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	spent := cpuTime() - before
	b.ReportMetric(float64(spent.Nanoseconds())/float64(lines), "cpu-ns/line")
	b.ReportMetric(float64(lines)/b.Elapsed().Seconds()/1e6, "Mlines/s")
	if got := counters.Lines(Info); got != uint64(lines) {
		b.Errorf("%d lines of %d", got, lines)
	}
	_ = writer.Wait()
	cancel()
	wg.Wait()
	_ = sinkWrite.Close()
	_ = reader.Wait()
}

func cpuTime() time.Duration {
	var ru unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// BenchmarkCounters is what counting costs for each read, which is one in a few hundred lines where a child is busy.
func BenchmarkCounters(b *testing.B) {
	var c Counters
	var t tally
	for b.Loop() {
		t.lines[Info] += 600
		t.lines[Error]++
		c.add(&t, readBytes)
	}
}

func BenchmarkHandler(b *testing.B) {
	log := slog.New(NewHandler(io.Discard, nil)).With("name", "web")
	b.ReportAllocs()
	for b.Loop() {
		log.Info("process started", "pid", 4711, "phase", "running", "took", time.Second)
	}
}

// helper returns this test binary as another program, see TestMain.
func helper(tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "OUTPUT_TEST_HELPER=1")
	cmd.Stderr = os.Stderr
	return cmd
}

func helperMain(args []string) error {
	switch args[0] {
	case "swallow":
		_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{os.Stdin}, make([]byte, 256<<10))
		return err
	case "flood":
		lines, _ := strconv.Atoi(args[2])
		block, _ := strconv.Atoi(args[3])
		chunk := []byte(strings.Repeat(benchLines[args[1]], block))
		for lines > 0 {
			n := min(lines, block)
			if _, err := os.Stdout.Write(chunk[:n*len(benchLines[args[1]])]); err != nil {
				return err
			}
			lines -= n
		}
		return nil
	}
	return fmt.Errorf("no helper %q", args[0])
}
