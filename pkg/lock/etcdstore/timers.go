package etcdstore

import (
	"container/heap"
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

// kept is a lock whose time this replica keeps.
type kept struct {
	ref      lock.Ref
	key      string
	modified int64 // the revision that this replica wrote
	keep     time.Duration
	value    value
	lease    *lease
	taken    bool // perhaps from another replica, also when the value that was read said something else

	// Guarded by timers.mu.
	due    time.Time
	turn   time.Time // when it is looked at: not after due, so that a renewal need not move it in the heap
	index  int       // in the heap; -1: not in it
	busy   int       // renewals under way: it must not end before they are answered
	ending bool
}

// timers ends locks in time.
type timers struct {
	store *Store
	wake  chan struct{}

	mu    sync.Mutex // guards what follows
	byKey map[string]*kept
	byRef map[lock.Ref]*kept
	queue queue
	going map[string]int // keys without a timer that are being deleted, and how many times
	stray map[string]suspect
}

// queue orders by turn.
type queue []*kept

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].turn.Before(q[j].turn) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].index, q[j].index = i, j }
func (q *queue) Push(x any)        { k := x.(*kept); k.index = len(*q); *q = append(*q, k) }
func (q *queue) Pop() any {
	old := *q
	k := old[len(old)-1]
	old[len(old)-1], *q, k.index = nil, old[:len(old)-1], -1
	return k
}

// add begins to keep the time of a lock, from now on. It is false if a younger state of the key is
// known already.
func (t *timers) add(k *kept) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.store.table.outdates(k.key, k.modified) {
		return false // its event will not come again
	}
	if old := t.byKey[k.key]; old != nil {
		if old.modified > k.modified {
			return false
		}
		t.drop(old)
	}
	if t.byKey == nil {
		t.byKey, t.byRef = map[string]*kept{}, map[lock.Ref]*kept{}
	}
	t.byKey[k.key], t.byRef[k.ref] = k, k
	k.due = time.Now().Add(k.keep)
	if k.taken {
		k.due = k.due.Add(freshFor)
	}
	k.turn = k.due
	heap.Push(&t.queue, k)
	if k.index == 0 {
		t.poke()
	}
	return true
}

// hold returns the lock if this replica keeps its time, and keeps it from ending until done is
// called with what became of the renewal.
func (t *timers) hold(ref lock.Ref) *kept {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.byRef[ref]
	if k == nil || k.ending {
		return nil
	}
	k.busy++
	return k
}

// done ends hold: prolonged starts its time anew, unless it is known by now that the lock is gone or
// another's, for which it returns false.
func (t *timers) done(k *kept, prolonged bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	k.busy--
	if k.index < 0 {
		return false
	}
	if prolonged {
		k.prolong()
	}
	return true
}

// prolong starts the time of a lock anew. The caller holds timers.mu.
func (k *kept) prolong() {
	if due := time.Now().Add(k.keep); due.After(k.due) {
		k.due = due
	}
}

// renew starts the time of a lock anew if it is kept here, and if its lease is known to live for that long from now, which was read before.
func (t *timers) renew(ref lock.Ref, now time.Time) (ttl time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.byRef[ref]
	if k == nil || k.ending || k.index < 0 || !k.lease.livesFrom(now, k.keep) {
		return 0, false
	}
	k.prolong()
	return k.value.ttl(), true
}

// remaining returns how long the lock is held for, if this replica knows.
func (t *timers) remaining(ref lock.Ref) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.byRef[ref]
	if k == nil {
		return 0, false
	}
	return max(time.Until(k.due)-time.Duration(k.value.Delay)*time.Millisecond, 0), true
}

// take stops keeping the time of a lock that its caller has ended.
func (t *timers) take(ref lock.Ref) *kept {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.byRef[ref]
	if k != nil {
		t.drop(k)
	}
	return k
}

// size counts the locks whose time is kept here.
func (t *timers) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byKey)
}

// freed says that the key was deleted at a revision.
func (t *timers) freed(key string, revision int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outdated(key, revision)
}

// changed says that the key was written at a revision; mine, that it names this replica.
func (t *timers) changed(key string, revision int64, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outdated(key, revision)
	if mine && t.byKey[key] == nil {
		if t.stray == nil {
			t.stray = map[string]suspect{}
		}
		t.stray[key] = suspect{revision: revision}
	}
}

// outdated drops what is older than a revision of the key. The caller holds mu.
func (t *timers) outdated(key string, revision int64) {
	if k := t.byKey[key]; k != nil && k.modified < revision {
		t.drop(k)
	}
	delete(t.stray, key)
}

// compare drops what is not in the table as this replica wrote it, at a revision of the table.
func (t *timers) compare(revision int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, k := range t.byKey {
		if row := t.store.table.get(key); k.modified <= revision && (row == nil || row.ModRevision != k.modified) {
			t.drop(k)
		}
	}
}

// drop forgets a lock. The caller holds mu.
func (t *timers) drop(k *kept) {
	if k.index >= 0 {
		heap.Remove(&t.queue, k.index)
	}
	if t.byKey[k.key] == k {
		delete(t.byKey, k.key)
	}
	if t.byRef[k.ref] == k {
		delete(t.byRef, k.ref)
	}
}

func (t *timers) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run ends what is due, until the store is closed.
func (t *timers) run() {
	clock := time.NewTimer(0)
	defer clock.Stop()
	for {
		select {
		case <-clock.C:
		case <-t.wake:
		case <-t.store.live.Done():
			return
		}
		clock.Reset(t.expire())
	}
}

// expire starts to end what is due, and returns when to look again.
func (t *timers) expire() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.queue) > 0 {
		k := t.queue[0]
		if wait := time.Until(k.turn); wait > 0 {
			return wait
		}
		if k.busy > 0 { // a renewal came in time
			k.due = later(k.due, time.Now().Add(10*time.Millisecond))
		}
		if time.Until(k.due) > 0 {
			k.turn = k.due
			heap.Fix(&t.queue, 0)
			continue
		}
		k.ending = true
		heap.Remove(&t.queue, 0)
		if !t.store.spawn(func() { t.store.expired(k) }) {
			break
		}
	}
	return time.Hour
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// expired deletes a lock whose time is over, unless it was renewed elsewhere. Where etcd cannot be
// reached, its lease has to do.
func (s *Store) expired(k *kept) {
	remove := func(ctx context.Context) outcome {
		return s.commit(ctx, &write{
			name: k.ref.Name, key: k.key, when: clientv3.Compare(clientv3.ModRevision(k.key), "=", k.modified),
			then: []clientv3.Op{clientv3.OpDelete(k.key)},
		})
	}
	o := remove(s.ctx)
	if o.err != nil {
		s.retry(k.lease.lifetime(), func(ctx context.Context) error { o = remove(ctx); return o.err })
	}
	s.timers.mu.Lock()
	s.timers.drop(k)
	s.timers.mu.Unlock()
	if o.err == nil && o.ok {
		s.metrics.lost.Inc()
		s.unused(k)
	}
}

// unused does away with the lease of a lock that this replica has deleted.
func (s *Store) unused(k *kept) {
	switch {
	case k.lease.session || k.lease.id == 0:
	case k.lease.exposed:
		s.revoke(k.lease.id, k.lease.lifetime())
	default:
		s.pool.put(k.lease)
	}
}
