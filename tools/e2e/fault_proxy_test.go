package e2e

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What a lossy way does to the bytes that pass.
const (
	passes   = iota
	drops    // nothing arrives, in both directions, and nobody is told
	delays   // everything arrives 300 ms late
	halfOpen // who is not connected yet is accepted and never served; the others are cut
	oneWay   // requests arrive, answers do not
	late     // answers arrive after lateBy
	deaf     // the same, and requests do not arrive any more
)

// lateBy is longer than what a holder's deadline is before its TTL, and shorter than a renewal may take.
const lateBy = 900 * time.Millisecond

// lossy is a TCP proxy that can be disturbed.
type lossy struct {
	listener net.Listener
	to       string
	mode     atomic.Int32
	wg       sync.WaitGroup

	mu     sync.Mutex // guards what follows
	open   map[net.Conn]bool
	closed bool
}

func startLossy(t *testing.T, to string) *lossy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &lossy{listener: l, to: to, open: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *lossy) address() string { return p.listener.Addr().String() }

// set changes the mode. Connections that a fault has seen do not outlive it: bytes of them are lost.
func (p *lossy) set(mode int32) {
	if old := p.mode.Swap(mode); mode == halfOpen || old == drops || old == oneWay || old == halfOpen {
		p.cut()
	}
}

// cut closes all connections.
func (p *lossy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}

// track remembers a connection, or closes it if the proxy is closed.
func (p *lossy) track(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[c] = true
	if p.closed {
		_ = c.Close()
	}
}

func (p *lossy) end(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
	_ = c.Close()
}

func (p *lossy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.track(c)
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *lossy) serve(c net.Conn) {
	defer p.end(c)
	if p.mode.Load() == halfOpen {
		_, _ = c.Read(make([]byte, 1<<10)) // until it is cut: nobody answers
		for p.mode.Load() == halfOpen {
			if _, err := c.Read(make([]byte, 1<<10)); err != nil {
				return
			}
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	up, err := new(net.Dialer).DialContext(ctx, "tcp", p.to)
	if err != nil {
		return
	}
	p.track(up)
	defer p.end(up)
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(up, c, false) })
	p.copy(c, up, true)
	wg.Wait()
}

// copy passes bytes on until an end closes, and then closes both.
func (p *lossy) copy(to, from net.Conn, answers bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		mode := p.mode.Load()
		switch {
		case mode == delays:
			time.Sleep(300 * time.Millisecond)
		case answers && (mode == late || mode == deaf):
			time.Sleep(lateBy)
		}
		lost := mode == drops || mode == oneWay && answers || mode == deaf && !answers
		if n > 0 && !lost {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
