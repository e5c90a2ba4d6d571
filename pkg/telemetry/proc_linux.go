package telemetry

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/process"
	"golang.org/x/sys/unix"
)

const (
	jiffy  = 10 * time.Millisecond // the kernel tells CPU time in these on all platforms
	manyFD = 1 << 16               // more are not counted one by one
)

// proc reads a mounted proc file system. It uses few and plain system calls:
// with a thousand processes this is all the work that there is.
type proc struct {
	root     string
	pageSize int64
	sized    bool // the size of a directory fd is how many there are, as since Linux 6.2
	dirents  []byte
	file     []byte
	pids     []int32
}

func newSystem(root string) system {
	p := &proc{
		root:     root,
		pageSize: int64(os.Getpagesize()),
		dirents:  make([]byte, 16<<10),
		file:     make([]byte, 1<<10),
	}
	var st unix.Stat_t
	p.sized = unix.Stat(root+"/self/fd", &st) == nil && st.Size > 0 // we have some
	return p
}

func (p *proc) scan(to []stat) ([]stat, error) {
	dir, err := p.open(p.root)
	if err != nil {
		return to, fmt.Errorf("open %s: %w", p.root, err)
	}
	defer func() { _ = unix.Close(dir) }() // it was read only
	p.pids = p.pids[:0]
	err = p.names(dir, func(name []byte) bool {
		if pid := atoi(name); pid > 0 {
			p.pids = append(p.pids, int32(pid))
		}
		return true
	})
	if err != nil {
		return to, fmt.Errorf("read %s: %w", p.root, err)
	}
	slices.Sort(p.pids)
	for _, pid := range p.pids {
		s, ok := p.stat(dir, pid)
		if ok {
			to = append(to, s)
		}
	}
	return to, nil
}

func (p *proc) open(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// names yields the names in an open directory.
func (p *proc) names(dir int, yield func([]byte) bool) error {
	const header = 19 // struct linux_dirent64: inode, offset, length of the entry, type
	for {
		n, err := unix.Getdents(dir, p.dirents)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return err
		}
		for b := p.dirents[:n]; len(b) > header; {
			size := int(binary.NativeEndian.Uint16(b[16:]))
			if size <= header || size > len(b) {
				return unix.EBADMSG
			}
			name, _, _ := bytes.Cut(b[header:size], []byte{0})
			if !yield(name) {
				return nil
			}
			b = b[size:]
		}
	}
}

// stat reads what is known of a process, unless it is gone.
func (p *proc) stat(dir int, pid int32) (stat, bool) {
	path := strconv.AppendInt(p.file[:0], int64(pid), 10)
	path = append(path, "/stat"...)
	fd, err := unix.Openat(dir, string(path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return stat{}, false
	}
	n, err := unix.Read(fd, p.file)
	_ = unix.Close(fd) // it was read only
	if err != nil || n <= 0 {
		return stat{}, false
	}
	s, ok := parseStat(p.file[:n], p.pageSize)
	return s, ok && s.pid == pid
}

// Fields of /proc/PID/stat after the name, as proc_pid_stat(5) counts them
// less 3.
const (
	fieldState  = 0
	fieldParent = 1
	fieldGroup  = 2
	fieldSess   = 3
	fieldUser   = 11
	fieldSystem = 12
	fieldCUser  = 13
	fieldCSys   = 14
	fieldThread = 17
	fieldStart  = 19
	fieldRSS    = 21
	fields      = 22
)

// parseStat reads /proc/PID/stat. The name of the program may hold anything,
// spaces and parentheses too.
func parseStat(b []byte, pageSize int64) (stat, bool) {
	end := bytes.LastIndexByte(b, ')')
	begin := bytes.IndexByte(b, ' ')
	if begin < 0 || end < begin || end+2 >= len(b) {
		return stat{}, false
	}
	var v [fields]int64
	n := 0
	for rest := b[end+2:]; n < fields; n++ {
		word, more, found := bytes.Cut(rest, []byte{' '})
		if n == fieldState {
			if len(word) != 1 {
				return stat{}, false
			}
			v[n] = int64(word[0])
		} else {
			v[n] = max(atoi(word), 0)
		}
		rest = more
		if !found {
			n++
			break
		}
	}
	pid := atoi(b[:begin])
	if n < fields || pid <= 0 || pid > math.MaxInt32 {
		return stat{}, false
	}
	return stat{
		pid:     int32(pid),
		ppid:    int32(v[fieldParent]),
		group:   int32(v[fieldGroup]),
		session: int32(v[fieldSess]),
		start:   uint64(v[fieldStart]),
		own:     time.Duration(v[fieldUser]+v[fieldSystem]) * jiffy,
		waited:  time.Duration(v[fieldCUser]+v[fieldCSys]) * jiffy,
		rss:     v[fieldRSS] * pageSize,
		threads: int32(v[fieldThread]),
		zombie:  v[fieldState] == 'Z' || v[fieldState] == 'X',
	}, true
}

// atoi returns the decimal number that b is, or -1.
func atoi(b []byte) int64 {
	if len(b) == 0 || len(b) > 18 {
		return -1
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

func (p *proc) fds(pid int) int {
	path := p.root + "/" + strconv.Itoa(pid) + "/fd"
	if p.sized {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil {
			return 0
		}
		return int(st.Size)
	}
	dir, err := p.open(path)
	if err != nil {
		return 0
	}
	defer func() { _ = unix.Close(dir) }() // it was read only
	n := 0
	err = p.names(dir, func(name []byte) bool {
		if name[0] != '.' {
			n++
		}
		return n < manyFD
	})
	if err != nil {
		return 0
	}
	return n
}

func (p *proc) maxFDs(ctx context.Context, pid int) int {
	ctx = context.WithValue(ctx, common.EnvKey, common.EnvMap{common.HostProcEnvKey: p.root})
	limits, err := (&process.Process{Pid: int32(pid)}).RlimitWithContext(ctx)
	if err != nil {
		return 0
	}
	for _, l := range limits {
		if l.Resource == process.RLIMIT_NOFILE && l.Soft <= math.MaxInt32 {
			return int(l.Soft)
		}
	}
	return 0
}
