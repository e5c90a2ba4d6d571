package api

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// conns keeps the number of open connections within a bound, so that a flood
// of them cannot keep the kubelet out: for each one too many the oldest is
// closed that has not sent a whole request, a few more with it, else the oldest
// whose client is slow to take its answer. A held ?wait is never closed; they are bounded
// themselves. Nor is one that had no time yet to send its request: rather than
// close a probe among thousands that came at once, the next has to wait for a
// moment.
type conns struct {
	max   int
	grace time.Duration

	mu      sync.Mutex // guards what follows
	open    map[net.Conn]*conn
	classes [3]list.List  // of net.Conn, oldest first
	none    chan struct{} // closed when no connection is left; nil until asked for
}

type class int

const (
	pending class = iota // new, idle, or in the middle of a header
	active               // its request is being answered
	parked               // its ?wait is held
)

type conn struct {
	net.Conn
	class class
	elem  *list.Element
	since time.Time // of its class
}

// state is an [http.Server] ConnState hook.
func (t *conns) state(c net.Conn, s http.ConnState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch s {
	case http.StateNew:
		if t.open == nil {
			t.open = make(map[net.Conn]*conn)
		}
		e := &conn{Conn: c}
		t.open[c] = e
		t.file(e, pending)
	case http.StateActive:
		t.move(c, active)
	case http.StateIdle:
		t.move(c, pending)
	case http.StateClosed, http.StateHijacked:
		t.forget(c)
	}
}

// move files a connection under another class. The caller holds mu.
func (t *conns) move(c net.Conn, to class) {
	if e := t.open[c]; e != nil {
		t.classes[e.class].Remove(e.elem)
		t.file(e, to)
	}
}

func (t *conns) file(e *conn, to class) {
	e.class, e.since = to, time.Now()
	e.elem = t.classes[to].PushBack(e)
}

// forget drops a connection. The caller holds mu.
func (t *conns) forget(c net.Conn) {
	if e := t.open[c]; e != nil {
		t.classes[e.class].Remove(e.elem)
		delete(t.open, c)
	}
	if len(t.open) == 0 && t.none != nil {
		close(t.none)
		t.none = nil
	}
}

// room makes room for at least one more, or returns how long to wait before
// that. It makes more at once where it may, so that the wait is not for each.
func (t *conns) room() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) < t.max {
		return 0
	}
	for n := range max(t.max/16, 1) {
		oldest := t.oldest()
		if oldest == nil {
			break
		}
		if wait := t.grace - time.Since(oldest.since); wait > 0 {
			if n == 0 {
				return wait
			}
			break
		}
		t.evict(oldest)
	}
	return 0
}

// oldest returns the connection that is missed least. The caller holds mu.
func (t *conns) oldest() *conn {
	for _, k := range []class{pending, active} {
		if front := t.classes[k].Front(); front != nil {
			return front.Value.(*conn)
		}
	}
	return nil
}

// evict closes a connection with a reset, which frees it at once, whatever is
// unread or unsent. The caller holds mu.
func (t *conns) evict(c *conn) {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // the connection is given up either way
	}
	_ = c.Close()
	t.forget(c.Conn)
}

// closePending closes all that have no request.
func (t *conns) closePending() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for front := t.classes[pending].Front(); front != nil; front = t.classes[pending].Front() {
		c := front.Value.(*conn)
		_ = c.Close()
		t.forget(c.Conn)
	}
}

// drained returns a channel that is closed when no connection is left.
func (t *conns) drained() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	done := make(chan struct{})
	if len(t.open) == 0 {
		close(done)
	} else {
		t.none = done
	}
	return done
}

type parkKey struct{}

// context is an [http.Server] ConnContext hook.
func (t *conns) context(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, parkKey{}, func(to class) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.move(c, to)
	})
}

// park keeps the connection of a request from being closed for others, until
// the returned function is called.
func park(ctx context.Context) (unpark func()) {
	move, ok := ctx.Value(parkKey{}).(func(class))
	if !ok {
		return func() {}
	}
	move(parked)
	return func() { move(active) }
}

// listener keeps the number of connections within their bound. Without a
// descriptor for a new one it gives up an old one; the server pauses before it
// tries again.
type listener struct {
	net.Listener
	conns  *conns
	closed <-chan struct{}
}

func (l listener) Accept() (net.Conn, error) {
	for wait := l.conns.room(); wait > 0; wait = l.conns.room() {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-l.closed:
			t.Stop()
			return nil, net.ErrClosed
		}
	}
	c, err := l.Listener.Accept()
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		l.conns.mu.Lock()
		defer l.conns.mu.Unlock()
		if oldest := l.conns.oldest(); oldest != nil {
			l.conns.evict(oldest)
		}
	}
	return c, err
}
