package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

// attempt is one try to create the key of a lock.
type attempt struct {
	req   lock.Request
	value value
	text  string // the value as etcd keeps it; no other attempt has the same
	lease *lease
}

// Acquire implements [lock.Store].
func (s *Store) Acquire(ctx context.Context, req lock.Request) (lock.Holder, error) {
	a := &attempt{req: req, value: newValue(req, s.replica, s.nonce.Add(1))}
	a.text = a.value.encode()
	if req.Slots > 1 {
		return s.acquireSlot(ctx, a)
	}
	return s.acquireOne(ctx, a, s.etcdKey(req.Name, 0, 1))
}

// lend gives the attempt its lease.
func (s *Store) lend(ctx context.Context, a *attempt) (err error) {
	if a.req.Session != "" {
		a.lease = s.sessions.of(sessionLease(a.req.Namespace, a.req.Session, a.value.Lease), a.value.Lease, a.value.Session)
		return nil
	}
	if a.lease, err = s.pool.take(ctx, a.value.Lease); err != nil {
		return err
	}
	return nil
}

// held answers an attempt that found the present holders.
func (s *Store) held(ctx context.Context, a *attempt, kvs []*mvccpb.KeyValue) (lock.Holder, error) {
	s.giveBack(a)
	if len(kvs) == 0 {
		return lock.Holder{}, lock.ErrHeld // of a semaphore, between two reads
	}
	holder, _ := s.holder(kvs[0])
	for _, kv := range kvs {
		if v := decode(kv.Value); a.req.Reentrant && v.Session == a.value.Session && v.Session != "" {
			return s.reenter(ctx, kv)
		}
	}
	return s.withTime(holder), lock.ErrHeld
}

// giveBack returns a lease that was not used and that nobody knows, if the attempt has one.
func (s *Store) giveBack(a *attempt) {
	if a.lease != nil && !a.lease.session {
		s.pool.put(a.lease)
	}
	a.lease = nil
}

// reenter gives a session what it holds already.
func (s *Store) reenter(ctx context.Context, kv *mvccpb.KeyValue) (lock.Holder, error) {
	holder, _ := s.holder(kv)
	if err := s.renewOne(ctx, holder.Ref, string(kv.Key), kv).Err; err != nil {
		if errors.Is(err, lock.ErrGone) {
			return lock.Holder{}, lock.ErrHeld // it ended at this moment: the next try gets it
		}
		return lock.Holder{}, err
	}
	holder.Reentered, holder.Remaining = true, holder.TTL
	return holder, nil
}

// try creates a key. On ErrHeld it returns what els read, and the attempt still has its lease. After
// every other error nothing is left of the attempt.
func (s *Store) try(ctx context.Context, a *attempt, key string, slot int) (lock.Holder, []*mvccpb.KeyValue, error) {
	els := clientv3.OpGet(key)
	if a.req.Slots > 1 {
		els = clientv3.OpGet(s.slotsPrefix(a.req.Name), clientv3.WithPrefix())
	}
	if err := s.secure(ctx, a.lease, a.value.keep()); err != nil {
		return lock.Holder{}, nil, err
	}
	for granted := false; ; granted = true {
		w := &write{
			// Slots of one key come in different batches, or they would get the same token.
			name: a.req.Name, key: key, alone: a.lease.session && !a.lease.lives(0),
			when: clientv3.Compare(clientv3.CreateRevision(key), "=", 0),
			then: []clientv3.Op{clientv3.OpPut(key, a.text, clientv3.WithLease(clientv3.LeaseID(a.lease.id)))},
			els:  []clientv3.Op{els},
		}
		s.submit(w)
		var o outcome
		select {
		case o = <-w.done:
		case <-ctx.Done():
			s.undoLater(a, w)
			return lock.Holder{}, nil, context.Cause(ctx)
		}
		switch {
		case errors.Is(o.err, rpctypes.ErrLeaseNotFound) && a.lease.session && !granted:
			if err := s.grantSession(a.lease); err != nil {
				return lock.Holder{}, nil, err
			}
		case o.err != nil:
			s.undo(a, key)
			return lock.Holder{}, nil, fmt.Errorf("write to etcd: %w", o.err)
		case !o.ok:
			return lock.Holder{}, o.answers[0].GetResponseRange().Kvs, lock.ErrHeld
		default:
			holder, err := s.won(ctx, a, key, slot, o.revision)
			return holder, nil, err
		}
	}
}

// secure sees that what is put on the lease of a session does not end with it: etcd ends a lease up to half a second after its
// time, and until then takes keys for it. One that is gone is made when the key is free.
func (s *Store) secure(ctx context.Context, l *lease, keep time.Duration) (err error) {
	switch {
	case !l.session || l.lives(keep):
		return nil
	case l.lives(0):
		err = s.ensure(ctx, l, keep)
	default:
		err = s.prolong(ctx, l, s.keepAliveAlone)
	}
	if errors.Is(err, errLeaseGone) {
		return nil
	}
	return err
}

// grantSession makes the lease of a session. Another replica may have done so just now.
func (s *Store) grantSession(l *lease) error {
	made, err := s.grant(l.id, int64(l.lifetime()/time.Second))
	if errors.Is(err, rpctypes.ErrLeaseExist) {
		return nil
	}
	if err != nil {
		return err
	}
	l.prolonged(made.sent, made.lifetime())
	return nil
}

// won begins to keep the time of a lock, if its lease lives long enough.
func (s *Store) won(ctx context.Context, a *attempt, key string, slot int, revision int64) (lock.Holder, error) {
	if err := s.ensure(ctx, a.lease, a.value.keep()); err != nil {
		s.undo(a, key)
		return lock.Holder{}, err
	}
	a.lease.exposed = a.req.Expose && !a.lease.session
	k := &kept{ref: lock.Ref{Name: a.req.Name, Token: revision}, key: key, modified: revision, keep: a.value.keep(), value: a.value, lease: a.lease}
	s.timers.add(k) // false only if it was lost meanwhile, which the client learns from its first renewal
	return lock.Holder{
		Ref: lock.Ref{Name: a.req.Name, Token: revision}, Lease: a.lease.id, Slot: slot, Slots: a.req.Slots,
		Owner: a.req.Owner, Host: a.req.Host, Pod: a.req.Pod, Labels: a.req.Labels,
		AcquiredAt: time.UnixMilli(a.value.At), TTL: a.req.TTL, Remaining: a.req.TTL,
	}, nil
}

// undoLater undoes an attempt whose client is gone, when its outcome is known.
func (s *Store) undoLater(a *attempt, w *write) {
	if !s.spawn(func() {
		if o := <-w.done; o.err == nil && !o.ok {
			s.giveBack(a)
			return
		}
		s.undo(a, w.key)
	}) {
		return // closed: the lease ends by itself
	}
}

// undo does away with the key of an attempt that may have been written, and with its lease.
func (s *Store) undo(a *attempt, key string) {
	if !a.lease.session {
		s.revoke(a.lease.id, a.lease.lifetime())
		return
	}
	s.spawn(func() {
		defer s.timers.deleting(key)()
		s.retry(a.lease.lifetime(), func(ctx context.Context) error {
			return s.commit(ctx, &write{
				name: a.req.Name, key: key, when: clientv3.Compare(clientv3.Value(key), "=", a.text),
				then: []clientv3.Op{clientv3.OpDelete(key)},
			}).err
		})
	})
}

// acquireSlot finds a slot that is free.
func (s *Store) acquireSlot(ctx context.Context, a *attempt) (lock.Holder, error) {
	taken, odd := s.seenSlots(a) // as far as the watch has told
	if odd || a.req.Reentrant {
		kvs, err := s.read(ctx, a.req.Name, true)
		if err != nil {
			return lock.Holder{}, err
		}
		if holder, done, err := s.judge(ctx, a, kvs, taken); done {
			return holder, err
		}
	}
	for range 2 + a.req.Slots { // each one lost was won by another
		if a.lease == nil {
			if err := s.lend(ctx, a); err != nil {
				return lock.Holder{}, err
			}
		}
		slot := s.freeSlot(a, taken)
		holder, kvs, err := s.try(ctx, a, s.etcdKey(a.req.Name, slot, a.req.Slots), slot)
		if !errors.Is(err, lock.ErrHeld) {
			return holder, err
		}
		if holder, done, err := s.judge(ctx, a, kvs, taken); done {
			return holder, err
		}
	}
	s.giveBack(a)
	return lock.Holder{}, lock.ErrHeld
}

// seenSlots tells which slots are taken, and if some were taken with another number of slots.
func (s *Store) seenSlots(a *attempt) (taken map[int]bool, odd bool) {
	taken = map[int]bool{}
	for _, kv := range s.table.slots(s, a.req.Name) {
		_, slot, _ := s.parseKey(string(kv.Key))
		v := decode(kv.Value)
		taken[slot], odd = true, odd || v.Slots != a.req.Slots
	}
	return taken, odd
}

// judge tells if what was read of a semaphore decides the attempt. If not, taken is what is taken.
func (s *Store) judge(ctx context.Context, a *attempt, kvs []*mvccpb.KeyValue, taken map[int]bool) (holder lock.Holder, done bool, err error) {
	mine := kvs[:0:0]
	clear(taken)
	for _, kv := range kvs {
		name, slot, ok := s.parseKey(string(kv.Key))
		if v := decode(kv.Value); ok && name == a.req.Name && v.Slots > 1 {
			mine = append(mine, kv)
			taken[slot] = true
			if v.Slots != a.req.Slots {
				s.giveBack(a)
				holder, _ = s.holder(kv)
				return holder, true, lock.ErrSlots
			}
			if a.req.Reentrant && v.Session == a.value.Session {
				s.giveBack(a)
				holder, err = s.reenter(ctx, kv)
				return holder, true, err
			}
		}
	}
	if len(mine) < a.req.Slots {
		return holder, false, nil
	}
	holder, err = s.held(ctx, a, mine)
	return holder, true, err
}

// freeSlot picks a slot that is not taken. Who comes at the same time gets another one; if none
// seems free, the first is asked, to learn the truth.
func (s *Store) freeSlot(a *attempt, taken map[int]bool) int {
	start := int(s.nonce.Load() % uint64(a.req.Slots))
	if a.req.Reentrant {
		start = 0
	}
	for i := range a.req.Slots {
		if slot := (start + i) % a.req.Slots; !taken[slot] {
			return slot
		}
	}
	return 0
}

// withTime adds how long a holder has left, if this replica keeps its time.
func (s *Store) withTime(h lock.Holder) lock.Holder {
	if left, ok := s.timers.remaining(h.Ref); ok {
		h.Remaining = left
	}
	return h
}
