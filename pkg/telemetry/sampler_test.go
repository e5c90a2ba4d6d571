package telemetry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// fakeSystem is a system with some processes, and notes when it is read.
type fakeSystem struct {
	mu      sync.Mutex // guards all of it
	stats   []stat
	err     error
	looks   []time.Time
	counted int
	limits  int
}

func (f *fakeSystem) scan(to []stat) ([]stat, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks = append(f.looks, time.Now())
	return append(to, f.stats...), f.err
}

func (f *fakeSystem) fds(int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counted++
	return 3
}

func (f *fakeSystem) maxFDs(context.Context, int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limits++
	return 99
}

func (f *fakeSystem) set(stats ...stat) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats = stats
}

// seconds returns when it was read, since start, and forgets it.
func (f *fakeSystem) seconds(start time.Time) []float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []float64
	for _, t := range f.looks {
		out = append(out, t.Sub(start).Seconds())
	}
	f.looks = nil
	return out
}

func runSampler(s *Sampler, board *status.Board) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx, board) })
	return func() {
		cancel()
		wg.Wait()
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestSamplerLooksOnlyWhileSomethingRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sys := &fakeSystem{}
		s := newSampler(quiet(), sys)
		board := status.NewBoard()
		stop := runSampler(s, board)
		defer stop()
		start := time.Now()
		board.Put(status.State{Name: "x", Phase: status.Waiting})
		time.Sleep(time.Hour)
		if got := sys.seconds(start); got != nil {
			t.Errorf("looked at %v while nothing ran", got)
		}
		start = time.Now()
		board.Put(status.State{Name: "x", Phase: status.Running, PID: 10})
		time.Sleep(25 * time.Second)
		board.Put(status.State{Name: "x", Phase: status.Ready, PID: 10})
		board.Put(status.State{Name: "y", Phase: status.Running, PID: 11})
		time.Sleep(6 * time.Second)
		if d := cmp.Diff([]float64{0, 10, 20, 30}, sys.seconds(start)); d != "" {
			t.Error(d)
		}
		board.Put(status.State{Name: "x", Phase: status.Backoff})
		board.Put(status.State{Name: "y", Phase: status.Completed})
		time.Sleep(10 * time.Second)
		sys.seconds(start)
		time.Sleep(time.Hour)
		if got := sys.seconds(start); got != nil {
			t.Errorf("looked at %v after everything had ended", got)
		}
	})
}

func TestSamplerLooksEverySecondWhileALimitIsWatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sys := &fakeSystem{}
		s := newSampler(quiet(), sys)
		board := status.NewBoard()
		board.Put(status.State{Name: "x", Phase: status.Running, PID: 10})
		sys.set(stat{pid: 10}, stat{pid: 11, ppid: 10})
		stop := runSampler(s, board)
		defer stop()
		start := time.Now()
		time.Sleep(3500 * time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if err := s.Watch(100)(ctx, 10); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(14200 * time.Millisecond)
		cancel()
		wg.Wait()
		time.Sleep(22 * time.Second)
		want := []float64{0, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5, 12.5, 13.5, 14.5, 15.5, 16.5, 17.5, 18.5, 28.5, 38.5}
		if d := cmp.Diff(want, sys.seconds(start)); d != "" {
			t.Error(d)
		}
		if sys.counted != 2*4 || sys.limits != 1 { // of two processes, at 0, 10.5, 28.5, 38.5
			t.Errorf("descriptors were counted %d times, limits read %d times", sys.counted, sys.limits)
		}
	})
}

func TestWatchFindsTheTreeThatUsesTooMuch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sys := &fakeSystem{}
		s := newSampler(quiet(), sys)
		board := status.NewBoard()
		stop := runSampler(s, board)
		defer stop()
		const mib = 1 << 20
		sys.set(stat{pid: 10, rss: 50 * mib}, stat{pid: 11, ppid: 10, rss: 50 * mib}, stat{pid: 20, rss: 500 * mib})
		board.Put(status.State{Name: "x", Phase: status.Running, PID: 20})
		var wg sync.WaitGroup
		var err error
		start := time.Now()
		wg.Go(func() { err = s.Watch(100*mib)(t.Context(), 10) }) // the board does not know it yet
		time.Sleep(5500 * time.Millisecond)
		synctest.Wait()
		if err != nil {
			t.Errorf("exactly the limit: %v", err)
		}
		sys.set(stat{pid: 10, rss: 50 * mib}, stat{pid: 11, ppid: 10, rss: 51 * mib}, stat{pid: 20, rss: 500 * mib})
		wg.Wait()
		var over *OverLimit
		if !errors.As(err, &over) || *over != (OverLimit{Limit: 100 * mib, Used: 101 * mib}) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("after %v", took)
		}
		if over != nil && (over.Error() != "memory limit exceeded: 101 MiB used of 100 MiB" || over.Reason() != "memory") {
			t.Errorf("%v (%s)", over, over.Reason())
		}
	})
}

func TestUsage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sys := &fakeSystem{}
		s := newSampler(quiet(), sys)
		board := status.NewBoard()
		board.Put(status.State{Name: "x", Phase: status.Running, PID: 10})
		sys.set(stat{pid: 10, rss: 100, threads: 2, own: time.Second}, stat{pid: 11, ppid: 10, rss: 1, threads: 1}, stat{pid: 12, ppid: 10, rss: 1, threads: 1, zombie: true})
		if _, ok := s.Usage("x"); ok {
			t.Error("known before it was measured")
		}
		stop := runSampler(s, board)
		defer stop()
		synctest.Wait()
		want := Usage{PID: 10, Time: time.Now(), CPU: time.Second, Memory: 101, Processes: 2, Threads: 3, FDs: 6, MaxFDs: 99}
		if got, ok := s.Usage("x"); !ok || got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		sys.set(stat{pid: 10, rss: 100, threads: 2, own: 3 * time.Second})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		want = Usage{PID: 10, Time: time.Now(), CPU: 3 * time.Second, CPUPercent: 20, Memory: 100, Processes: 1, Threads: 2, FDs: 3, MaxFDs: 99}
		if got, _ := s.Usage("x"); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		board.Remove("x")
		board.Put(status.State{Name: "y", Phase: status.Running, PID: 20})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if _, ok := s.Usage("x"); ok {
			t.Error("known after it was removed")
		}
	})
}

func TestWithoutProcOneWarning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		sys := &fakeSystem{err: os.ErrNotExist}
		s := newSampler(slog.New(slog.NewTextHandler(&log, nil)), sys)
		board := status.NewBoard()
		board.Put(status.State{Name: "x", Phase: status.Running, PID: 10})
		stop := runSampler(s, board)
		defer stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := strings.Count(log.String(), "WARN"); n != 1 || !strings.Contains(log.String(), "hint=") {
			t.Error(log.String())
		}
		if _, ok := s.Usage("x"); ok {
			t.Error("it was measured")
		}
		sys.mu.Lock()
		sys.stats, sys.err = []stat{{pid: 10, own: time.Second}}, nil
		sys.mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if u, ok := s.Usage("x"); !ok || u.CPU != time.Second {
			t.Errorf("after it came back: %+v", u)
		}
	})
}
