package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

// callTimeout bounds every call to etcd.
const callTimeout = 2 * time.Second

const (
	maxOps      = 100 // of a batch; etcd's own limit is 128
	maxWrites   = 1   // batches of writes side by side
	maxCheckers = 1   // batches of reads side by side
	maxChecks   = 10000
	fewChecks   = 8 // so many are compared at once
)

var errClosed = errors.New("the store is closed")

// write is a transaction on one key.
type write struct {
	name  lock.Name // its lock; no two of one are in a batch
	key   string
	alone bool // likely to fail, which would fail the whole batch
	when  clientv3.Cmp
	then  []clientv3.Op
	els   []clientv3.Op
	done  chan outcome // holds one
}

// outcome is what became of a write.
type outcome struct {
	ok       bool // when was true
	revision int64
	answers  []*pb.ResponseOp
	err      error
}

// submit starts a write. Its outcome comes, whatever happens to the caller.
func (s *Store) submit(w *write) {
	w.done = make(chan outcome, 1)
	if w.alone {
		if !s.spawn(func() { s.commitOne(w) }) {
			w.done <- outcome{err: errClosed}
		}
		return
	}
	if !s.writes.add(w) {
		w.done <- outcome{err: errClosed}
	}
}

// commit waits for the outcome of a write that needs no undoing.
func (s *Store) commit(ctx context.Context, w *write) outcome {
	s.submit(w)
	select {
	case o := <-w.done:
		return o
	case <-ctx.Done():
		return outcome{err: context.Cause(ctx)}
	}
}

// commitAll runs a batch. One lease that is dead fails all of it, and changes nothing: then they
// run one by one. So they do, and at once, when there is but one.
func (s *Store) commitAll(batch []*write) {
	s.metrics.batch.Observe(float64(len(batch)))
	if len(batch) == 1 {
		s.commitOne(batch[0])
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	ops := make([]clientv3.Op, len(batch))
	for i, w := range batch {
		ops[i] = clientv3.OpTxn([]clientv3.Cmp{w.when}, w.then, w.els)
	}
	resp, err := s.client().Txn(ctx).Then(ops...).Commit()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		s.metrics.split.Inc()
		for _, w := range batch {
			s.commitOne(w)
		}
		return
	}
	if err != nil {
		s.failed("txn", err)
		for _, w := range batch {
			w.done <- outcome{err: err}
		}
		return
	}
	for i, w := range batch {
		txn := resp.Responses[i].GetResponseTxn()
		w.done <- outcome{ok: txn.Succeeded, revision: resp.Header.Revision, answers: txn.Responses}
	}
}

func (s *Store) commitOne(w *write) {
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	resp, err := s.client().Txn(ctx).If(w.when).Then(w.then...).Else(w.els...).Commit()
	if err != nil {
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			s.failed("txn", err)
		}
		w.done <- outcome{err: err}
		return
	}
	w.done <- outcome{ok: resp.Succeeded, revision: resp.Header.Revision, answers: resp.Responses}
}

// check asks whether a key still has a modification revision, linearizably.
type check struct {
	key      string
	revision int64
	done     chan verdict // holds one
}

type verdict struct {
	same bool
	err  error
}

// checkAll asks for a batch. For many it tries the cheapest first: when the watch has told all that
// had happened by now, those whose time is still kept here are the same.
func (s *Store) checkAll(batch []*check) {
	if len(batch) > fewChecks {
		if good, _ := s.caughtUp(); good {
			for _, c := range batch {
				c.done <- verdict{same: true}
			}
			return
		}
	}
	for part := range slices.Chunk(batch, maxOps) {
		s.compare(part)
	}
}

// caughtUp asks etcd, linearizably, for its revision, and tells if all events up to it are applied.
func (s *Store) caughtUp() (bool, error) {
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	sent := boottime()
	resp, err := s.client().Get(ctx, s.prefix+internal, clientv3.WithCountOnly())
	if err != nil {
		s.failed("check", err)
		return false, fmt.Errorf("read from etcd: %w", err)
	}
	return s.fresh.read(sent, resp.Header.Revision), nil
}

// compare asks for some checks in one read. Only if not all are the same it asks which.
func (s *Store) compare(batch []*check) {
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	when := make([]clientv3.Cmp, len(batch))
	els := make([]clientv3.Op, len(batch))
	for i, c := range batch {
		when[i] = clientv3.Compare(clientv3.ModRevision(c.key), "=", c.revision)
		els[i] = clientv3.OpGet(c.key, clientv3.WithKeysOnly())
	}
	// A transaction without a read that is linearizable would not be so itself.
	barrier := clientv3.OpGet(batch[0].key, clientv3.WithCountOnly())
	sent := boottime()
	resp, err := s.client().Txn(ctx).If(when...).Then(barrier).Else(els...).Commit()
	if err != nil {
		s.failed("check", err)
	} else {
		s.fresh.read(sent, resp.Header.Revision)
	}
	for i, c := range batch {
		switch {
		case err != nil:
			c.done <- verdict{err: err}
		case resp.Succeeded:
			c.done <- verdict{same: true}
		default:
			kvs := resp.Responses[i].GetResponseRange().Kvs
			c.done <- verdict{same: len(kvs) == 1 && kvs[0].ModRevision == c.revision}
		}
	}
}
