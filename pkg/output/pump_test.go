package output

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds what should come at once, on a machine that is busy.
const patience = 30 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// harness is a pump that runs until the end of the test or stop.
type harness struct {
	*Pump
	t    *testing.T
	stop func()
}

func runPump(t *testing.T, dst *os.File, opts PumpOptions) *harness {
	t.Helper()
	p, err := NewPump(dst, opts)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, p)
}

// serve runs a pump until the end of the test.
func serve(t *testing.T, p *Pump) *harness {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return &harness{p, t, stop}
}

// runToFile is a pump to a file, and what reads the lines in it.
func runToFile(t *testing.T) (*harness, func() []string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return runPump(t, f, PumpOptions{}), func() []string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		return linesOf(b)
	}
}

func (r *harness) open(cfg StreamConfig) *Stream {
	r.t.Helper()
	if cfg.Name == "" {
		cfg.Name = "web"
	}
	if cfg.Out == "" {
		cfg.Out = "stdout"
	}
	s, err := r.Open(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// feed opens and attaches a stream of which the test holds the write end.
func (r *harness) feed(cfg StreamConfig) (*Stream, *os.File) {
	r.t.Helper()
	s := r.open(cfg)
	w := dup(r.t, s.File())
	if err := s.Attach(42); err != nil {
		r.t.Fatal(err)
	}
	return s, w
}

// warm returns when the pump runs.
func (r *harness) warm() {
	r.t.Helper()
	s, w := r.feed(StreamConfig{})
	_ = w.Close()
	r.drain(s)
}

// sh runs a shell command as a child and returns its stream after the exit.
func (r *harness) sh(cfg StreamConfig, script string) *Stream {
	r.t.Helper()
	s := r.open(cfg)
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Stdout = s.File()
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	if err := s.Attach(cmd.Process.Pid); err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		r.t.Error(err)
	}
	return s
}

func (r *harness) drain(s *Stream) {
	r.t.Helper()
	if err := s.Drain(within(r.t)); err != nil {
		r.t.Error(err)
	}
}

// msgs returns the messages of records.
func msgs(t *testing.T, lines []string) (all []string) {
	t.Helper()
	for _, l := range lines {
		pairs, err := decodeRecord(l)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, values(pairs, "msg")...)
	}
	return all
}

func TestOneLinersOfProcessesThatExitAtOnceAreAllThere(t *testing.T) {
	pump, read := runToFile(t)
	const n = 100
	for i := range n {
		pump.drain(pump.sh(StreamConfig{}, fmt.Sprintf("echo line %d", i)))
		if got := msgs(t, read()); len(got) != i+1 || got[i] != fmt.Sprintf("line %d", i) {
			t.Fatalf("after %d: %q", i, got)
		}
	}
}

func TestBurstsEndWithTheirLastWords(t *testing.T) {
	pump, read := runToFile(t)
	var counters Counters
	const script = `i=0; while [ $i -lt 20000 ]; do echo "this is line $i of the burst"; i=$((i+1)); done; printf 'last words'`
	pump.drain(pump.sh(StreamConfig{Counters: &counters}, script))
	got := msgs(t, read())
	if len(got) != 20001 || got[20000] != "last words" {
		t.Fatalf("%d records, %q", len(got), got[len(got)-1])
	}
	size := len("last words")
	for i, msg := range got[:20000] {
		if want := fmt.Sprintf("this is line %d of the burst", i); msg != want {
			t.Fatalf("%q, want %q", msg, want)
		}
		size += len(msg) + 1
	}
	if counters.Lines(Info) != 20001 || counters.Bytes() != uint64(size) {
		t.Errorf("counted %d lines, %d bytes of %d", counters.Lines(Info), counters.Bytes(), size)
	}
}

func TestManyChildrenAtOnceKeepTheirLinesWhole(t *testing.T) {
	for _, format := range []Format{Wrap, Plain} {
		t.Run(format.String(), func(t *testing.T) {
			pump, read := runToFile(t)
			const children, lines = 50, 200
			var wg sync.WaitGroup
			for c := range children {
				s, w := pump.feed(StreamConfig{Name: fmt.Sprint("c", c), Format: format, MaxLineBytes: 64})
				wg.Go(func() {
					for i := range lines { // in two writes each, so that lines are often read in parts
						_, _ = fmt.Fprintf(w, "%d:%d:", c, i)
						_, _ = fmt.Fprintf(w, "%s\n", strings.Repeat("x", i%40))
					}
					_ = w.Close()
					pump.drain(s)
				})
			}
			wg.Wait()
			next := make([]int, children)
			all := read()
			if format == Wrap {
				all = msgs(t, all)
			}
			for _, line := range all {
				var c, i int
				var rest string
				_, _ = fmt.Sscanf(strings.TrimSuffix(line, "\n")+"!", "%d:%d:%s", &c, &i, &rest)
				if i != next[c] || rest != strings.Repeat("x", i%40)+"!" {
					t.Fatalf("line %q, want number %d", line, next[c])
				}
				next[c]++
			}
			for c, n := range next {
				if n != lines {
					t.Errorf("%d lines of child %d", n, c)
				}
			}
		})
	}
}

func TestAGrandchildThatHoldsThePipeIsDrainedUntilTheContextEnds(t *testing.T) {
	pump, read := runToFile(t)
	s, w := pump.feed(StreamConfig{})
	defer func() { _ = w.Close() }()
	if _, err := w.WriteString("one\ntwo\nunfinished"); err != nil {
		t.Fatal(err)
	}
	gone := errors.New("drain timeout")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if err := s.Drain(ctx); !errors.Is(err, gone) || !strings.Contains(err.Error(), "drain stdout of web: ") {
		t.Errorf("drain: %v", err)
	}
	if got := msgs(t, read()); strings.Join(got, ",") != "one,two,unfinished" {
		t.Errorf("%q", got)
	}
	if _, err := w.WriteString("late\n"); err == nil {
		t.Error("the pipe is still open")
	}
}

func TestAStreamWhoseProcessDidNotStartLeavesNoTrace(t *testing.T) {
	pump, read := runToFile(t)
	pump.warm()
	before := openFiles(t)
	for range 10 {
		s := pump.open(StreamConfig{})
		cmd := exec.Command("/does/not/exist")
		cmd.Stdout = s.File()
		if err := cmd.Start(); err == nil {
			t.Fatal("it started")
		}
		s.Close()
		s.Close()
		if err := s.Attach(1); err == nil {
			t.Error("attached a closed stream")
		}
		if err := s.Drain(t.Context()); !errors.Is(err, errNotAttached) {
			t.Errorf("drain: %v", err)
		}
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files are open, %d before", after, before)
	}
	if got := read(); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestFinishedStreamsGiveBackTheirFilesAndSlots(t *testing.T) {
	pump, _ := runToFile(t)
	pump.warm()
	before := openFiles(t)
	for range 100 {
		s, w := pump.feed(StreamConfig{})
		_ = w.Close()
		pump.drain(s)
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files are open, %d before", after, before)
	}
	pump.mu.Lock()
	defer pump.mu.Unlock()
	if len(pump.slots) > 2 {
		t.Errorf("%d slots", len(pump.slots))
	}
}

func TestWhatIsAttachedBeforeRunIsNotLost(t *testing.T) {
	r, w := pipe(t)
	p, err := NewPump(w, PumpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Open(StreamConfig{Name: "early", Out: "stderr"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.File().WriteString("first\n"); err != nil {
		t.Fatal(err)
	}
	if err := s.Attach(7); err != nil {
		t.Fatal(err)
	}
	_, _ = p.Write([]byte("ours, before\n"))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	if err := s.Drain(within(t)); err != nil {
		t.Error(err)
	}
	_, _ = p.Write([]byte("ours, while"))
	cancel()
	wg.Wait()
	_, _ = p.Write([]byte("ours, after"))
	if err := p.Run(t.Context()); err == nil {
		t.Error("it ran twice")
	}
	s2, err := p.Open(StreamConfig{Name: "late"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s2.Attach(8); !errors.Is(err, errEnded) {
		t.Errorf("attach: %v", err)
	}
	_ = w.Close()
	got, _ := io.ReadAll(r)
	lines := linesOf(got)
	if len(lines) != 4 || lines[0] != "ours, before\n" || !strings.Contains(lines[1], "name=early pid=7 out=stderr") ||
		lines[2] != "ours, while\n" || lines[3] != "ours, after\n" {
		t.Errorf("%q", lines)
	}
}

func TestTheEndOfRunReadsWhatThePipesHold(t *testing.T) {
	pump, read := runToFile(t)
	var streams []*Stream
	for i := range 10 {
		s, w := pump.feed(StreamConfig{Format: Plain})
		defer func() { _ = w.Close() }()
		_, _ = fmt.Fprintf(w, "line %d\nrest", i)
		streams = append(streams, s)
	}
	pump.stop()
	if got := read(); len(got) != 20 {
		t.Errorf("%q", got)
	}
	for _, s := range streams {
		if err := s.Drain(t.Context()); !errors.Is(err, errEnded) {
			t.Errorf("drain: %v", err)
		}
	}
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}
