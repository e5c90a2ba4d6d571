// Package etcdstore keeps the locks of pkg/lock in etcd.
//
// A lock is a key that is created if it does not exist, on a lease, in one round trip. The token is
// the revision that created it. Around that:
//
//   - Leases are granted ahead ([lock.Request] with a session brings its own, shared by its locks).
//     They live longer than the lock needs, see lifetime, so they are the backstop only.
//   - The exact end is kept by a timer of the replica that answered the last renewal. It deletes the
//     key if its modification revision is still the one that this replica wrote or saw. Which replica
//     keeps the time stands in the value: a replica that gets a renewal for a lock of another one
//     writes itself into it, which changes the revision, so that the timer of the other does nothing.
//   - A renewal at the replica that keeps the time is a read: is the revision still the same? Only
//     after that, and when the lease lives long enough, the timer is set anew. Many renewals share
//     one read, and a lease is kept alive only when its slack is used up.
//   - No renewal waits for that read if, less than freshFor ago, a read was sent whose answer had a
//     revision up to which the watch had told all: then the lock was this replica's at that time. If
//     another one took it over since, that one keeps it for freshFor longer than its TTL. While renewals
//     come, such reads are made beside them.
//   - Writes that come together are committed together.
//   - A renewal that ends before etcd answers may be written all the same, and leave a lock whose time
//     nobody keeps. Each replica looks for those that name it.
//   - A replica that is gone leaves locks without a timer. The one replica that is elected takes them
//     over; until then etcd's lease counts.
//
// go.etcd.io/etcd/client/v3/concurrency serves for that election and for the replicas' own sessions.
// For locks its Mutex is not used: it needs a session that the server would keep alive whether or
// not the client lives, has no token, and takes a get and a delete of its own key where one
// transaction does.
package etcdstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

// Options say how a [Store] works. The zero value of each field is good, except for Log.
type Options struct {
	Prefix   string                // of its keys; "/shared-lock/" if empty
	Observe  func(lock.Event)      // sees changes, in order; must not block
	Registry prometheus.Registerer // for metrics
	Log      *slog.Logger
}

// Store is a [lock.Store] on a cluster of etcd. Make one with [New].
type Store struct {
	etcd       *clientv3.Client
	prefix     string
	replica    string // unique for each start
	observe    func(lock.Event)
	log        *slog.Logger
	metrics    *metrics
	nonce      atomic.Uint64
	pool       pool
	sessions   sessions
	gates      gates
	keepalives keepalives
	writes     batcher[*write, lock.Name]
	checks     batcher[*check, *check]
	timers     timers
	table      table
	fresh      freshness
	cluster    string

	ctx    context.Context // ends when all is done
	cancel context.CancelCauseFunc
	live   context.Context // ends when Close begins
	end    context.CancelCauseFunc
	mu     sync.Mutex // guards wg from being waited for while it grows
	closed bool
	wg     sync.WaitGroup
}

var _ lock.Store = (*Store)(nil)

// New returns a store on a cluster. It does nothing before Start.
func New(etcd *clientv3.Client, o Options) *Store {
	s := &Store{etcd: etcd, prefix: o.Prefix, replica: rand.Text()[:13], observe: o.Observe, log: o.Log}
	if s.prefix == "" {
		s.prefix = "/shared-lock/"
	}
	if s.observe == nil {
		s.observe = func(lock.Event) {}
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.live, s.end = context.WithCancelCause(s.ctx)
	s.pool.store, s.keepalives.store, s.timers.store = s, s, s
	s.timers.wake = make(chan struct{}, 1)
	s.writes = batcher[*write, lock.Name]{limit: maxWrites, most: maxOps, key: func(w *write) lock.Name { return w.name }, run: s.commitAll, wg: &s.wg}
	s.checks = batcher[*check, *check]{limit: maxCheckers, most: maxChecks, key: func(c *check) *check { return c }, run: s.checkAll, wg: &s.wg}
	s.metrics = newMetrics(s, o.Registry)
	return s
}

// Start begins to watch etcd, which has to answer until ctx ends. Close has to be called afterwards,
// whatever Start returned.
func (s *Store) Start(ctx context.Context) error {
	revision, err := s.load(ctx)
	if err != nil {
		return fmt.Errorf("read locks from etcd: %w", err)
	}
	s.warnOfOld(ctx)
	s.spawn(func() { s.watch(revision) })
	s.spawn(s.timers.run)
	s.spawn(s.pool.tend)
	s.spawn(s.sweep)
	s.spawn(s.tendStrays)
	return nil
}

// Close ends what Start began, gives back the leases that nobody uses, and leaves the locks to
// their leases and to the other replicas. It takes 2 s at most.
func (s *Store) Close() {
	s.end(errClosed)
	s.writes.close()
	s.checks.close()
	s.pool.close()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	timeout := time.AfterFunc(callTimeout, func() { s.cancel(errClosed) })
	defer timeout.Stop()
	s.wg.Wait()
	s.cancel(errClosed)
	_ = s.etcd.Close() // its context is what it would return
}

// spawn runs f beside, and returns false if the store is closed.
func (s *Store) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}

// Cluster returns the id of the cluster in hexadecimal, "" before Start.
func (s *Store) Cluster() string { return s.cluster }

// Ready asks etcd, linearizably.
func (s *Store) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	resp, err := s.client().Get(ctx, s.prefix+internal, clientv3.WithCountOnly())
	if err != nil {
		return fmt.Errorf("read from etcd: %w", err)
	}
	if cluster := hexID(resp.Header.ClusterId); cluster != s.cluster {
		return fmt.Errorf("etcd is another cluster now: %s, not %s", cluster, s.cluster)
	}
	return nil
}

func (s *Store) client() *clientv3.Client { return s.etcd }

// leases speaks the protocol of leases itself.
func (s *Store) leases() pb.LeaseClient { return pb.NewLeaseClient(s.etcd.ActiveConnection()) }

// failed counts an error of etcd.
func (s *Store) failed(call string, err error) {
	if errors.Is(err, context.Canceled) && s.live.Err() != nil {
		return
	}
	s.metrics.errors.WithLabelValues(call).Inc()
	s.log.Debug("etcd call failed", "call", call, "err", err)
}

// warnOfOld names members whose etcd may answer that a lease was renewed when it was not.
func (s *Store) warnOfOld(ctx context.Context) {
	for _, endpoint := range s.etcd.Endpoints() {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		status, err := s.etcd.Status(ctx, endpoint)
		cancel()
		switch {
		case err != nil:
			s.log.Warn("etcd member does not answer", "endpoint", endpoint, "err", err)
		case outdated(status.Version):
			s.log.Warn("etcd has bugs that break leases: locks may end early; update it", "endpoint", endpoint,
				"version", status.Version, "needed", "3.4.38, 3.5.23 or 3.6.5")
		}
	}
}

// outdated tells if this version of etcd may renew a revoked lease.
func outdated(version string) bool {
	var major, minor, patch int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil {
		return false
	}
	fixed := map[int]int{4: 38, 5: 23, 6: 5}
	least, known := fixed[minor]
	return major < 3 || major == 3 && (minor < 4 || known && patch < least)
}

func hexID(id uint64) string { return strconv.FormatUint(id, 16) }
