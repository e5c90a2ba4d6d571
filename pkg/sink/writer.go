package sink

import (
	"context"
	"errors"
	"time"
)

const (
	gather    = 5 * time.Millisecond // between two writes, so that there are few
	syncEvery = time.Second
	diskRetry = time.Second
)

// write moves chunks from the queue to the spool until ctx has ended and the queue is empty.
func (s *Sink) write(ctx context.Context) {
	defer func() {
		s.done.Store(true)
		wake(s.written)
	}()
	sync := time.NewTicker(syncEvery)
	defer sync.Stop()
	for {
		if !s.writeAll(ctx) {
			return
		}
		select {
		case <-s.queue.ready:
		case <-ctx.Done():
		case <-sync.C:
			s.sync()
			continue
		}
		if !wait(ctx, gather) && s.queueEmpty() {
			return
		}
	}
}

// writeAll empties the queue. It tells whether to go on.
func (s *Sink) writeAll(ctx context.Context) bool {
	for {
		more, err := s.writeOne()
		if !more {
			return true
		}
		wake(s.written)
		if err != nil && !s.waitForRoom(ctx, errors.Is(err, errSpoolFull)) {
			return false
		}
		if err == nil && s.config.Fsync == FsyncAlways {
			s.sync()
		}
	}
}

// writeOne moves a chunk to the spool, or gives it back. It is false when there was none.
func (s *Sink) writeOne() (ok bool, err error) {
	s.taking.Lock()
	defer s.taking.Unlock()
	c, ok := s.queue.take()
	if !ok {
		return false, nil
	}
	if err := s.spool.append(c.data, c.records); err != nil {
		s.queue.back(c)
		if !s.direct.Swap(true) {
			s.config.Log.Warn("cannot write to the spool; events stay in memory", "error", err)
		}
		return true, err
	}
	s.direct.Store(false)
	s.add(func(st *Stats) { st.Spooled += uint64(c.records) })
	s.queue.free(c)
	return true, nil
}

// waitForRoom waits until another try to write makes sense. It tells whether to go on.
func (s *Sink) waitForRoom(ctx context.Context, full bool) bool {
	room := s.room
	if !full {
		room = nil
	}
	timer := time.NewTimer(diskRetry)
	defer timer.Stop()
	select {
	case <-room:
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

func (s *Sink) sync() {
	if err := s.spool.sync(); err != nil {
		s.config.Log.Warn("cannot sync the spool", "error", err)
	}
}

func (s *Sink) queueEmpty() bool {
	n, _ := s.queue.held()
	return n == 0
}

// wait waits for d or until ctx ends; it tells whether it waited for all of d.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
