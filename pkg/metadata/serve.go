package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// relistenPause is between two attempts to get the port back.
const relistenPause = 100 * time.Millisecond

// Serve answers on l until ctx ends, then closes l and returns nil once all requests are
// over. A fault of mode refuse closes the port meanwhile, and cuts all connections.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	addr := l.Addr()
	for {
		if err := s.serveOpen(ctx, l); err != nil || ctx.Err() != nil {
			return err
		}
		s.config.Logger.Info("port closed", "addr", addr.String())
		if !s.waitRefused(ctx) {
			return nil
		}
		var err error
		if l, err = relisten(ctx, addr); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listen again: %w", err)
		}
		s.config.Logger.Info("port open", "addr", addr.String())
	}
}

// serveOpen serves until ctx ends or the port has to be closed.
func (s *Server) serveOpen(ctx context.Context, l net.Listener) error {
	base, cut := context.WithCancel(ctx)
	defer cut()
	g := &gate{empty: make(chan struct{})}
	srv := &http.Server{
		Handler:           g.guard(s),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelDebug),
	}
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	wg.Go(func() { failed <- srv.Serve(l) })
	err := s.untilRefused(ctx, failed)
	cut()
	_ = srv.Close() // errors of connections that are cut anyway
	wg.Wait()
	g.close()
	return err
}

func (s *Server) untilRefused(ctx context.Context, failed <-chan error) error {
	for {
		refuse, left, changed := s.refusing()
		if refuse {
			return nil
		}
		next, stop := after(left)
		select {
		case err := <-failed:
			stop()
			if errors.Is(err, http.ErrServerClosed) {
				err = nil
			}
			return err
		case <-ctx.Done():
			stop()
			return nil
		case <-changed:
		case <-next:
		}
		stop()
	}
}

// waitRefused waits until the port may open again; false when ctx ended first.
func (s *Server) waitRefused(ctx context.Context) bool {
	for {
		refuse, left, changed := s.refusing()
		if !refuse {
			return true
		}
		next, stop := after(left)
		select {
		case <-ctx.Done():
			stop()
			return false
		case <-changed:
		case <-next:
		}
		stop()
	}
}

// after returns a channel that gets a value after d, or never if d is 0.
func after(d time.Duration) (<-chan time.Time, func()) {
	if d <= 0 {
		return nil, func() {}
	}
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// relisten gets the port back. For some seconds another program may have it.
func relisten(ctx context.Context, addr net.Addr) (l net.Listener, err error) {
	var lc net.ListenConfig
	for range 50 {
		if l, err = lc.Listen(ctx, addr.Network(), addr.String()); err == nil {
			return l, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(relistenPause):
		}
	}
	return nil, err
}

// A gate counts the requests that run, so that the end can wait for them: http.Server.Close does not.
type gate struct {
	mu     sync.Mutex // guards what follows
	inside int
	closed bool
	empty  chan struct{} // closed when the gate is closed and nobody is inside
}

func (g *gate) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.enter() {
			panic(http.ErrAbortHandler)
		}
		defer g.leave()
		next.ServeHTTP(w, r)
	})
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.inside++
	}
	return !g.closed
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.closed && g.inside == 0 {
		close(g.empty)
	}
}

// close lets nobody in any more and waits until all are out.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	inside := g.inside
	g.mu.Unlock()
	if inside > 0 {
		<-g.empty
	}
}
