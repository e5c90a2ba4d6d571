package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

// renewTimeout bounds a renewal for which etcd has to be asked.
const renewTimeout = 2 * callTimeout

// Renew implements [lock.Store].
func (s *Store) Renew(ctx context.Context, refs []lock.Ref) []lock.Renewal {
	answers := make([]lock.Renewal, len(refs))
	rest := s.renewFresh(refs, answers)
	if len(rest) > 0 {
		rest = s.renewTogether(refs, rest, answers)
	}
	if len(rest) == 0 {
		return answers
	}
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	rest = s.renewKept(ctx, refs, rest, answers)
	var wg sync.WaitGroup
	limit := make(chan struct{}, 64)
	for _, i := range rest {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			answers[i] = s.renewAny(ctx, refs[i])
		})
	}
	wg.Wait()
	return answers
}

// renewFresh renews what can be without asking etcd, and returns which ones are left to do.
func (s *Store) renewFresh(refs []lock.Ref, answers []lock.Renewal) (rest []int) {
	now := boottime() // before it is looked up what is held
	fresh := s.fresh.is(now)
	if fresh {
		s.refresh(now)
	}
	clock := time.Unix(0, now) // as leaseClock
	for i, ref := range refs {
		ok := false
		if fresh {
			answers[i].TTL, ok = s.timers.renew(ref, clock)
		}
		if !ok {
			rest = append(rest, i)
		}
	}
	return rest
}

// renewTogether waits for a read that others need, too, if there is one: when nothing had happened that is not known here, it is good
// for all. It returns which ones are left to do.
func (s *Store) renewTogether(refs []lock.Ref, some []int, answers []lock.Renewal) (rest []int) {
	r := s.round(boottime())
	if r == nil {
		return some
	}
	holds := s.holdAll(refs, some)
	<-r.done // two calls to etcd at most
	now := leaseClock()
	for n, k := range holds {
		i := some[n]
		if k == nil {
			rest = append(rest, i)
			continue
		}
		good := r.good && k.lease.livesFrom(now, k.keep)
		kept := s.timers.done(k, good)
		switch {
		case good && kept:
			answers[i].TTL = k.value.ttl()
		case r.err != nil:
			answers[i].Err = r.err
		default:
			rest = append(rest, i)
		}
	}
	return rest
}

// holdAll holds some locks; nil for those whose time is not kept here.
func (s *Store) holdAll(refs []lock.Ref, some []int) []*kept {
	holds := make([]*kept, len(some))
	for n, i := range some {
		holds[n] = s.timers.hold(refs[i])
	}
	return holds
}

// renewKept asks etcd about those of some whose time this replica keeps, and returns which ones are left to do.
func (s *Store) renewKept(ctx context.Context, refs []lock.Ref, some []int, answers []lock.Renewal) (rest []int) {
	holds := s.holdAll(refs, some)
	checks := s.askFor(holds)
	for n, k := range holds {
		if k == nil {
			rest = append(rest, some[n])
			continue
		}
		var decided bool
		if answers[some[n]], decided = s.renewHeld(ctx, k, checks[n].done); !decided {
			rest = append(rest, some[n])
		}
	}
	return rest
}

// askFor lets etcd be asked whether locks are still as this replica wrote them.
func (s *Store) askFor(holds []*kept) []check {
	checks := make([]check, len(holds))
	for i, k := range holds {
		if k == nil {
			continue
		}
		checks[i] = check{key: k.key, revision: k.modified, done: make(chan verdict, 1)}
		if !s.checks.add(&checks[i]) {
			checks[i].done <- verdict{err: errClosed}
		}
	}
	return checks
}

// renewHeld renews one, if etcd tells that it is the same. It is undecided when the lock is gone, or another's.
func (s *Store) renewHeld(ctx context.Context, k *kept, told <-chan verdict) (answer lock.Renewal, decided bool) {
	err := s.ensure(ctx, k.lease, k.keep)
	var v verdict
	select {
	case v = <-told:
	case <-ctx.Done():
		v = verdict{err: context.Cause(ctx)}
	}
	if v.err != nil {
		err = v.err
	}
	good := err == nil && v.same && k.lease.lives(k.keep)
	kept := s.timers.done(k, good)
	switch {
	case good && kept:
		return lock.Renewal{TTL: k.value.ttl()}, true
	case err != nil && !errors.Is(err, errLeaseGone):
		return lock.Renewal{Err: err}, true
	}
	return lock.Renewal{}, false
}

// renewAny asks etcd for a lock and renews it.
func (s *Store) renewAny(ctx context.Context, ref lock.Ref) lock.Renewal {
	kv, err := s.find(ctx, ref)
	if err != nil {
		return lock.Renewal{Err: err}
	}
	return s.renewOne(ctx, ref, string(kv.Key), kv)
}

// find reads the key that a token created: ErrGone if there is none.
func (s *Store) find(ctx context.Context, ref lock.Ref) (*mvccpb.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := s.client().Txn(ctx).Then(clientv3.OpGet(s.etcdKey(ref.Name, 0, 1)),
		clientv3.OpGet(s.slotsPrefix(ref.Name), clientv3.WithPrefix())).Commit()
	if err != nil {
		s.failed("get", err)
		return nil, fmt.Errorf("read from etcd: %w", err)
	}
	for _, answer := range resp.Responses {
		for _, kv := range answer.GetResponseRange().Kvs {
			if name, _, ok := s.parseKey(string(kv.Key)); ok && name == ref.Name && kv.CreateRevision == ref.Token {
				return kv, nil
			}
		}
	}
	return nil, lock.ErrGone
}

// renewOne renews a lock by writing this replica into it, which stops the timers of others.
func (s *Store) renewOne(ctx context.Context, ref lock.Ref, key string, kv *mvccpb.KeyValue) lock.Renewal {
	v := decode(kv.Value)
	l := s.leaseOf(kv, &v)
	if v.Version != version {
		return s.renewForeign(ctx, ref, l)
	}
	if err := s.ensure(ctx, l, v.keep()); err != nil {
		return s.orGone(ctx, ref, err)
	}
	v.Replica = s.replica
	v.Nonce += "+" // so that no other state of the key has this value
	if len(v.Nonce) > 64 {
		v.Nonce = v.Nonce[:32]
	}
	o := s.commit(ctx, &write{
		name: ref.Name, key: key, when: clientv3.Compare(clientv3.CreateRevision(key), "=", ref.Token),
		then: []clientv3.Op{clientv3.OpPut(key, v.encode(), clientv3.WithIgnoreLease())},
	})
	switch {
	case o.err != nil:
		return lock.Renewal{Err: fmt.Errorf("write to etcd: %w", o.err)}
	case !o.ok:
		return lock.Renewal{Err: lock.ErrGone}
	}
	if err := s.ensure(ctx, l, v.keep()); err != nil {
		return s.orGone(ctx, ref, err)
	}
	k := &kept{ref: ref, key: key, modified: o.revision, keep: v.keep(), value: v, lease: l, taken: true}
	if !s.timers.add(k) {
		return lock.Renewal{Err: errors.New("the lock is being changed")}
	}
	s.metrics.moved.Inc()
	return lock.Renewal{TTL: v.ttl()}
}

// leaseOf is the lease of a lock of another replica. How long it lives is not known.
func (s *Store) leaseOf(kv *mvccpb.KeyValue, v *value) *lease {
	if v.Session != "" {
		return s.sessions.of(kv.Lease, v.Lease, v.Session)
	}
	return &lease{id: kv.Lease, life: time.Duration(v.Lease) * time.Second, exposed: true} // another may know it
}

// orGone says that a lock is gone if its lease is and its key, too.
func (s *Store) orGone(ctx context.Context, ref lock.Ref, err error) lock.Renewal {
	if errors.Is(err, errLeaseGone) {
		if _, missing := s.find(ctx, ref); missing != nil {
			return lock.Renewal{Err: missing}
		}
	}
	return lock.Renewal{Err: err}
}

// renewForeign renews a lock of another server of the old protocol: its time is that of its lease.
func (s *Store) renewForeign(ctx context.Context, ref lock.Ref, l *lease) lock.Renewal {
	if l.id == 0 {
		return lock.Renewal{Err: lock.ErrGone} // nobody's, set by hand
	}
	if err := s.ensure(ctx, l, time.Hour); err != nil {
		return s.orGone(ctx, ref, err)
	}
	_, err := s.find(ctx, ref)
	return lock.Renewal{Err: err}
}
