package etcdstore

import (
	"sync"
	"sync/atomic"
	"time"
)

// freshFor is how old what this replica knows of its locks may be when it renews one without asking
// etcd. So much longer keeps each replica the time of a lock that it took from another one: the other
// may have answered a renewal that long after it lost the lock.
const freshFor = 30 * time.Millisecond

// Reads ahead: a renewal has etcd asked anew, without waiting for it, so long after the last read, and while there are fewer under way.
// So what is known stays fresh also where an answer takes much of freshFor, as on a busy machine.
const (
	staleFrom = 3 * time.Millisecond
	maxReads  = 8
)

// freshness tells when all changes of locks were known here.
type freshness struct {
	seen atomic.Int64 // all events up to this revision were applied; 0: unknown
	at   atomic.Int64 // of boottime: before a read was sent whose revision had been seen at its answer
	sent atomic.Int64 // by boottime, the last read beside others; written under mu

	mu   sync.Mutex // guards what follows
	busy int        // reads under way
	next *round     // that will be sent when one of them is over, if not before
}

// round is a read for which many may wait. What it found may be read when done is closed.
type round struct {
	done chan struct{}
	good bool // all that had happened when it was sent is known here
	err  error
}

// read says that etcd answered a linearizable read, sent at a time, with a revision. If all events up
// to it are applied, nothing had changed at that time that is not known here, and it is true.
func (f *freshness) read(sent, revision int64) bool {
	if seen := f.seen.Load(); seen == 0 || seen < revision {
		return false
	}
	for {
		at := f.at.Load()
		if at >= sent || f.at.CompareAndSwap(at, sent) {
			return true
		}
	}
}

// is tells if nothing had changed so short a time before now, by boottime, that is not known here. The clock goes on in suspend, in
// which another replica may have taken all over.
func (f *freshness) is(now int64) bool {
	at := f.at.Load()
	return at > 0 && now > 0 && now-at < int64(freshFor)
}

// refresh has a read sent if it is time to. While renewals come all the time, none has to wait then.
func (s *Store) refresh(now int64) {
	f := &s.fresh
	if now-max(f.at.Load(), f.sent.Load()) < int64(staleFrom) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.ask(now)
}

// ask has a read sent beside those that are under way, if it is time to and they are not too many. The caller holds fresh.mu.
func (s *Store) ask(now int64) {
	f := &s.fresh
	if now-f.sent.Load() < int64(staleFrom) || f.busy >= maxReads || !s.spawn(s.rounds) {
		return
	}
	f.sent.Store(now)
	f.busy++
	f.wanted()
}

// wanted returns the read that is not sent yet. The caller holds mu.
func (f *freshness) wanted() *round {
	if f.next == nil {
		f.next = &round{done: make(chan struct{})}
	}
	return f.next
}

// round returns a read that is not sent yet, where others make one worth while: nil if none is under way.
func (s *Store) round(now int64) *round {
	f := &s.fresh
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy == 0 {
		return nil
	}
	if f.next == nil {
		s.ask(now) // as those under way may take long
	}
	return f.wanted()
}

// rounds sends what is wanted until there is nothing.
func (s *Store) rounds() {
	for r := s.fresh.turn(); r != nil; r = s.fresh.turn() {
		r.good, r.err = s.caughtUp()
		close(r.done)
	}
}

// turn takes the read that is wanted. If there is none, one less is under way.
func (f *freshness) turn() *round {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.next
	f.next = nil
	if r == nil {
		f.busy--
	}
	return r
}
