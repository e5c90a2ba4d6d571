package etcdstore

import (
	"context"
	"errors"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

// gates let one attempt for a key go to etcd at a time. Those that come meanwhile form the next
// round: one of them goes, and what it finds is true for all of its round, since it asked after they
// had come. So a crowd on one key costs no more than two attempts.
type gates struct {
	mu sync.Mutex // guards all
	by map[string][]*guest
}

// guest is an attempt that came while another one was under way.
type guest struct {
	lead chan []*guest // its round, which it goes for; holds one
	told chan *mvccpb.KeyValue
}

// enter waits until the caller may go for its round, or is told who holds the key. The round is to
// be given to leave.
func (g *gates) enter(ctx context.Context, key string) (round []*guest, holder *mvccpb.KeyValue, err error) {
	g.mu.Lock()
	if g.by == nil {
		g.by = map[string][]*guest{}
	}
	next, busy := g.by[key]
	if !busy {
		g.by[key] = nil
		g.mu.Unlock()
		return nil, nil, nil
	}
	me := &guest{lead: make(chan []*guest, 1), told: make(chan *mvccpb.KeyValue, 1)}
	g.by[key] = append(next, me)
	g.mu.Unlock()
	select {
	case round = <-me.lead:
		return round, nil, nil
	case holder = <-me.told:
		return nil, holder, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	for i, other := range g.by[key] {
		if other == me {
			g.by[key] = append(g.by[key][:i:i], g.by[key][i+1:]...)
		}
	}
	g.mu.Unlock()
	select { // if it was not in the queue any more, it may be its turn
	case round = <-me.lead:
		g.leave(key, round, nil)
	default:
	}
	return nil, nil, context.Cause(ctx)
}

// leave tells the round who holds the key; where that is not known, they are of the next one.
func (g *gates) leave(key string, round []*guest, holder *mvccpb.KeyValue) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := g.by[key]
	for _, other := range round {
		if holder != nil {
			other.told <- holder
		} else {
			next = append(next, other)
		}
	}
	if len(next) == 0 {
		delete(g.by, key)
		return
	}
	g.by[key] = nil
	next[0].lead <- next[1:]
}

// acquireOne is Acquire for a key with one slot.
func (s *Store) acquireOne(ctx context.Context, a *attempt, key string) (lock.Holder, error) {
	round, present, err := s.gates.enter(ctx, key)
	if err != nil {
		return lock.Holder{}, err
	}
	if present != nil {
		return s.held(ctx, a, []*mvccpb.KeyValue{present})
	}
	defer func() { s.gates.leave(key, round, present) }()
	if err := s.lend(ctx, a); err != nil {
		return lock.Holder{}, err
	}
	holder, kvs, err := s.try(ctx, a, key, 0)
	switch {
	case errors.Is(err, lock.ErrHeld):
		present = kvs[0]
		return s.held(ctx, a, kvs)
	case err == nil:
		present = &mvccpb.KeyValue{Key: []byte(key), Value: []byte(a.text), CreateRevision: holder.Token,
			ModRevision: holder.Token, Version: 1, Lease: holder.Lease}
	}
	return holder, err
}
