//go:build !linux

package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/shirou/gopsutil/v3/process"
	"golang.org/x/sys/unix"
)

// portable asks gopsutil for everything: slower, but good enough for a
// developer's machine.
type portable struct{}

func newSystem(string) system { return portable{} }

func (portable) scan(to []stat) ([]stat, error) {
	all, err := process.Processes()
	if err != nil {
		return to, fmt.Errorf("list processes: %w", err)
	}
	for _, p := range all {
		s := stat{pid: p.Pid}
		if s.ppid, err = p.Ppid(); err != nil {
			continue // it is gone
		}
		if created, err := p.CreateTime(); err == nil {
			s.start = uint64(created)
		}
		if group, err := unix.Getpgid(int(p.Pid)); err == nil {
			s.group = int32(group)
		}
		if t, err := p.Times(); err == nil {
			s.own = time.Duration((t.User + t.System) * float64(time.Second))
		}
		if m, err := p.MemoryInfo(); err == nil {
			s.rss = int64(m.RSS)
		}
		if n, err := p.NumThreads(); err == nil {
			s.threads = n
		}
		to = append(to, s)
	}
	slices.SortFunc(to, func(a, b stat) int { return cmp.Compare(a.pid, b.pid) })
	return to, nil
}

func (portable) fds(pid int) int {
	n, err := (&process.Process{Pid: int32(pid)}).NumFDs()
	if err != nil {
		return 0
	}
	return int(n)
}

func (portable) maxFDs(context.Context, int) int { return 0 }
