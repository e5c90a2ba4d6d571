package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

const (
	sampleEvery = 10 * time.Second
	limitEvery  = time.Second // while a memory limit is watched
)

// Usage is what the process tree of one process consumes.
type Usage struct {
	PID        int           // of the main process that was measured
	Time       time.Time     // when it was measured
	CPU        time.Duration // since the first start, all incarnations
	CPUPercent float64       // lately, 100 is one core
	Memory     int64         // resident bytes
	Processes  int
	Threads    int
	FDs        int
	MaxFDs     int // soft limit of the main process, 0 where not known or none
}

// OverLimit is how a process tree came to exceed its memory limit, in bytes.
type OverLimit struct{ Limit, Used int64 }

func (e *OverLimit) Error() string {
	return fmt.Sprintf("memory limit exceeded: %d MiB used of %d MiB", e.Used>>20, e.Limit>>20)
}

// Reason names the error in one word.
func (e *OverLimit) Reason() string { return "memory" }

// system reads what a sampler measures.
type system interface {
	// scan appends what is known of every process, ascending by pid.
	scan(to []stat) ([]stat, error)
	// fds returns how many descriptors a process has open, as far as one may know.
	fds(pid int) int
	// maxFDs returns the soft limit of that, 0 where there is none to speak of.
	maxFDs(ctx context.Context, pid int) int
}

// Sampler measures the process trees on a board. Make one with [NewSampler].
type Sampler struct {
	log    *slog.Logger
	system system
	kick   chan struct{} // a limit is to be watched

	// Only Run touches these.
	forest  forest
	counted time.Time // when descriptors were last counted
	failed  bool      // the last look did, and was logged

	mu      sync.Mutex       // guards what follows
	trees   map[string]*tree // by name
	watches map[*watch]struct{}
}

type watch struct {
	pid   int
	limit int64
	tree  *tree      // where the board does not know the pid yet
	over  chan int64 // what was used
}

// NewSampler returns a sampler that has measured nothing.
func NewSampler(log *slog.Logger) *Sampler { return newSampler(log, newSystem("/proc")) }

func newSampler(log *slog.Logger, sys system) *Sampler {
	return &Sampler{
		log:     log,
		system:  sys,
		kick:    make(chan struct{}, 1),
		forest:  forest{self: int32(os.Getpid()), roots: make(map[int32]*tree)},
		trees:   make(map[string]*tree),
		watches: make(map[*watch]struct{}),
	}
}

// Usage returns what a process and all its descendants used when last measured,
// false when that was never.
func (s *Sampler) Usage(name string) (Usage, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trees[name]
	if t == nil {
		return Usage{}, false
	}
	return t.usage, !t.usage.Time.IsZero()
}

// History returns what a process tree used in the last ten minutes, oldest first,
// every ten seconds while it ran.
func (s *Sampler) History(name string) []Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trees[name]
	if t == nil {
		return nil
	}
	return t.history.points(time.Now())
}

// Ended adds the CPU time that the exit status of a main process tells, its own
// and that of all it waited for: what it used after the last look at it, or all
// when there was none. It is called once for each exit.
func (s *Sampler) Ended(name string, pid int, cpu time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trees[name]
	if t == nil {
		t = new(tree)
		s.trees[name] = t
	}
	t.final.is(pid)
	t.final.total = cpu
	t.final.reckon()
	t.usage.CPU = t.used()
	if t.usage.Time.IsZero() {
		t.usage.Time = time.Now()
	}
}

// Watch returns a function that watches the tree of a main process, and
// returns an [*OverLimit] as soon as it is seen to use more than limit bytes,
// or nil when ctx ends. It needs Run.
func (s *Sampler) Watch(limit int64) func(ctx context.Context, pid int) error {
	return func(ctx context.Context, pid int) error {
		w := &watch{pid: pid, limit: limit, tree: new(tree), over: make(chan int64, 1)}
		s.mu.Lock()
		s.watches[w] = struct{}{}
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.watches, w)
		}()
		select {
		case s.kick <- struct{}{}:
		default: // one is enough
		}
		select {
		case used := <-w.over:
			return &OverLimit{Limit: limit, Used: used}
		case <-ctx.Done():
			return nil
		}
	}
}

// Run measures until ctx ends. Its timer is all that wakes an idle program up,
// and there is none while nothing runs.
func (s *Sampler) Run(ctx context.Context, board *status.Board) {
	tick := time.NewTimer(0)
	defer tick.Stop()
	var last time.Time
	for {
		snap, changed := board.Load()
		every, busy := s.pace(snap)
		if busy {
			changed = nil // it is seen at the next look
			tick.Reset(time.Until(last.Add(every)))
		} else {
			tick.Stop()
		}
		select {
		case <-tick.C:
			last = time.Now()
			snap, _ = board.Load()
			s.look(ctx, snap, last)
		case <-changed:
		case <-s.kick:
		case <-ctx.Done():
			return
		}
	}
}

// pace says how often to look, and whether there is anything to look at.
func (s *Sampler) pace(snap *status.Snapshot) (every time.Duration, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.watches) > 0 {
		return limitEvery, true
	}
	for st := range snap.All {
		if alive(st) {
			return sampleEvery, true
		}
	}
	return 0, false
}

func alive(st status.State) bool { return st.Phase.Alive() && st.PID > 0 }

// look measures everything once.
func (s *Sampler) look(ctx context.Context, snap *status.Snapshot, now time.Time) {
	fds := s.enter(snap) || now.Sub(s.counted) > sampleEvery-limitEvery/2
	f := &s.forest
	next, err := s.system.scan(f.prev[:0])
	if err != nil {
		f.prev = next[:0]
		if !s.failed {
			s.log.Warn("cannot measure processes", "err", err, "hint", "mount /proc to have memory limits and CPU and memory metrics")
		}
		s.failed = true
		return
	}
	s.failed = false
	f.prev, f.cur = f.cur, next
	f.divide()
	if fds {
		s.counted = now
		s.countFDs(ctx)
	}
	s.publish(now, fds)
}

// enter tells the forest the main processes, and returns whether there are new
// ones among them.
func (s *Sampler) enter(snap *status.Snapshot) (fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	roots := s.forest.roots
	clear(roots)
	for st := range snap.All {
		if !alive(st) {
			continue
		}
		t := s.trees[st.Name]
		if t == nil {
			t = new(tree)
			s.trees[st.Name] = t
		}
		roots[int32(st.PID)] = t
		fresh = fresh || t.usage.PID != st.PID
	}
	for w := range s.watches {
		if roots[int32(w.pid)] == nil {
			roots[int32(w.pid)] = w.tree
		}
	}
	for name := range s.trees {
		if _, known := snap.Get(name); !known {
			delete(s.trees, name)
		}
	}
	return fresh
}

func (s *Sampler) countFDs(ctx context.Context) {
	for i := range s.forest.cur {
		if p := &s.forest.cur[i]; p.tree != nil && !p.zombie {
			p.tree.sum.FDs += s.system.fds(int(p.pid))
		}
	}
	for pid, t := range s.forest.roots {
		t.sum.MaxFDs = t.usage.MaxFDs
		if t.usage.PID != int(pid) { // once for each incarnation
			t.sum.MaxFDs = s.system.maxFDs(ctx, int(pid))
		}
	}
}

// publish makes what was measured known, and wakes the watches.
func (s *Sampler) publish(now time.Time, fds bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pid, t := range s.forest.roots {
		if t.seen {
			t.final.is(int(pid))
			t.final.sampled = t.line
			t.final.reckon() // its end may have been told during the look
		}
		u, old := t.sum, t.usage
		t.counted = t.cpu
		u.PID, u.Time, u.CPU = int(pid), now, t.used()
		if took := now.Sub(old.Time); !old.Time.IsZero() && took > 0 {
			u.CPUPercent = 100 * (u.CPU - old.CPU).Seconds() / took.Seconds()
		}
		if !fds {
			u.FDs, u.MaxFDs = old.FDs, old.MaxFDs
		}
		t.usage = u
		if !old.Time.IsZero() { // else there is no CPUPercent
			t.history.add(u)
		}
	}
	for _, t := range s.trees {
		t.counted = t.cpu // also of one whose main process is gone
		t.usage.CPU = t.used()
		t.sum = Usage{}
	}
	for w := range s.watches {
		w.tree.sum = Usage{}
		t := s.forest.roots[int32(w.pid)]
		if t == nil || t.usage.Memory <= w.limit {
			continue
		}
		select {
		case w.over <- t.usage.Memory:
		default: // it was told
		}
	}
}
