package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// errLeaseGone says that etcd knows a lease no more.
var errLeaseGone = errors.New("the lease is gone")

// lease is one of etcd. It lives until sent + life at least, by leaseClock: time is taken before the request.
type lease struct {
	id      int64
	session bool // shared by the locks of a session, never revoked by us but at its end
	made    time.Time
	owner   string // the name of the session
	exposed bool   // known to a client, never used again

	mu   sync.Mutex // guards what follows
	life time.Duration
	sent time.Time // zero: not known here
}

// prolonged says that a request of that time was answered.
func (l *lease) prolonged(sent time.Time, granted time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.life = min(l.life, granted) // shorter only if somebody else made it
	if sent.After(l.sent) {
		l.sent = sent
	}
}

// lives tells if the lease is known to live that long from now.
func (l *lease) lives(keep time.Duration) bool { return l.livesFrom(leaseClock(), keep) }

// livesFrom is lives for a time that was read before.
func (l *lease) livesFrom(now time.Time, keep time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.sent.IsZero() && l.sent.Add(l.life).Sub(now) >= keep
}

// leaseClock goes on while the machine is suspended, where there is such a clock, as that of etcd does elsewhere:
// else a lease would be thought to live that is over. Its times can be compared with each other only.
func leaseClock() time.Time {
	if t := boottime(); t > 0 {
		return time.Unix(0, t) // without a reading of Go's own clock, which stands still then
	}
	return time.Now()
}

// lifetime is how long it lives after it was prolonged.
func (l *lease) lifetime() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.life
}

// ensure makes the lease live for so long from now: errLeaseGone if it is gone.
func (s *Store) ensure(ctx context.Context, l *lease, keep time.Duration) error {
	if l.lives(keep) {
		return nil
	}
	return s.prolong(ctx, l, s.keepalives.renew)
}

// prolong keeps the lease alive: errLeaseGone if it is gone.
func (s *Store) prolong(ctx context.Context, l *lease, renew func(context.Context, int64) (int64, error)) error {
	sent := leaseClock()
	ttl, err := renew(ctx, l.id)
	switch {
	case err != nil:
		s.failed("keepalive", err)
		return fmt.Errorf("keep lease alive: %w", err)
	case ttl <= 0:
		return errLeaseGone
	}
	l.prolonged(sent, time.Duration(ttl)*time.Second)
	return nil
}

// grant makes a lease; id 0 stands for a new one. It is not bound to a client, who might leave when
// etcd has made it. One that etcd may have made is revoked.
func (s *Store) grant(id, seconds int64) (*lease, error) {
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	isNew := id == 0
	if isNew {
		id = rand.Int64N(math.MaxInt64-1) + 1
	}
	sent := leaseClock()
	// Not Lease.Grant, which does not let us choose the id.
	resp, err := s.leases().LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: seconds})
	if err == nil {
		return &lease{id: resp.ID, life: time.Duration(resp.TTL) * time.Second, sent: sent}, nil
	}
	if err := rpctypes.Error(err); errors.Is(err, rpctypes.ErrLeaseExist) {
		return nil, err
	}
	s.failed("grant", err)
	if isNew {
		s.revoke(id, time.Duration(seconds)*time.Second)
	}
	return nil, fmt.Errorf("grant lease: %w", err)
}

// revoke ends a lease and frees its keys, as soon as etcd can be reached, or until it is over anyway.
func (s *Store) revoke(id int64, life time.Duration) {
	s.spawn(func() {
		s.retry(life, func(ctx context.Context) error {
			return s.revokeNow(ctx, id)
		})
	})
}

// retry calls f until it succeeds, for at most so long.
func (s *Store) retry(most time.Duration, f func(context.Context) error) {
	end := time.Now().Add(most)
	for {
		ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
		err := f(ctx)
		cancel()
		if err == nil || time.Now().After(end) {
			return
		}
		s.failed("clean-up", err)
		select {
		case <-time.After(300 * time.Millisecond):
		case <-s.ctx.Done():
			return
		}
	}
}

// sessions are the session leases that this replica has used.
type sessions struct {
	mu sync.Mutex // guards all
	by map[int64]*lease
}

// of returns the lease of a session; it need not exist.
func (t *sessions) of(id, seconds int64, owner string) *lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = map[int64]*lease{}
	}
	l := t.by[id]
	if l == nil {
		l = &lease{id: id, life: time.Duration(seconds) * time.Second, session: true, owner: owner, made: time.Now()}
		t.by[id] = l
	}
	return l
}

// forget drops what is over, and the one with the id.
func (t *sessions) forget(id int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.by, id)
}

// tidy drops what is over.
func (t *sessions) tidy() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, l := range t.by {
		// As long again as it lives, so that one in use is never dropped.
		if time.Since(l.made) > l.lifetime() && !l.lives(-l.lifetime()) {
			delete(t.by, id)
		}
	}
}

// named returns the ids of the leases of a session.
func (t *sessions) named(name string) (ids []int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, l := range t.by {
		if l.owner == name {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *Store) revokeNow(ctx context.Context, id int64) error {
	_, err := s.client().Revoke(ctx, clientv3.LeaseID(id))
	if err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	s.failed("revoke", err)
	return fmt.Errorf("revoke lease: %w", err)
}
