package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var errStream = errors.New("the stream of keepalives broke")

// keepalives sends all keepalives through one stream, where the client of etcd would open one for
// each. The stream opens at the first and again after it broke.
type keepalives struct {
	store *Store

	mu     sync.Mutex // guards what follows, and sending
	stream *stream    // nil: none is open
}

type stream struct {
	pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc

	mu      sync.Mutex             // guards waiting
	waiting map[int64][]chan int64 // by lease, in the order of sending; nil: broken
}

// renew returns the TTL of a lease in seconds after it was kept alive; 0: it is gone.
func (k *keepalives) renew(ctx context.Context, id int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	st, answer, err := k.send(id)
	if err != nil {
		return 0, err
	}
	select {
	case ttl, ok := <-answer:
		if !ok {
			return 0, errStream
		}
		return ttl, nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			k.drop(st) // it may lead to a member that answers no more
		}
		return 0, context.Cause(ctx)
	}
}

// keepAliveAlone is renew with a stream of its own: for a lease that is just over, etcd answers when it has ended it, and nothing
// else on the stream before.
func (s *Store) keepAliveAlone(ctx context.Context, id int64) (int64, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), callTimeout)
	defer cancel()
	alone, err := s.leases().LeaseKeepAlive(ctx)
	if err != nil {
		return 0, fmt.Errorf("open a stream for a keepalive: %w", err)
	}
	if err := alone.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
		return 0, fmt.Errorf("%w: %w", errStream, err)
	}
	resp, err := alone.Recv()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errStream, err)
	}
	return resp.TTL, nil
}

func (k *keepalives) send(id int64) (*stream, chan int64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stream == nil || k.stream.broken() {
		if err := k.open(); err != nil {
			return nil, nil, err
		}
	}
	st := k.stream
	answer := make(chan int64, 1)
	st.mu.Lock()
	if st.waiting == nil {
		st.mu.Unlock()
		k.stream = nil
		return nil, nil, errStream
	}
	st.waiting[id] = append(st.waiting[id], answer)
	st.mu.Unlock()
	if err := st.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
		k.stream = nil
		st.cancel()
		return nil, nil, fmt.Errorf("%w: %w", errStream, err)
	}
	return st, answer, nil
}

// open makes a stream. The caller holds mu.
func (k *keepalives) open() error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(k.store.live))
	s, err := k.store.leases().LeaseKeepAlive(ctx)
	if err != nil {
		cancel()
		return fmt.Errorf("open the stream of keepalives: %w", err)
	}
	st := &stream{Lease_LeaseKeepAliveClient: s, cancel: cancel, waiting: map[int64][]chan int64{}}
	if !k.store.spawn(st.receive) {
		cancel()
		return errClosed
	}
	k.stream = st
	return nil
}

func (k *keepalives) drop(st *stream) {
	k.mu.Lock()
	defer k.mu.Unlock()
	st.cancel()
	if k.stream == st {
		k.stream = nil
	}
}

func (s *stream) broken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting == nil
}

// receive hands answers out until the stream breaks.
func (s *stream) receive() {
	defer s.cancel()
	for {
		resp, err := s.Recv()
		s.mu.Lock()
		if err != nil {
			for _, all := range s.waiting {
				for _, answer := range all {
					close(answer)
				}
			}
			s.waiting = nil
			s.mu.Unlock()
			return
		}
		if all := s.waiting[resp.ID]; len(all) > 0 {
			all[0] <- resp.TTL
			if len(all) == 1 {
				delete(s.waiting, resp.ID)
			} else {
				s.waiting[resp.ID] = all[1:]
			}
		}
		s.mu.Unlock()
	}
}
