package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	acceptPause = 50 * time.Millisecond // after an error such as too many open files
	firstBuffer = 4096
	tellEvery   = 10 * time.Second // that connections are refused, for who connects decides how often
)

// serveStream takes connections until ctx ends. Those that are open then get a
// moment to be read to the end of what was sent.
func (l *listener) serveStream(ctx context.Context, s *Server) error {
	stop := context.AfterFunc(ctx, func() { _ = l.stream.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	var told time.Time
	for {
		conn, err := l.stream.Accept()
		switch {
		case err == nil && l.open.Load() >= int64(s.cfg.Connections):
			_ = conn.Close()
			l.turnedAway.Add(1)
			if time.Since(told) > tellEvery {
				told = time.Now()
				s.cfg.Log.Warn("too many connections, further ones are closed", "listener", l.name, "limit", s.cfg.Connections, "so_far", l.turnedAway.Load())
			}
		case err == nil:
			l.open.Add(1)
			conns.Go(func() {
				defer l.open.Add(-1)
				l.read(ctx, s, conn)
			})
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %s: %w", l.name, err)
		default:
			s.cfg.Log.Warn("accept", "listener", l.name, "err", err)
			pause(ctx, acceptPause)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// read reads one connection to its end.
func (l *listener) read(ctx context.Context, s *Server, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	last := time.Time{} // when it must have ended, once we are told to
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		last = time.Now().Add(lastRead)
		_ = conn.SetReadDeadline(last)
	})
	defer stop()
	st := newStreamer(l, s)
	for {
		mu.Lock()
		if last.IsZero() {
			_ = conn.SetReadDeadline(time.Now().Add(s.cfg.Idle))
		}
		mu.Unlock()
		n, err := conn.Read(st.room())
		st.read(n, err != nil)
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				s.cfg.Log.Debug("a connection ended", "listener", l.name, "err", err)
			}
			return
		}
	}
}

// lastRead is how long connections are read once the server is to end.
const lastRead = 100 * time.Millisecond

// streamer cuts what one connection sends into messages.
type streamer struct {
	in    *listener
	s     *Server
	p     processor
	buf   []byte
	size  int   // bytes of buf that are in use
	skip  bool  // up to the next line that begins with a brace
	after byte  // the last byte that was skipped
	frame frame // of what is in buf
	tried int   // size when it was last found to be incomplete
}

func newStreamer(in *listener, s *Server) *streamer {
	return &streamer{in: in, s: s, buf: make([]byte, min(firstBuffer, s.cfg.MessageBytes))}
}

// room returns where the next bytes go.
func (st *streamer) room() []byte {
	if st.size == len(st.buf) {
		grown := make([]byte, min(2*len(st.buf), st.s.cfg.MessageBytes))
		copy(grown, st.buf)
		st.buf = grown
	}
	return st.buf[st.size:]
}

// read takes n bytes that were put where room said.
func (st *streamer) read(n int, end bool) {
	fresh := st.buf[st.size : st.size+n]
	st.in.bytes.Add(uint64(n))
	if st.skip {
		fresh = st.skipped(fresh)
		n = copy(st.buf[st.size:], fresh)
		fresh = st.buf[st.size : st.size+n]
	}
	st.size += n
	full := st.size == st.s.cfg.MessageBytes
	if !st.frame.complete(fresh) && !end && !full && st.size < st.tried+st.tried/4 {
		return // so that a message that comes byte by byte is not read each time
	}
	st.parse(end)
	if !end && st.size == st.s.cfg.MessageBytes {
		st.tooLong()
	}
}

// parse reads the messages that are complete, and at the end what is left.
func (st *streamer) parse(end bool) {
	if st.size == 0 {
		return
	}
	st.p.dec.Reset(st.buf[:st.size], !end)
	r := st.s.cfg.Registry
	r.mu.Lock()
	_, _ = st.s.messages(&st.p, st.in, st.p.dec.Next, time.Now())
	r.mu.Unlock()
	st.s.deliver(&st.p)
	rest := st.p.dec.Rest()
	st.size = copy(st.buf, rest)
	st.frame = frame{}
	st.frame.complete(st.buf[:st.size])
	st.tried = st.size
}

// tooLong gives up a message that fills the buffer.
func (st *streamer) tooLong() {
	st.s.stats.refuse(tooLong, 1)
	st.skip, st.after = true, 0
	rest := st.skipped(st.buf[:st.size])
	st.size = copy(st.buf, rest)
	st.frame, st.tried = frame{}, 0
	if st.size > 0 {
		st.parse(false)
	}
}

// skipped returns what is left of b after the skipping.
func (st *streamer) skipped(b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	if st.after == '\n' && b[0] == '{' {
		st.skip = false
		return b
	}
	st.after = b[len(b)-1]
	if i := bytes.Index(b, []byte("\n{")); i >= 0 {
		st.skip = false
		return b[i+1:]
	}
	return nil
}

// frame counts braces, to tell when a message may be complete.
type frame struct {
	depth  int
	quoted bool
	escape bool
	line   bool // the last byte ended a line
}

// complete goes on with b, and reports whether a message may have ended in it.
func (f *frame) complete(b []byte) (ended bool) {
	for _, c := range b {
		switch {
		case c == '\n':
			f.quoted, f.escape = false, false
			ended = ended || f.depth == 0
		case f.escape:
			f.escape = false
		case f.quoted:
			f.escape, f.quoted = c == '\\', c != '"'
		case c == '"':
			f.quoted = true
		case c == '{':
			ended = ended || f.line
			f.depth++
		case c == '}':
			f.depth--
			ended = ended || f.depth <= 0
		}
		f.line = c == '\n'
	}
	return ended
}
