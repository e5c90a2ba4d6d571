package etcdstore

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const (
	replicaTTL   = 5 // seconds
	sweepEvery   = time.Second
	sweepPatient = time.Second // what began younger than that is not swept
)

// sweep tells the others that this replica lives, and takes the locks of dead replicas over while
// this one is elected to do so. It ends when the store is closed.
func (s *Store) sweep() {
	for s.live.Err() == nil {
		if err := s.sweepSession(); err != nil && s.live.Err() == nil {
			s.failed("session", err)
			s.log.Debug("session of this replica ended", "err", err)
		}
		if !s.pause(time.Second) {
			return
		}
	}
}

func (s *Store) sweepSession() error {
	// The session's own lease is granted here: a session that cannot be granted would block for ever.
	granted, err := s.grant(0, replicaTTL)
	if err != nil {
		return err
	}
	session, err := concurrency.NewSession(s.client(), concurrency.WithLease(clientv3.LeaseID(granted.id)), concurrency.WithContext(s.ctx))
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }() // if that fails, its lease ends by itself
	ctx, cancel := context.WithCancel(s.live)
	defer cancel()
	defer context.AfterFunc(session.Ctx(), cancel)()
	put, stop := context.WithTimeout(ctx, callTimeout)
	defer stop()
	if _, err := s.client().Put(put, s.replicaKey(s.replica), "", clientv3.WithLease(session.Lease())); err != nil {
		return err
	}
	election := concurrency.NewElection(session, s.prefix+internal+"sweep")
	if err := election.Campaign(ctx, s.replica); err != nil {
		return err
	}
	s.log.Debug("this replica sweeps")
	return s.sweepWhile(ctx)
}

func (s *Store) replicaKey(id string) string { return s.prefix + internal + "replica/" + id }

// sweepWhile looks for locks of dead replicas until ctx ends.
func (s *Store) sweepWhile(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	missing := map[string]time.Time{} // replicas, since when
	for {
		select {
		case <-tick.C:
			s.adopt(ctx, missing)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// adopt takes the locks of replicas over that are gone for a while. Their time begins anew, since it
// is not known when they were renewed last.
func (s *Store) adopt(ctx context.Context, missing map[string]time.Time) {
	gone := map[string]bool{}
	for _, id := range s.table.others(s.replica) {
		switch {
		case s.table.get(s.replicaKey(id)) != nil:
			delete(missing, id)
		case missing[id].IsZero():
			missing[id] = time.Now()
		case time.Since(missing[id]) >= sweepPatient:
			gone[id] = true
		}
	}
	if len(gone) == 0 {
		return
	}
	for _, kv := range s.table.all() {
		h, ok := s.holder(kv)
		v := decode(kv.Value)
		if !ok || v.Version != version || !gone[v.Replica] {
			continue
		}
		if err := s.renewOne(ctx, h.Ref, string(kv.Key), kv).Err; err != nil {
			s.log.Debug("lock of a lost replica could not be taken over", "key", h.Key, "err", err)
			continue
		}
		s.log.Info("took over a lock of a lost replica", "key", h.Key, "replica", v.Replica)
	}
}
