package output

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// destinations are the kinds of files that a container may give us as stdout.
func destinations(t *testing.T) map[string]func() (r, w *os.File) {
	plain := func() (r, w *os.File) { return pipe(t) }
	kinds := map[string]func() (r, w *os.File){
		"a blocking pipe": func() (r, w *os.File) {
			r, w = plain()
			w = dup(t, w)
			t.Cleanup(func() { _ = w.Close() })
			setNonblock(t, w, false)
			return r, w
		},
		"a pipe that others have made non-blocking": func() (r, w *os.File) {
			r, w = plain()
			setNonblock(t, w, true)
			return r, w
		},
		"a socket": func() (r, w *os.File) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				t.Fatal(err)
			}
			r, w = os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
			t.Cleanup(func() { _, _ = r.Close(), w.Close() })
			return r, w
		},
	}
	maps.Copy(kinds, terminals(t))
	return kinds
}

func setNonblock(t *testing.T, f *os.File, on bool) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.SetNonblock(int(fd), on) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// waitFull returns when the pump waits for its destination.
func waitFull(t *testing.T, p *Pump) {
	t.Helper()
	for ctx := within(t); ; {
		p.mu.Lock()
		full := p.blocked != nil
		p.mu.Unlock()
		if full {
			return
		}
		if ctx.Err() != nil {
			t.Fatal("the pump never waited for its destination")
		}
		runtime.Gosched()
	}
}

func TestASlowReaderSlowsTheChildAndNothingElse(t *testing.T) {
	for name, open := range destinations(t) {
		for _, careful := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, asked first %v", name, careful), func(t *testing.T) {
				r, w := open()
				pump := newTestPump(t, w, careful)
				const lines = 20_000
				s, child := pump.feed(StreamConfig{})
				var writer sync.WaitGroup
				writer.Go(func() {
					defer func() { _ = child.Close() }()
					for i := range lines {
						if _, err := fmt.Fprintf(child, "line %d of the child\n", i); err != nil {
							t.Error(err)
							return
						}
					}
				})
				waitFull(t, pump.Pump)
				for range 100 { // our own lines are taken at once
					if _, err := pump.Write([]byte("time=x msg=ours\n")); err != nil {
						t.Error(err)
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				other, otherW := pump.feed(StreamConfig{Name: "other"})
				_, _ = otherW.WriteString("the other\n")
				if err := other.Drain(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("drain while full: %v", err)
				}
				got := map[string]int{}
				scan := bufio.NewScanner(r)
				for range lines + 101 {
					if !scan.Scan() {
						t.Fatal(scan.Err())
					}
					m := msgs(t, []string{scan.Text() + "\n"})[0]
					if kind, ok := strings.CutPrefix(m, "line "); ok {
						if kind != fmt.Sprintf("%d of the child", got["child"]) {
							t.Fatalf("%q is out of order", m)
						}
						m = "child"
					}
					got[m]++
				}
				writer.Wait()
				pump.drain(s)
				_ = otherW.Close()
				if got["child"] != lines || got["ours"] != 100 || got["the other"] != 1 {
					t.Errorf("%v", got)
				}
			})
		}
	}
}

// newTestPump is runPump, for which asking first can be forced as where /proc is missing.
func newTestPump(t *testing.T, w *os.File, careful bool) *harness {
	t.Helper()
	p, err := NewPump(w, PumpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if careful {
		p.dst.reopen = func(int) (int, error) { return -1, unix.EACCES }
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return &harness{p, t, stop}
}

func TestRunEndsInBoundedTimeWhenNobodyReads(t *testing.T) {
	_, w := pipe(t)
	pump := runPump(t, w, PumpOptions{FlushTimeout: 10 * time.Millisecond, QueueBytes: 1000})
	s, child := pump.feed(StreamConfig{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			if _, err := fmt.Fprintln(child, strings.Repeat("x", 1000)); err != nil {
				return // the pump is gone
			}
		}
	})
	waitFull(t, pump.Pump)
	for range 100 {
		_, _ = pump.Write([]byte("a line of ours that may have to go\n"))
	}
	if got := pump.Counters().Dropped(DroppedByQueue); got < 50 {
		t.Errorf("%d lines dropped by the queue", got)
	}
	pump.stop()
	writer.Wait()
	_ = child.Close()
	if err := s.Drain(t.Context()); !errors.Is(err, errEnded) {
		t.Errorf("drain: %v", err)
	}
	if pump.Counters().Dropped(DroppedByError) == 0 {
		t.Error("what was not written is not counted")
	}
}

func TestAReaderThatWentAwayBlocksNobody(t *testing.T) {
	for name, open := range destinations(t) {
		t.Run(name, func(t *testing.T) {
			r, w := open()
			pump := runPump(t, w, PumpOptions{})
			_ = r.Close()
			s, child := pump.feed(StreamConfig{})
			for range 5000 {
				if _, err := fmt.Fprintln(child, strings.Repeat("x", 100)); err != nil {
					t.Fatal(err)
				}
			}
			_ = child.Close()
			pump.drain(s)
			if got := pump.Counters().Dropped(DroppedByError); got != 5000 {
				t.Errorf("%d lines counted", got)
			}
		})
	}
}

func TestAfterAFullDiskTheLossIsTold(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("no /dev/full: %v", err) // only Linux has it
	}
	defer func() { _ = full.Close() }()
	p, err := NewPump(full, PumpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Unix(1_700_000_000, 0)
	say := func(after time.Duration, s string) {
		p.now = start.Add(after)
		p.enc.setTime(p.now)
		p.enc.out = append(p.enc.out, s...)
		p.flush()
	}
	say(0, "a\nb\n")
	say(time.Millisecond, "c\n")
	r, w := pipe(t)
	p.dst, _ = newSink(w)
	p.dst.midLine = true
	say(500*time.Millisecond, "d\n")
	say(1500*time.Millisecond, "e\n")
	say(1600*time.Millisecond, "f\n")
	_ = w.Close()
	got, _ := io.ReadAll(r)
	want := "\ntime=2023-11-14T22:13:21.500Z level=error msg=\"lines lost because they could not be written\" " +
		"error=\"no space left on device\" dropped=4\ne\nf\n"
	if string(got) != want || p.Counters().Dropped(DroppedByError) != 4 {
		t.Errorf("%d dropped, %q", p.Counters().Dropped(DroppedByError), got)
	}
}

func TestAClosedDestinationIsRefused(t *testing.T) {
	_, w := pipe(t)
	_ = w.Close()
	if _, err := NewPump(w, PumpOptions{}); err == nil || !strings.Contains(err.Error(), "destination |1") {
		t.Errorf("%v", err)
	}
}

func TestALineIsOutAtOnce(t *testing.T) {
	r, w := pipe(t)
	pump := runPump(t, w, PumpOptions{})
	_, child := pump.feed(StreamConfig{})
	defer func() { _ = child.Close() }()
	in := bufio.NewReader(r)
	for i := range 100 { // each waits for the one before
		_, _ = fmt.Fprintln(child, i)
		line, err := in.ReadString('\n')
		if err != nil || !strings.Contains(line, fmt.Sprintf("msg=%q", fmt.Sprint(i))) {
			t.Fatalf("%q, %v", line, err)
		}
		if _, err := pump.Write([]byte("ours\n")); err != nil {
			t.Fatal(err)
		}
		if line, err = in.ReadString('\n'); err != nil || line != "ours\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
}

func TestAFloodDoesNotStarveOthers(t *testing.T) {
	r, w := pipe(t)
	pump := runPump(t, w, PumpOptions{})
	var writers sync.WaitGroup
	_, flood := pump.feed(StreamConfig{Name: "flood"})
	chunk := []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", 600))
	writers.Go(func() {
		for {
			if _, err := flood.Write(chunk); err != nil {
				_ = flood.Close()
				return
			}
		}
	})
	_, quiet := pump.feed(StreamConfig{Name: "quiet"})
	defer func() { _ = quiet.Close() }()
	in := bufio.NewReader(r)
	for i := range 20 {
		_, _ = fmt.Fprintln(quiet, "hello")
		for n := 0; ; n++ {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, "name=quiet") {
				break
			}
			if n > 20_000 { // some pipes and buffers full
				t.Fatalf("line %d is behind %d lines of the flood", i, n)
			}
		}
	}
	_ = r.Close()
	pump.stop()
	writers.Wait()
}
