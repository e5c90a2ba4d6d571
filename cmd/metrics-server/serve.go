package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/collect"
)

// endGrace follows -shutdown-deadline: a sink that has given up writes its last in it.
const endGrace = 2 * time.Second

var (
	errLeft = errors.New("told three times to end: what was not sent or spooled by then is lost")
	errHung = errors.New("the sinks did not end within -shutdown-deadline: does a disk hang? What was not sent or spooled by then is lost")
)

// stages are what signals ask for, one after another: to end, to end without -shutdown-delay, and to leave behind
// what has not ended.
type stages struct {
	end, hurry, leave context.Context
	finish            context.CancelCauseFunc // of end
}

// newStages listens to signals until stop is called or parent ends.
func newStages(parent context.Context) (st stages, stop func()) {
	var hurry, leave context.CancelFunc
	st.end, st.finish = context.WithCancelCause(parent)
	st.hurry, hurry = context.WithCancel(context.WithoutCancel(parent))
	st.leave, leave = context.WithCancel(context.WithoutCancel(parent))
	got, done := make(chan os.Signal, 3), make(chan struct{})
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM)
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, next := range []func(os.Signal){
			func(s os.Signal) { st.finish(fmt.Errorf("got %v", s)) },
			func(os.Signal) { hurry() },
			func(os.Signal) { leave() },
		} {
			select {
			case s := <-got:
				next(s)
			case <-done:
				return
			}
		}
	})
	return st, func() {
		signal.Stop(got)
		close(done)
		wg.Wait()
		st.finish(nil)
		hurry()
		leave()
	}
}

// serve runs until it is told to end: then it waits for -shutdown-delay, stops receiving, reads what is queued, has
// the sinks flush, and ends.
func (s *server) serve(st stages) error {
	base := context.WithoutCancel(st.end)
	receiving, stopReceiving := context.WithCancel(base)
	defer stopReceiving()
	flushing, flush := context.WithCancel(base)
	defer flush()
	failed := make(chan error, len(s.sinks))
	back := s.startBack(flushing, failed) // who takes from others ends last
	httpDone := make(chan error, 1)
	go func() { httpDone <- s.http.Serve(s.listener) }()
	received := make(chan error, 1)
	go func() { received <- s.receiver.Run(receiving) }()
	s.log.Info("listening", "http", s.listener.Addr().String(), "sockets", addresses(s.receiver))

	var err error
	select {
	case err = <-httpDone:
		err = fmt.Errorf("serve: %w", err)
	case serr := <-failed:
		s.ending.Store(true)
		s.log.Error("a sink ended, so the server does", "err", serr)
	case <-st.end.Done():
		s.ending.Store(true)
		s.log.Info("shutting down", "reason", context.Cause(st.end), "delay", s.flags.ShutdownDelay)
		wait(st.hurry, s.flags.ShutdownDelay)
	}
	stopReceiving()
	err = errors.Join(err, <-received)
	flush()
	err = errors.Join(err, s.finish(st.leave, back))
	sctx, cancel := context.WithTimeout(base, time.Second) // for pages that are being read
	defer cancel()
	if s.http.Shutdown(sctx) != nil {
		err = errors.Join(err, s.http.Close())
	}
	return err
}

// startBack starts what runs until ctx ends, and returns the wait for all of it. A sink that ends before, such as one
// whose spool cannot be opened, tells failed.
func (s *server) startBack(ctx context.Context, failed chan<- error) (wait func() error) {
	var wg sync.WaitGroup
	errs := make([]error, len(s.sinks)+1)
	for i, r := range s.sinks {
		wg.Go(func() {
			errs[i] = r.Run(ctx)
			if ctx.Err() == nil {
				failed <- errs[i]
			}
		})
	}
	if s.forward != nil {
		wg.Go(func() { errs[len(s.sinks)] = s.forward.Run(ctx) })
	}
	wg.Go(func() { s.registry.Run(ctx) })
	wg.Go(func() { s.profile.Run(ctx) })
	return func() error { wg.Wait(); return errors.Join(errs...) }
}

// finish waits for what startBack started, and leaves it behind where it does not end: a system call on a disk that
// hangs has no deadline of its own.
func (s *server) finish(leave context.Context, back func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- back() }()
	late := time.NewTimer(s.flags.ShutdownDeadline + endGrace)
	defer late.Stop()
	select {
	case err := <-ended:
		return err
	case <-late.C:
		return errHung
	case <-leave.Done():
		return errLeft
	}
}

func addresses(r *collect.Server) []string {
	var out []string
	for _, a := range r.Addrs() {
		out = append(out, a.Network()+" "+a.String())
	}
	return out
}

// wait waits for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
