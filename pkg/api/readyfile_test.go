package api

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

var (
	xReady   = status.State{Name: "x", Phase: status.Ready}
	xRunning = status.State{Name: "x", Phase: status.Running}
)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func runFile(t *testing.T, f *ReadinessFile, board *status.Board) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx, board) })
	return func() {
		cancel()
		wg.Wait()
	}
}

func TestReadinessFileFollowsTheBoard(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "started")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		board := status.NewBoard()
		board.Put(xRunning)
		f := &ReadinessFile{Path: path, Log: slog.New(slog.DiscardHandler)}
		stop := runFile(t, f, board)
		steps := []struct {
			name string
			do   func()
			want bool
		}{
			{"a stale file is removed at the start", func() {}, false},
			{"it is made when ready", func() { board.Put(xReady) }, true},
			{"it is removed when no longer ready", func() { board.Put(xRunning) }, false},
			{"it is made again", func() { board.Put(xReady) }, true},
			{"it is removed on preemption", func() { board.UpdatePod(func(p *status.Pod) { p.Preempted = true }) }, false},
			{"it comes back when that is over", func() { board.UpdatePod(func(p *status.Pod) { p.Preempted = false }) }, true},
		}
		for _, s := range steps {
			s.do()
			synctest.Wait()
			if exists(path) != s.want {
				t.Errorf("%s: exists %v", s.name, !s.want)
			}
		}
		f.Remove()
		if exists(path) {
			t.Error("Remove returned before the file was gone")
		}
		board.Put(xRunning)
		synctest.Wait()
		board.Put(xReady)
		synctest.Wait()
		if exists(path) {
			t.Error("it was made again after Remove")
		}
		stop()
	})
}

func TestReadinessFileIsGoneAfterRun(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "started")
	synctest.Test(t, func(t *testing.T) {
		board := status.NewBoard()
		stop := runFile(t, &ReadinessFile{Path: path, Log: slog.New(slog.DiscardHandler)}, board)
		synctest.Wait()
		if !exists(path) {
			t.Error("not made for a pod that is ready from the start")
		}
		stop()
		if exists(path) {
			t.Error("left behind")
		}
	})
}

func TestReadinessFileMakesItsDirectoryAndIsReadable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "b", "started")
	f := &ReadinessFile{Path: path, Log: slog.New(slog.DiscardHandler)}
	if !f.set(true, false) {
		t.Fatal("not made")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
}

func TestReadinessFileThatCannotBeMade(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		block func(path string) error
		free  func(path string) error
		says  string
	}{
		{"a directory is in its place, and is left alone", func(p string) error { return os.Mkdir(p, 0o700) }, os.Remove, "is a directory"},
		{"a file with something in it is in its place", func(p string) error { return os.WriteFile(p, []byte("processes: []"), 0o600) }, os.Remove, "not an empty file"},
		{"a device is in its place, such as /dev/null", func(p string) error { return syscall.Mkfifo(p, 0o600) }, os.Remove, "not an empty file"},
		{"a file is in the place of its directory", func(p string) error {
			_ = os.Remove(filepath.Dir(p))
			return os.WriteFile(filepath.Dir(p), nil, 0o600)
		}, func(p string) error { return os.Remove(filepath.Dir(p)) }, "not a directory"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sub", "started")
			if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := c.block(path); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				board := status.NewBoard()
				stop := runFile(t, &ReadinessFile{Path: path, Log: slog.New(slog.NewTextHandler(&log, nil))}, board)
				synctest.Wait()
				for range 3 {
					board.Put(xRunning)
					synctest.Wait()
					board.Put(xReady)
					synctest.Wait()
				}
				if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), c.says) || !strings.Contains(log.String(), "hint=") {
					t.Errorf("%d warnings:\n%s", n, log.String())
				}
				if err := c.free(path); err != nil {
					t.Error(err)
				}
				time.Sleep(fileRetry + time.Second)
				synctest.Wait()
				if !exists(path) {
					t.Error("not made once it could be, although nothing changed on the board")
				}
				stop()
			})
		})
	}
}

func TestReadinessFileReplacesALink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	path := filepath.Join(dir, "started")
	f := &ReadinessFile{Path: path, Log: slog.New(slog.DiscardHandler)}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	if !f.set(true, false) || exists(target) {
		t.Error("the link was followed")
	}
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		t.Errorf("got %v, %v", info, err)
	}
}

func TestReadinessFileIgnoresTheUmask(t *testing.T) { // not parallel: the umask is of the whole process
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "started")
	if err := touch(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
}

func TestNoReadinessFile(t *testing.T) {
	t.Parallel()
	f := &ReadinessFile{}
	f.Run(context.Background(), status.NewBoard()) // returns at once
	f.Remove()
}

func TestWaitForFile(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name     string
		appears  time.Duration
		deadline time.Duration
		within   time.Duration
		err      string
	}{
		{"there already", 0, 0, 0, ""},
		{"appears soon", 200 * time.Millisecond, time.Minute, 300 * time.Millisecond, ""},
		{"appears late", 90 * time.Second, 2 * time.Minute, 90*time.Second + waitMost, ""},
		{"never appears", time.Hour, time.Minute, time.Minute, "not ready within 1m0s: it does not exist"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "started")
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				make := func() {
					if err := touch(path); err != nil {
						t.Error(err)
					}
				}
				if c.appears == 0 {
					make()
				} else {
					defer time.AfterFunc(c.appears, make).Stop()
				}
				err := Wait(context.Background(), path, c.deadline)
				if took := time.Since(start); took < c.appears && err == nil || took > c.within {
					t.Errorf("took %v", took)
				}
				if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestWaitForFileEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { cancel(os.ErrClosed) })
	if err := Wait(ctx, filepath.Join(t.TempDir(), "x"), time.Hour); err == nil || !strings.Contains(err.Error(), os.ErrClosed.Error()) {
		t.Errorf("got %v", err)
	}
	wg.Wait()
	if err := Wait(ctx, "", time.Hour); err == nil || !strings.Contains(err.Error(), "-readiness-file") {
		t.Errorf("got %v", err)
	}
}

func TestWaitDoesNotTakeADirectoryForTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := Wait(t.Context(), dir, time.Hour); err == nil || !strings.Contains(err.Error(), dir+": it is a directory") {
		t.Errorf("%v", err)
	}
}
