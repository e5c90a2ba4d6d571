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
// of them cannot keep the kubelet out. For each one too many one is closed: the
// oldest that has its answer and asks nothing, else the oldest that has not sent
// a whole request, else the oldest whose client is slow to take its answer. A
// held ?wait is never closed; they are bounded themselves. Nor is one that had
// no time yet to send its request, or whose request we had no time yet to read:
// rather than close a probe among thousands that came at once, the next has to
// wait for a moment.
type conns struct {
	max   int
	grace time.Duration

	mu      sync.Mutex // guards what follows
	open    map[net.Conn]*conn
	classes [4]list.List  // of net.Conn, oldest first
	none    chan struct{} // closed when no connection is left; nil until asked for
}

type class int

// unreadPause is how long to wait for a request to be read.
const unreadPause = 5 * time.Millisecond

const (
	idle   class = iota // its requests are answered
	fresh               // new, perhaps in the middle of its first header
	active              // its request is being answered
	parked              // its ?wait is held
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
		t.file(e, fresh)
	case http.StateActive:
		t.move(c, active)
	case http.StateIdle:
		t.move(c, idle)
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

// room makes room for one more, or returns how long to wait before that.
func (t *conns) room() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) < t.max {
		return 0
	}
	c, wait := t.victim(t.grace)
	if c != nil {
		t.evict(c)
	}
	return wait
}

// victim returns the connection that is missed least, or none and how long to
// wait for one; 0 where there will be none. The caller holds mu.
func (t *conns) victim(grace time.Duration) (c *conn, wait time.Duration) {
	for _, k := range []class{idle, fresh, active} {
		if k == active && wait > 0 {
			break
		}
		for e := t.classes[k].Front(); e != nil; e = e.Next() {
			c := e.Value.(*conn)
			if young := grace - time.Since(c.since); young > 0 {
				wait = young // and those behind it are younger
				break
			}
			if k == fresh && unread(c.Conn) {
				wait = unreadPause
				continue
			}
			return c, 0
		}
	}
	return nil, wait
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

// closePending closes all whose request is not being answered.
func (t *conns) closePending() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range []class{idle, fresh} {
		for front := t.classes[k].Front(); front != nil; front = t.classes[k].Front() {
			c := front.Value.(*conn)
			_ = c.Close()
			t.forget(c.Conn)
		}
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
		if c, _ := l.conns.victim(0); c != nil {
			l.conns.evict(c)
		}
	}
	return c, err
}
