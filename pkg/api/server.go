package api

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	maxConns    = 512
	connGrace   = 50 * time.Millisecond // to send a request, in a flood
	maxHeader   = 8 << 10
	idleTimeout = 2 * time.Minute
	closeWithin = time.Second // at the end, for requests that are being answered
)

// ErrAddress is why [Server.Listen] refuses what is no address.
var ErrAddress = errors.New("is no address: write host:port or :port, such as :8111")

var errClosing = errors.New("the server is closing")

// Server serves a handler with limits on everything that a client decides.
// Make one with [NewServer].
type Server struct {
	handler http.Handler
	log     *slog.Logger
	ln      net.Listener
	conns   conns
}

// NewServer returns a server of a handler.
func NewServer(handler http.Handler, log *slog.Logger) *Server {
	return &Server{handler: handler, log: log, conns: conns{max: maxConns, grace: connGrace}}
}

// Listen opens the socket, such as ":8111" for all addresses of both families.
func (s *Server) Listen(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if isBad(addr, err) {
		return fmt.Errorf("HEALTH_SOCKET %q %w: %w", addr, ErrAddress, err)
	}
	if err != nil {
		return fmt.Errorf("health server: listen on %q: %w (HEALTH_SOCKET sets the address, such as :8111)", addr, err)
	}
	s.ln = ln
	return nil
}

// isBad says whether err, of listening, is for an address that can never be one.
func isBad(addr string, err error) bool {
	if bad := (*net.AddrError)(nil); errors.As(err, &bad) {
		return true
	}
	_, port, _ := net.SplitHostPort(addr)
	unknown := (*net.DNSError)(nil) // a host that is unknown may be known later
	return errors.As(err, &unknown) && unknown.Name == "tcp/"+port
}

// Addr returns the address that Listen opened.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Serve answers until ctx ends, and then for at most a second more what was
// already asked. It returns nil when ctx ended it, and in either case with the
// socket closed.
func (s *Server) Serve(ctx context.Context) error {
	requests, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(errClosing)
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         s.conns.state,
		ConnContext:       s.conns.context,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          log.New(&quiet{log: s.log}, "", 0),
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	failed := make(chan error, 1)
	wg.Go(func() { failed <- srv.Serve(listener{s.ln, &s.conns, ctx.Done()}) })
	select {
	case err := <-failed:
		_ = srv.Close() // the error that ended Serve is the one to tell
		return fmt.Errorf("health server: %w", err)
	case <-ctx.Done():
	}
	_ = s.ln.Close() // so that nothing new comes; it is closed again below
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		s.log.Warn("health server ended with an error", "err", err)
	}
	end(errClosing)
	s.close(srv)
	return nil
}

// close ends all connections in bounded time.
func (s *Server) close(srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	s.conns.closePending()
	_ = srv.Shutdown(ctx) // whoever is not done by then is cut off
	_ = srv.Close()
	select {
	case <-s.conns.drained():
	case <-ctx.Done():
	}
}
