package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

const (
	waitFirst = 50 * time.Millisecond
	waitMost  = 500 * time.Millisecond
)

// Wait returns nil as soon as the readiness file of another process-wrapper
// exists, and an error at the deadline, when ctx ends, or at once where it is
// a directory. It looks often at first, then twice a second: the other side
// can do without any way to tell.
func Wait(ctx context.Context, path string, deadline time.Duration) error {
	if path == "" {
		return errors.New("wait: no readiness file to wait for: give one with -readiness-file")
	}
	late := time.NewTimer(deadline)
	defer late.Stop()
	every := waitFirst
	tick := time.NewTimer(every)
	defer tick.Stop()
	for {
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			return fmt.Errorf("wait for %s: it is a directory: give the file with -readiness-file", path)
		}
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
			every = min(every+every/20, waitMost)
			tick.Reset(every)
		case <-late.C:
			if errors.Is(err, fs.ErrNotExist) {
				err = errors.New("it does not exist")
			}
			return fmt.Errorf("wait for %s: not ready within %v: %w", path, deadline, err)
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", path, context.Cause(ctx))
		}
	}
}
