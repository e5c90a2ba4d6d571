package etcdstore

import (
	"time"
)

// strayTick is how often a replica looks for locks whose time nobody keeps. The watch may tell of a
// write before its answer is here: so it renews those that were there at the look before.
const strayTick = 500 * time.Millisecond

// suspect is a key that this replica is said to keep the time of, but did not when that was told.
type suspect struct {
	revision int64
	old      bool // it was there at the last look
}

// tendStrays keeps the time of locks that name this replica although it does not: the renewal that
// wrote it ended before etcd answered, and stopped the timer of another replica.
func (s *Store) tendStrays() {
	tick := time.NewTicker(strayTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.renewStrays()
		case <-s.live.Done():
			return
		}
	}
}

// renewStrays renews what nobody keeps the time of. Like a renewal it writes, so that what is under
// way to delete one does not.
func (s *Store) renewStrays() {
	for key, revision := range s.timers.strays() {
		kv := s.table.get(key)
		if kv == nil || kv.ModRevision != revision || decode(kv.Value).Replica != s.replica {
			s.timers.cleared(key, revision) // what is younger was told to the timers, or will be
			continue
		}
		h, ok := s.holder(kv)
		if !ok {
			continue
		}
		if err := s.renewOne(s.live, h.Ref, key, kv).Err; err != nil {
			s.log.Debug("lock whose renewal was not finished could not be renewed", "key", h.Key, "err", err)
			continue
		}
		s.log.Debug("renewed a lock whose renewal was not finished", "key", h.Key)
	}
}

// strays returns the keys, with their revisions, whose time nobody keeps although they name this replica since the last look at least.
func (t *timers) strays() map[string]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[string]int64{}
	for key, s := range t.stray {
		switch {
		case t.byKey[key] != nil:
			delete(t.stray, key)
		case t.going[key] > 0:
		case s.old:
			all[key] = s.revision
		default:
			t.stray[key] = suspect{s.revision, true}
		}
	}
	return all
}

// cleared says that a key is no stray at a revision.
func (t *timers) cleared(key string, revision int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stray[key].revision == revision {
		delete(t.stray, key)
	}
}

// deleting says that a key without a timer is being deleted, until end is called.
func (t *timers) deleting(key string) (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.going == nil {
		t.going = map[string]int{}
	}
	t.going[key]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.going[key]--; t.going[key] == 0 {
			delete(t.going, key)
		}
	}
}
