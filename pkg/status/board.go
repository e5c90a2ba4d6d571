package status

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Board publishes snapshots. Make one with [NewBoard].
type Board struct {
	observers []Observer
	cur       atomic.Pointer[version]

	mu      sync.Mutex               // held by writers only; guards what follows
	watches map[string]chan struct{} // closed at the next change of that process, "" is the pod

	checkMu sync.Mutex // guards checks
	checks  map[string][]Check
}

type version struct {
	Snapshot
	changed chan struct{} // closed when a newer version is stored
	turned  chan struct{} // closed when one is stored whose pod differs
}

// NewBoard returns a board without processes.
func NewBoard(observers ...Observer) *Board {
	b := &Board{
		observers: observers,
		watches:   make(map[string]chan struct{}),
		checks:    make(map[string][]Check),
	}
	b.cur.Store(&version{changed: make(chan struct{}), turned: make(chan struct{})})
	return b
}

// Load returns the latest snapshot and a channel that is closed when it is out
// of date.
func (b *Board) Load() (*Snapshot, <-chan struct{}) {
	v := b.cur.Load()
	return &v.Snapshot, v.changed
}

// LoadPod returns the latest snapshot and a channel that is closed when the pod
// became ready, is ready no more, or something else is known of it.
func (b *Board) LoadPod() (*Snapshot, <-chan struct{}) {
	v := b.cur.Load()
	return &v.Snapshot, v.turned
}

// Watch returns the state of one process, which is zero while the board does
// not know it, and a channel that is closed when that state is out of date.
func (b *Board) Watch(name string) (State, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st, _ := b.cur.Load().Get(name)
	return st, b.watch(name)
}

// WatchPod returns what is known of the pod as a whole, and a channel that is
// closed when that is out of date.
func (b *Board) WatchPod() (Pod, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cur.Load().pod, b.watch("")
}

// watch returns the channel of a name. The lock is held.
func (b *Board) watch(name string) <-chan struct{} {
	c := b.watches[name]
	if c == nil {
		c = make(chan struct{})
		b.watches[name] = c
	}
	return c
}

// Declare adds processes in the order in which they are to be shown. It is
// what makes adding many cheap; [Board.Put] adds a process that is not known.
func (b *Board) Declare(states ...State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	prev := b.cur.Load()
	next := prev.Snapshot
	next.index = maps.Clone(prev.index)
	if next.index == nil {
		next.index = make(map[string]int, len(states))
	}
	next.chunks = slices.Clone(prev.chunks)
	for i := range states {
		if _, known := next.index[states[i].Name]; known {
			next.set(states[i])
		} else {
			next.add(states[i])
		}
		b.observe(State{}, states[i])
	}
	b.publish(prev, next)
	for i := range states {
		b.wake(states[i].Name)
	}
}

// Put replaces the state of one process.
func (b *Board) Put(st State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	prev := b.cur.Load()
	old, known := prev.Get(st.Name)
	next := prev.Snapshot
	next.chunks = slices.Clone(prev.chunks)
	if known {
		next.set(st)
	} else {
		next.index = maps.Clone(prev.index)
		if next.index == nil {
			next.index = make(map[string]int, 1)
		}
		next.add(st)
	}
	b.observe(old, st)
	b.publish(prev, next)
	b.wake(st.Name)
}

// Remove forgets a process.
func (b *Board) Remove(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	prev := b.cur.Load()
	if _, known := prev.Get(name); !known {
		return
	}
	var next Snapshot
	next.pod = prev.pod
	next.index = make(map[string]int, prev.Len())
	for st := range prev.All {
		if st.Name != name {
			next.add(st)
		}
	}
	b.publish(prev, next)
	b.wake(name)
	b.checkMu.Lock()
	defer b.checkMu.Unlock()
	delete(b.checks, name)
}

// UpdatePod changes what is known of the pod as a whole.
func (b *Board) UpdatePod(change func(*Pod)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	prev := b.cur.Load()
	next := prev.Snapshot
	change(&next.pod)
	if next.pod != prev.pod {
		b.publish(prev, next)
		b.wake("")
	}
}

func (b *Board) observe(old, new State) {
	for _, o := range b.observers {
		o.Observe(old, new)
	}
}

func (b *Board) publish(prev *version, next Snapshot) {
	v := &version{Snapshot: next, changed: make(chan struct{}), turned: prev.turned}
	turn := next.pod != prev.pod || next.Ready() != prev.Ready()
	if turn {
		v.turned = make(chan struct{})
	}
	b.cur.Store(v)
	close(prev.changed)
	if turn {
		close(prev.turned)
	}
}

func (b *Board) wake(name string) {
	if c := b.watches[name]; c != nil {
		delete(b.watches, name)
		close(c)
	}
}

// PutCheck stores the verdict of a check. It wakes no reader of snapshots: a
// verdict that matters changes a phase.
func (b *Board) PutCheck(c Check) {
	for _, o := range b.observers {
		if co, ok := o.(CheckObserver); ok {
			co.ObserveCheck(c)
		}
	}
	b.checkMu.Lock()
	defer b.checkMu.Unlock()
	all := b.checks[c.Process]
	i, found := slices.BinarySearchFunc(all, c, func(a, b Check) int { return strings.Compare(a.Probe, b.Probe) })
	if found {
		all[i] = c
		return
	}
	b.checks[c.Process] = slices.Insert(all, i, c)
}

// Checks returns the last verdict of every probe of a process, by name.
func (b *Board) Checks(process string) []Check {
	b.checkMu.Lock()
	defer b.checkMu.Unlock()
	return slices.Clone(b.checks[process])
}

// ForgetChecks drops the verdicts on a process: its next incarnation has none
// yet.
func (b *Board) ForgetChecks(process string) {
	b.checkMu.Lock()
	defer b.checkMu.Unlock()
	delete(b.checks, process)
}

const chunkSize = 32

type chunk [chunkSize]*State

// Snapshot is an immutable picture of all processes.
type Snapshot struct {
	index  map[string]int // shared between versions, replaced when a process is added
	chunks []*chunk
	pod    Pod
	bad    int // processes that keep the pod from being ready
}

// add appends a state to a snapshot that is not published yet.
func (s *Snapshot) add(st State) {
	i := len(s.index)
	s.index[st.Name] = i
	if i/chunkSize == len(s.chunks) {
		s.chunks = append(s.chunks, new(chunk))
	}
	s.put(i, st)
}

// set replaces a state in a snapshot that is not published yet.
func (s *Snapshot) set(st State) {
	i := s.index[st.Name]
	if bad(*s.chunks[i/chunkSize][i%chunkSize]) {
		s.bad--
	}
	s.put(i, st)
}

func (s *Snapshot) put(i int, st State) {
	c := *s.chunks[i/chunkSize]
	c[i%chunkSize] = &st
	s.chunks[i/chunkSize] = &c
	if bad(st) {
		s.bad++
	}
}

func bad(st State) bool {
	return !st.Phase.Ready() && (st.Phase.Counted() || st.Phase == Standby && st.StandbyUnready)
}

// Len returns the number of processes.
func (s *Snapshot) Len() int { return len(s.index) }

// Get returns the state of the named process.
func (s *Snapshot) Get(name string) (State, bool) {
	i, ok := s.index[name]
	if !ok {
		return State{}, false
	}
	return *s.chunks[i/chunkSize][i%chunkSize], true
}

// All yields every process in the order in which they were declared.
func (s *Snapshot) All(yield func(State) bool) {
	for i := range len(s.index) {
		if !yield(*s.chunks[i/chunkSize][i%chunkSize]) {
			return
		}
	}
}

// Pod returns what is known of the pod as a whole.
func (s *Snapshot) Pod() Pod { return s.pod }

// Ready reports whether the pod is ready: it is in service and every counted
// process is ready. A pod without processes is ready while in service.
func (s *Snapshot) Ready() bool { return s.bad == 0 && s.pod.InService() }

// Unready yields the processes that keep the pod from being ready.
func (s *Snapshot) Unready(yield func(State) bool) {
	left := s.bad
	for st := range s.All {
		if left == 0 {
			return
		}
		if bad(st) {
			left--
			if !yield(st) {
				return
			}
		}
	}
}

// Dead yields the processes that make the pod count as dead at now.
func (s *Snapshot) Dead(now time.Time) func(yield func(State) bool) {
	return func(yield func(State) bool) {
		for st := range s.Unready {
			if st.Dead(now) && !yield(st) {
				return
			}
		}
	}
}
