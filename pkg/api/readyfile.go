package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

const fileRetry = 10 * time.Second

// ReadinessFile is a file that exists while the pod is ready. With an empty
// Path it does nothing.
type ReadinessFile struct {
	Path string
	Log  *slog.Logger

	mu     sync.Mutex // guards what follows, and the file
	there  bool
	over   bool // it must not be made again
	failed bool // the last attempt did
	warned bool // so in the log, since the file was last made
}

// Run removes what an earlier run left, and keeps the file in step with the
// board until ctx ends; then it removes it for good. A file that cannot be
// made is logged once and tried again.
func (f *ReadinessFile) Run(ctx context.Context, board *status.Board) {
	if f.Path == "" {
		return
	}
	f.set(false, true)
	defer f.Remove()
	retry := time.NewTimer(fileRetry)
	defer retry.Stop()
	for {
		snap, changed := board.LoadPod()
		if f.set(snap.Ready(), false) {
			retry.Stop() // nothing wakes up for a file that is as it should be
		} else {
			retry.Reset(fileRetry)
		}
		select {
		case <-changed:
		case <-retry.C:
		case <-ctx.Done():
			return
		}
	}
}

// Remove removes the file, and keeps it from being made again. The file is
// gone when it returns.
func (f *ReadinessFile) Remove() {
	if f.Path == "" {
		return
	}
	f.mu.Lock()
	f.over = true
	f.mu.Unlock()
	f.set(false, true)
}

// set makes or removes the file where it is not yet as wanted, or always. It
// returns whether the file is as wanted.
func (f *ReadinessFile) set(want, always bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	want = want && !f.over
	if f.there == want && !always && !f.failed {
		return true
	}
	change := unlink
	if want {
		change = touch
	}
	err := change(f.Path)
	f.failed = err != nil
	if err == nil {
		f.there = want
		f.warned = f.warned && !want
		return true
	}
	if !f.warned {
		f.warned = true
		f.Log.Warn("readiness file is not as it should be", "path", f.Path, "err", err,
			"hint", "choose a path that can be written with -readiness-file, or none with -readiness-file=")
	}
	return false
}

// touch makes an empty file that everybody may read, and what it needs of
// directories: an image from scratch has no /tmp. What is in its place, such
// as a link that somebody left in a shared directory, is removed rather than
// followed.
func touch(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make its directory: %w", err)
	}
	if err := unlink(path); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make: %w", err)
	}
	err = file.Chmod(0o644) // whatever the umask
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("make: %w", err)
	}
	return nil
}

var errNotOurs = errors.New("it is not an empty file, so not ours, and left alone")

// unlink removes an empty file or a link, and nothing that may be of worth to
// somebody.
func unlink(path string) error {
	if info, err := os.Lstat(path); err == nil && !info.IsDir() && info.Mode().Type() != fs.ModeSymlink && (!info.Mode().IsRegular() || info.Size() > 0) {
		return fmt.Errorf("remove: %w", errNotOurs)
	}
	err := syscall.Unlink(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("remove: %w", err)
	}
	return nil
}
