package etcdstore

import (
	"time"
)

// strayTick is how often a replica looks for locks whose time nobody keeps. One is renewed if it is
// seen twice, since a write is told by the watch before its answer is here.
const strayTick = 500 * time.Millisecond

// tendStrays keeps the time of locks that name this replica although it does not: the renewal that
// wrote it ended before etcd answered, and stopped the timer of another replica.
func (s *Store) tendStrays() {
	tick := time.NewTicker(strayTick)
	defer tick.Stop()
	var seen map[string]int64
	for {
		select {
		case <-tick.C:
			seen = s.renewStrays(seen)
		case <-s.live.Done():
			return
		}
	}
}

// renewStrays renews the strays that were seen before at the same revision, and returns all that
// there are now. Like a renewal it writes, so that what is under way to delete one does not.
func (s *Store) renewStrays(before map[string]int64) map[string]int64 {
	var now map[string]int64
	for _, kv := range s.table.of(s.replica) {
		key := string(kv.Key)
		if s.timers.keeps(key) {
			continue
		}
		if now == nil {
			now = map[string]int64{}
		}
		now[key] = kv.ModRevision
		h, ok := s.holder(kv)
		if v := decode(kv.Value); !ok || v.Replica != s.replica || before[key] != kv.ModRevision {
			continue
		}
		if err := s.renewOne(s.live, h.Ref, key, kv).Err; err != nil {
			s.log.Debug("lock whose renewal was not finished could not be renewed", "key", h.Key, "err", err)
			continue
		}
		s.log.Debug("renewed a lock whose renewal was not finished", "key", h.Key)
	}
	return now
}
