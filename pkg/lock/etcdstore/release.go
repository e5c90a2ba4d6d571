package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

// Release implements [lock.Store].
func (s *Store) Release(ctx context.Context, ref lock.Ref) error {
	key := s.etcdKey(ref.Name, 0, 1)
	k := s.timers.take(ref) // from here on a renewal asks etcd
	if k != nil {
		key = k.key
	}
	old, err := s.delete(ctx, ref, key)
	if errors.Is(err, lock.ErrGone) && k == nil { // is it a slot?
		kv, missing := s.find(ctx, ref)
		if missing != nil {
			return missing
		}
		key = string(kv.Key)
		old, err = s.delete(ctx, ref, key)
	}
	switch {
	case err != nil && k != nil && !errors.Is(err, lock.ErrGone):
		s.timers.add(k) // it may still be there
		return err
	case err != nil:
		return err
	case k != nil && old.ModRevision == k.modified:
		s.unused(k)
	default:
		s.disown(old)
	}
	return nil
}

// delete removes a key that a token created, and returns what it was.
func (s *Store) delete(ctx context.Context, ref lock.Ref, key string) (*mvccpb.KeyValue, error) {
	o := s.commit(ctx, &write{
		name: ref.Name, key: key, when: clientv3.Compare(clientv3.CreateRevision(key), "=", ref.Token),
		then: []clientv3.Op{clientv3.OpDelete(key, clientv3.WithPrevKV())},
	})
	switch {
	case o.err != nil:
		return nil, fmt.Errorf("delete in etcd: %w", o.err)
	case !o.ok:
		return nil, lock.ErrGone
	}
	return o.answers[0].GetResponseDeleteRange().PrevKvs[0], nil
}

// disown revokes the lease of a lock that was deleted and whose time another replica kept.
func (s *Store) disown(old *mvccpb.KeyValue) {
	v := decode(old.Value)
	if l := s.leaseOf(old, &v); !l.session && l.id != 0 {
		s.revoke(l.id, max(l.lifetime(), callTimeout))
	}
}

// Force implements [lock.Store].
func (s *Store) Force(ctx context.Context, name lock.Name) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kvs, err := s.read(ctx, name, true)
	if err != nil {
		return 0, err
	}
	freed := 0
	for _, kv := range kvs {
		holder, _ := s.holder(kv)
		old, err := s.delete(ctx, holder.Ref, string(kv.Key))
		switch {
		case errors.Is(err, lock.ErrGone):
			continue
		case err != nil:
			return freed, err
		}
		s.disown(old)
		freed++
	}
	return freed, nil
}

// EndSession implements [lock.Store].
func (s *Store) EndSession(ctx context.Context, namespace, session string) error {
	name := sessionName(namespace, session)
	leases := map[int64]bool{}
	for _, kv := range s.table.all() {
		if v := decode(kv.Value); v.Session == name {
			leases[kv.Lease] = true
		}
	}
	for _, id := range s.sessions.named(name) {
		leases[id] = true
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for id := range leases {
		s.sessions.forget(id)
		if err := s.revokeNow(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// read returns the holders of a key, or of those that begin with it, linearizably.
func (s *Store) read(ctx context.Context, name lock.Name, exact bool) ([]*mvccpb.KeyValue, error) {
	ops := []clientv3.Op{
		clientv3.OpGet(s.etcdKey(name, 0, 1)),
		clientv3.OpGet(s.slotsPrefix(name), clientv3.WithPrefix(), clientv3.WithLimit(listMost)),
	}
	if !exact {
		prefixes := s.listPrefixes(name)
		ops[0] = clientv3.OpGet(prefixes[0], clientv3.WithPrefix(), clientv3.WithLimit(listMost))
		ops[1] = clientv3.OpGet(prefixes[1], clientv3.WithPrefix(), clientv3.WithLimit(listMost))
	}
	resp, err := s.client().Txn(ctx).Then(ops...).Commit()
	if err != nil {
		s.failed("get", err)
		return nil, fmt.Errorf("read from etcd: %w", err)
	}
	var kvs []*mvccpb.KeyValue
	for _, answer := range resp.Responses {
		for _, kv := range answer.GetResponseRange().Kvs {
			found, _, ok := s.parseKey(string(kv.Key))
			same := found.Key == name.Key || !exact && strings.HasPrefix(found.Key, name.Key)
			if ok && same && found.Namespace == name.Namespace {
				kvs = append(kvs, kv)
			}
		}
	}
	return kvs, nil
}

// listMost is how many keys one list reads at most.
const listMost = 10000

// Holders implements [lock.Store].
func (s *Store) Holders(ctx context.Context, name lock.Name, exact bool) ([]lock.Holder, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kvs, err := s.read(ctx, name, exact)
	if err != nil {
		return nil, err
	}
	holders := make([]lock.Holder, 0, len(kvs))
	for _, kv := range kvs {
		h, _ := s.holder(kv)
		holders = append(holders, s.withTime(h))
	}
	slices.SortStableFunc(holders, func(a, b lock.Holder) int {
		if c := strings.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		return a.Slot - b.Slot
	})
	return holders, nil
}

// Validate implements [lock.Store].
func (s *Store) Validate(ctx context.Context, ref lock.Ref) error {
	_, err := s.find(ctx, ref)
	return err
}

// ByLease implements [lock.Store].
func (s *Store) ByLease(ctx context.Context, id int64) (lock.Ref, error) {
	if ref, ok := s.table.ofLease(s, id); ok {
		return ref, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := s.client().TimeToLive(ctx, clientv3.LeaseID(id), clientv3.WithAttachedKeys())
	if err != nil {
		s.failed("lease", err)
		return lock.Ref{}, fmt.Errorf("ask etcd for the lease: %w", err)
	}
	for _, key := range resp.Keys {
		if _, _, ok := s.parseKey(string(key)); !ok {
			continue
		}
		got, err := s.client().Get(ctx, string(key))
		if err != nil {
			s.failed("get", err)
			return lock.Ref{}, fmt.Errorf("read from etcd: %w", err)
		}
		for _, kv := range got.Kvs {
			if h, ok := s.holder(kv); ok && kv.Lease == id && oldProtocol(kv) {
				return h.Ref, nil
			}
		}
	}
	return lock.Ref{}, lock.ErrGone
}

// oldProtocol tells if the lease of a lock is what its holder is known by.
func oldProtocol(kv *mvccpb.KeyValue) bool {
	v := decode(kv.Value)
	return v.Exposed || v.Version != version
}

// ofLease finds the lock of a lease by what the watch has told.
func (t *table) ofLease(s *Store, id int64) (lock.Ref, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range slices.Collect(maps.Keys(t.byLease[id])) {
		if h, ok := s.holder(t.rows[key]); ok && oldProtocol(t.rows[key]) {
			return h.Ref, true
		}
	}
	return lock.Ref{}, false
}
