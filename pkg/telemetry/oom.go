package telemetry

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

const (
	maxCgroups = 64 << 10 // bytes of /proc/self/cgroup
	maxEvents  = 4 << 10  // bytes of a file of a cgroup
)

// OOM tells deaths that the kernel caused, for lack of memory, from other kills.
// It reads how often the kernel did so in our own memory cgroup, of version 1 or
// 2, and below it. Where there is none, it knows of no such death. Make one with
// [NewOOM].
type OOM struct {
	file func() *os.File // that counts; nil for none

	mu        sync.Mutex // guards explained
	explained uint64     // this many kills belong to processes that are known

	reading sync.Mutex // guards text
	text    [maxEvents]byte
}

// NewOOM returns an OOM that has read nothing.
func NewOOM() *OOM { return newOOM("/proc/self/cgroup", "/sys/fs/cgroup") }

func newOOM(cgroups, mount string) *OOM {
	return &OOM{file: sync.OnceValue(func() *os.File {
		f, err := os.Open(findEvents(cgroups, mount))
		if err != nil {
			return nil
		}
		return f // it stays open: this is asked at each start of a process
	})}
}

// Kills returns how often the kernel has killed, 0 where that is not known.
func (o *OOM) Kills() uint64 {
	f := o.file()
	if f == nil {
		return 0
	}
	o.reading.Lock()
	defer o.reading.Unlock()
	read, _ := f.ReadAt(o.text[:], 0) // what was read counts
	n, _ := parseKills(o.text[:read])
	return n
}

// Killed says whether a process was killed for lack of memory, of which is known
// that it died of SIGKILL, and what Kills said before its start. Each kill
// explains one death.
func (o *OOM) Killed(since uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	since = max(since, o.explained)
	if o.Kills() <= since {
		return false
	}
	o.explained = since + 1
	return true
}

// findEvents returns the file that counts kills in our own cgroup. In a container
// that sees its cgroup as the root, the path in cgroups is not to be found below
// mount, and the file is right there.
func findEvents(cgroups, mount string) string {
	text, err := readHead(cgroups, maxCgroups)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(text) { // as "4:memory:/path", or "0::/path" in version 2
		fields := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(fields) != 3 {
			continue
		}
		dir, file := mount, "memory.events"
		switch {
		case fields[0] == "0" && fields[1] == "":
		case hasWord(fields[1], "memory"):
			dir, file = filepath.Join(mount, "memory"), "memory.oom_control"
		default:
			continue
		}
		for _, path := range []string{filepath.Join(dir, filepath.Join("/", fields[2]), file), filepath.Join(dir, file)} {
			text, _ := readHead(path, maxEvents)
			if _, ok := parseKills(text); ok {
				return path
			}
		}
	}
	return ""
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// parseKills reads memory.events of version 2, or memory.oom_control of version 1:
// lines of a name and a number.
func parseKills(text []byte) (n uint64, ok bool) {
	for line := range bytes.Lines(text) {
		if rest, found := bytes.CutPrefix(line, []byte("oom_kill ")); found {
			if n, err := strconv.ParseUint(string(bytes.TrimSpace(rest)), 10, 64); err == nil {
				return n, true
			}
			break
		}
	}
	return 0, false
}

// readHead reads at most limit bytes of a file.
func readHead(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was read only
	return io.ReadAll(io.LimitReader(f, limit))
}
