package wrapper

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is how long a config must not change before it is read: editors and
// the kubelet change it in several steps.
const quiet = 200 * time.Millisecond

// watchConfig asks for a reload when the config changes: the file, a file of the
// directory, or the symbolic link by which the kubelet swaps a ConfigMap. It
// watches directories, for a file that is replaced takes its watch with it.
func (p *pod) watchConfig(ctx context.Context) error {
	path := p.flags.Config
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the config: %w", err)
	}
	defer watcher.Close()
	last := p.seen
	settled := time.After(0) // it may have changed before it was watched
	for {
		select {
		case _, ok := <-watcher.Events:
			if !ok {
				return nil
			}
			settled = time.After(quiet)
		case err, ok := <-watcher.Errors: // such as too many events: look at once
			if !ok {
				return nil
			}
			p.log.Warn("watching the config", "err", err)
			settled = time.After(quiet)
		case <-settled:
			settled = nil
			var now print
			if abandon(ctx, func() {
				rewatch(watcher, path) // where links lead may have changed
				now = fingerprint(path)
			}, func() {}) {
				return nil
			}
			if now != last {
				last = now
				p.askReload("-config-watch")
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// rewatch watches the directories in which a change of the config can show: its
// own, and that of what it links to. An error means that one is not there now.
func rewatch(watcher *fsnotify.Watcher, path string) {
	want := map[string]bool{filepath.Dir(path): true}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		want[filepath.Dir(real)] = true
		if info, err := os.Stat(real); err == nil && info.IsDir() {
			want[path], want[real] = true, true
		}
	}
	for _, dir := range watcher.WatchList() {
		if !want[dir] {
			_ = watcher.Remove(dir)
		}
	}
	for dir := range want {
		_ = watcher.Add(dir)
	}
}

// maxFingerprint bounds what is read of one file to see whether it changed.
const maxFingerprint = 32 << 20

// print tells one state of a config from another.
type print [sha256.Size]byte

// fingerprint is the hash of the files of a config; an unreadable one counts as
// empty.
func fingerprint(path string) print {
	files := []string{path}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		files = nil
		for _, pattern := range []string{"[^.]*.yaml", "[^.]*.yml", "[^.]*.json"} {
			found, _ := filepath.Glob(filepath.Join(path, pattern)) // the pattern is good
			files = append(files, found...)
		}
	}
	var all bytes.Buffer
	for _, file := range files {
		sum := sha256.New()
		if f, err := os.Open(file); err == nil {
			_, _ = io.Copy(sum, io.LimitReader(f, maxFingerprint))
			f.Close()
		}
		fmt.Fprintf(&all, "%s %x\n", filepath.Base(file), sum.Sum(nil))
	}
	return sha256.Sum256(all.Bytes())
}
