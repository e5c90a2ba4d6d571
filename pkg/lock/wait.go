package lock

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// troublePause is how long a waiter leaves the store alone after it failed.
const troublePause = 500 * time.Millisecond

var (
	errDraining = &problem{http.StatusServiceUnavailable, "unavailable", "this replica is shutting down: try again"}
	errTrouble  = &problem{http.StatusServiceUnavailable, "unavailable", "the state of the lock is not known now: try again"}
)

// wait acquires a lock, at once or after its turn. The time that it waited ends before the lock was
// had, so that the TTL may be counted from it.
func (s *Server) wait(ctx context.Context, req Request, most time.Duration) (Holder, time.Duration, error) {
	begin := time.Now()
	if most == 0 {
		holder, err := s.try(ctx, req)
		s.metrics.acquired(err, false, time.Since(begin))
		return holder, 0, err
	}
	wait := s.queues.join(req.Name)
	var got Holder
	defer func() { s.queues.leave(wait, got) }()
	end := time.NewTimer(most)
	defer end.Stop()
	for {
		trouble := false
		if s.queues.turn(wait) {
			start := time.Now()
			holder, err := s.try(ctx, req)
			if err == nil {
				got = holder
				s.metrics.acquired(nil, true, time.Since(begin))
				s.metrics.handedOver(s.queues.freedAt(wait))
				return holder, start.Sub(begin), nil
			}
			if !s.mayWait(ctx, wait, holder, err) {
				return holder, 0, err
			}
			trouble = !errors.Is(err, ErrHeld)
		}
		if err := s.rest(ctx, wait, end.C, trouble); err != nil {
			if errors.Is(err, ErrHeld) {
				s.metrics.acquired(err, true, time.Since(begin))
			}
			return s.queues.holder(wait), 0, err
		}
	}
}

// mayWait tells if it makes sense to wait after an error.
func (s *Server) mayWait(ctx context.Context, w *waiter, holder Holder, err error) bool {
	if errors.Is(err, ErrHeld) {
		s.queues.met(w, holder)
		return true
	}
	s.queues.retry(w) // the store was perhaps not asked: so will this waiter, or the next one
	return !errors.Is(err, ErrSlots) && ctx.Err() == nil
}

// rest returns nil when the waiter should look again.
func (s *Server) rest(ctx context.Context, w *waiter, end <-chan time.Time, trouble bool) error {
	wake, atEnd := w.wake, ErrHeld
	var pause <-chan time.Time
	if trouble { // later, but never in a loop
		wake, atEnd, pause = nil, errTrouble, time.After(troublePause)
	}
	select {
	case <-wake:
		return nil
	case <-pause:
		return nil
	case <-end:
		return atEnd
	case <-s.draining:
		return errDraining
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Server) try(ctx context.Context, req Request) (Holder, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return s.store.Acquire(ctx, req)
}
