package etcdstore

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

// table is what the watch has told of the keys below the prefix. It may lag behind etcd: nothing
// that must be true is taken from it without a comparison in etcd.
type table struct {
	mu      sync.Mutex // guards all
	rows    map[string]*mvccpb.KeyValue
	byLease map[int64]map[string]bool
	bySlots map[string]map[string]bool // the slots of a key, by what comes before their number
	keepers map[string]int             // how many locks a replica keeps the time of
	applied int64                      // the youngest revision of an event in it; 0: not all is read yet
}

// keeperOf finds the replica in a value, without decoding it: a client may have written the same into
// a field before, so that the answer is a hint.
func keeperOf(value []byte) string {
	_, rest, _ := bytes.Cut(value, []byte(`"replica":"`))
	id, _, ok := bytes.Cut(rest, []byte{'"'})
	if !ok {
		return ""
	}
	return string(id)
}

// others returns the replicas, apart from one, that keep the time of locks.
func (t *table) others(self string) (ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.keepers {
		if id != self && id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// slotBase is what comes before the number of a slot, "" if the key is none.
func slotBase(key string) string { return key[:strings.LastIndexByte(key, '#')+1] }

// put takes a row and returns the replica that it seems to name. See keeperOf.
func (t *table) put(kv *mvccpb.KeyValue) (keeper string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := string(kv.Key)
	t.unlink(key)
	t.rows[key] = kv
	t.advance(kv.ModRevision)
	keeper = keeperOf(kv.Value)
	t.keepers[keeper]++
	if kv.Lease != 0 {
		if t.byLease[kv.Lease] == nil {
			t.byLease[kv.Lease] = map[string]bool{}
		}
		t.byLease[kv.Lease][key] = true
	}
	if base := slotBase(key); base != "" {
		if t.bySlots[base] == nil {
			t.bySlots[base] = map[string]bool{}
		}
		t.bySlots[base][key] = true
	}
	return keeper
}

// slots returns the holders of a semaphore.
func (t *table) slots(s *Store, name lock.Name) (all []*mvccpb.KeyValue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range t.bySlots[s.slotsPrefix(name)] {
		if found, _, ok := s.parseKey(key); ok && found == name {
			all = append(all, t.rows[key])
		}
	}
	return all
}

func (t *table) remove(key string, revision int64) (old *mvccpb.KeyValue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.advance(revision)
	old = t.rows[key]
	t.unlink(key)
	delete(t.rows, key)
	return old
}

// unlink drops a key from the index. The caller holds mu.
func (t *table) unlink(key string) {
	if old := t.rows[key]; old != nil {
		keeper := keeperOf(old.Value)
		if t.keepers[keeper]--; t.keepers[keeper] == 0 {
			delete(t.keepers, keeper)
		}
	}
	if base := slotBase(key); base != "" {
		delete(t.bySlots[base], key)
		if len(t.bySlots[base]) == 0 {
			delete(t.bySlots, base)
		}
	}
	if old := t.rows[key]; old != nil && old.Lease != 0 {
		delete(t.byLease[old.Lease], key)
		if len(t.byLease[old.Lease]) == 0 {
			delete(t.byLease, old.Lease)
		}
	}
}

// advance notes the revision of an event. The caller holds mu.
func (t *table) advance(revision int64) {
	if t.applied > 0 {
		t.applied = max(t.applied, revision)
	}
}

// complete says that the table is that of a revision.
func (t *table) complete(revision int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.applied = revision
}

func (t *table) get(key string) *mvccpb.KeyValue {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rows[key]
}

func (t *table) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows, t.byLease, t.bySlots = map[string]*mvccpb.KeyValue{}, map[int64]map[string]bool{}, map[string]map[string]bool{}
	t.keepers, t.applied = map[string]int{}, 0
}

// outdates tells if it is known that a key was changed or deleted since it was written at a revision.
func (t *table) outdates(key string, revision int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if row := t.rows[key]; row != nil {
		return row.ModRevision > revision
	}
	return t.applied > revision // strictly: of one revision, not all may be applied
}

func (t *table) all() []*mvccpb.KeyValue {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*mvccpb.KeyValue, 0, len(t.rows))
	for _, kv := range t.rows {
		all = append(all, kv)
	}
	return all
}

func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.rows)
}

// load reads all keys and returns the revision that they are of.
func (s *Store) load(ctx context.Context) (int64, error) {
	s.table.reset()
	from, end, revision := s.prefix, clientv3.GetPrefixRangeEnd(s.prefix), int64(0)
	for {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		resp, err := s.client().Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(1000), clientv3.WithRev(revision))
		cancel()
		if err != nil {
			s.failed("load", err)
			return 0, err
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		if cluster := hexID(resp.Header.ClusterId); s.cluster == "" {
			s.cluster = cluster
		} else if s.cluster != cluster {
			return 0, fmt.Errorf("this is another cluster: %s, not %s", cluster, s.cluster)
		}
		for _, kv := range resp.Kvs {
			if s.table.put(kv) == s.replica {
				s.timers.changed(string(kv.Key), kv.ModRevision, true)
			}
		}
		if !resp.More {
			s.table.complete(revision)
			return revision, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// watch follows all keys until the store is closed. Where events may have been missed, it reads all
// again.
func (s *Store) watch(revision int64) {
	for s.live.Err() == nil {
		err := s.follow(revision)
		if s.live.Err() != nil {
			return
		}
		s.log.Warn("watch of etcd ended, starting again", "err", err)
		for {
			if !s.pause(200 * time.Millisecond) {
				return
			}
			if revision, err = s.load(s.live); err == nil {
				break
			}
		}
		s.timers.compare(revision)
		s.observe(lock.Event{Revision: revision})
	}
}

// pause returns false when the store is closed.
func (s *Store) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.live.Done():
		return false
	}
}

// follow applies events from behind a revision on, until the watch fails.
func (s *Store) follow(revision int64) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(s.live))
	defer cancel()
	s.fresh.seen.Store(revision)
	defer s.fresh.seen.Store(0)
	for resp := range s.client().Watch(ctx, s.prefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1)) {
		if err := resp.Err(); err != nil {
			s.failed("watch", err)
			return err
		}
		for _, event := range resp.Events {
			s.apply(event)
		}
		if n := len(resp.Events); n > 0 { // whole revisions
			s.fresh.seen.Store(resp.Events[n-1].Kv.ModRevision)
		}
	}
	return errClosed
}

func (s *Store) apply(event *clientv3.Event) {
	key, kv := string(event.Kv.Key), event.Kv
	name, _, isLock := s.parseKey(key)
	if event.Type == mvccpb.DELETE {
		old := s.table.remove(key, kv.ModRevision)
		s.timers.freed(key, kv.ModRevision)
		if isLock {
			e := lock.Event{Ref: lock.Ref{Name: name}, Freed: true, Revision: kv.ModRevision}
			if old != nil {
				e.Token = old.CreateRevision
			}
			s.observe(e)
		}
		return
	}
	s.timers.changed(key, kv.ModRevision, s.table.put(kv) == s.replica)
	if isLock && event.IsCreate() {
		s.observe(lock.Event{Ref: lock.Ref{Name: name, Token: kv.CreateRevision}, Revision: kv.ModRevision})
	}
}

// inside counts the keys that begin so.
func (t *table) inside(prefix string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for key := range t.rows {
		if strings.HasPrefix(key, prefix) {
			n++
		}
	}
	return n
}
