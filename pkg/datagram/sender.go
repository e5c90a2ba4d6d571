package datagram

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	packet      = 1432                  // bytes that pass every network in one piece
	flushAfter  = 20 * time.Millisecond // news of a preemption must be on its way well within 100 ms
	resolveEach = 30 * time.Second
	// resolveWithin is how long a message waits for that while there is a socket.
	resolveWithin = 20 * time.Millisecond
	lastFlush     = time.Second
)

// ErrFull is why a message was not taken.
var ErrFull = errors.New("the queue is full")

// SenderConfig bounds a [Sender].
type SenderConfig struct {
	Bytes int // that may wait, 1 MiB if 0

	dial func(ctx context.Context, address string) (net.Conn, error) // for tests
}

// Sender sends messages over UDP, several in one datagram of at most 1,432 bytes
// unless one alone is larger. It never makes who calls wait: what finds no room is
// counted. Make one with [NewSender], and Run it.
type Sender struct {
	address string
	cfg     SenderConfig
	sent    atomic.Uint64
	dropped atomic.Uint64
	wake    chan struct{}

	mu      sync.Mutex // guards what follows
	waiting lines
	copies  lines  // to be sent one flush later
	last    string // the id of the last message
}

// lines are encoded messages.
type lines struct {
	data  []byte
	count int
}

// NewSender returns a sender to a UDP address, host:port. The name of the host is
// looked up by Run, and again every 30 s.
func NewSender(address string, cfg SenderConfig) (*Sender, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return nil, fmt.Errorf("address %q is none: write host:port", address)
	}
	if _, err := net.LookupPort("udp", port); err != nil || port == "0" {
		return nil, fmt.Errorf("address %q has no port: write host:port", address)
	}
	if cfg.Bytes <= 0 {
		cfg.Bytes = 1 << 20
	}
	if cfg.dial == nil {
		cfg.dial = func(ctx context.Context, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			var d net.Dialer
			return d.DialContext(ctx, "udp", address)
		}
	}
	return &Sender{address: address, cfg: cfg, wake: make(chan struct{}, 1)}, nil
}

// Counts returns how many messages were sent, and how many were dropped for lack
// of room or because the kernel would not send them.
func (s *Sender) Counts() (sent, dropped uint64) { return s.sent.Load(), s.dropped.Load() }

// Put takes a message, or returns [ErrFull]. It does not keep m. A message with the
// id of the one before it is taken for its second copy, and goes out later and in
// another datagram, so that to lose one datagram is not to lose both.
func (s *Sender) Put(m *Message) error {
	s.mu.Lock()
	if len(s.waiting.data)+len(s.copies.data) >= s.cfg.Bytes {
		s.mu.Unlock()
		s.dropped.Add(1)
		return ErrFull
	}
	to := &s.waiting
	if m.ID != "" && m.ID == s.last {
		to = &s.copies
	}
	s.last = m.ID
	to.data = append(Append(to.data, m), '\n')
	to.count++
	s.mu.Unlock()
	s.rouse()
	return nil
}

func (s *Sender) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns what is to be sent now; the copies are next. The memory of last is
// used again.
func (s *Sender) take(last lines) lines {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.waiting
	s.waiting, s.copies = s.copies, lines{data: last.data[:0]}
	if s.waiting.count > 0 {
		s.rouse()
	}
	return now
}

// Run sends until ctx ends, then what is waiting.
func (s *Sender) Run(ctx context.Context) error {
	var out output
	defer out.close()
	t := time.NewTimer(flushAfter)
	defer t.Stop()
	var b lines
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			lctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
			defer cancel()
			s.flush(lctx, &out, s.take(lines{}))
			s.flush(lctx, &out, s.take(lines{})) // the copies
			return nil
		}
		t.Reset(flushAfter) // more may come for the same datagram
		select {
		case <-t.C:
		case <-ctx.Done():
			continue
		}
		b = s.take(b)
		s.flush(ctx, &out, b)
	}
}

// output is the socket, for as long as what the name stands for is believed.
type output struct {
	conn  net.Conn
	until time.Time
	next  chan net.Conn // of the dial that is under way, nil: none; it gives nil when that fails
	wg    sync.WaitGroup
}

func (o *output) close() {
	if o.next != nil {
		o.take(<-o.next)
	}
	if o.conn != nil {
		_ = o.conn.Close()
		o.conn = nil
	}
	o.wg.Wait()
}

// take puts what a dial gave in the place of the socket; the old one is better than
// none.
func (o *output) take(conn net.Conn) {
	o.next = nil
	if conn == nil {
		return
	}
	if o.conn != nil {
		_ = o.conn.Close()
	}
	o.conn, o.until = conn, time.Now().Add(resolveEach)
}

// connect makes the socket anew when it is time to look the name up again. While
// that takes long, as when a machine that goes has lost its DNS, the old one does.
func (s *Sender) connect(ctx context.Context, o *output) bool {
	if o.conn != nil && time.Now().Before(o.until) {
		return true
	}
	if o.next == nil {
		next := make(chan net.Conn, 1)
		o.next = next
		o.wg.Go(func() {
			conn, err := s.cfg.dial(ctx, s.address)
			if err != nil {
				conn = nil
			}
			next <- conn
		})
	}
	var late <-chan time.Time
	if o.conn != nil {
		t := time.NewTimer(resolveWithin)
		defer t.Stop()
		late = t.C
	}
	select {
	case conn := <-o.next:
		o.take(conn)
	case <-late:
	case <-ctx.Done():
	}
	return o.conn != nil
}

// flush sends lines.
func (s *Sender) flush(ctx context.Context, o *output, all lines) {
	if all.count == 0 {
		return
	}
	if !s.connect(ctx, o) {
		s.dropped.Add(uint64(all.count))
		return
	}
	for b := all.data; len(b) > 0; {
		size, n := fit(b)
		_ = o.conn.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := o.conn.Write(b[:size]); err != nil {
			// An answer to an earlier datagram, that nobody listens, is told with this one, which was not sent.
			if _, err = o.conn.Write(b[:size]); err != nil {
				s.dropped.Add(uint64(n))
				b = b[size:]
				continue
			}
		}
		s.sent.Add(uint64(n))
		b = b[size:]
	}
}

// fit returns how many bytes and lines go into the next datagram, at least one.
func fit(b []byte) (size, n int) {
	for i, c := range b {
		if c != '\n' {
			continue
		}
		if n > 0 && i+1 > packet {
			break
		}
		size, n = i+1, n+1
		if size >= packet {
			break
		}
	}
	return size, n
}
