package metadata

import (
	"bytes"
	"fmt"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"
)

// observed remembers what was answered.
type observed struct {
	http.ResponseWriter
	status int
	bytes  int64
	cut    bool // the connection was taken over
}

// WriteHeader implements http.ResponseWriter.
func (o *observed) WriteHeader(status int) {
	if o.status == 0 {
		o.status = status
	}
	o.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (o *observed) Write(b []byte) (int, error) {
	if o.status == 0 {
		o.status = http.StatusOK
	}
	n, err := o.ResponseWriter.Write(b)
	o.bytes += int64(n)
	return n, err
}

// Unwrap serves http.ResponseController.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// captured is an answer that is not sent yet.
type captured struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (c *captured) Header() http.Header { return c.header }

func (c *captured) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
}

func (c *captured) Write(b []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	return c.body.Write(b)
}

// capture gets the right answer.
func (s *Server) capture(r *http.Request) *captured {
	c := &captured{header: http.Header{}}
	s.serve(c, r, false)
	c.WriteHeader(http.StatusOK)
	c.header.Set("Content-Length", strconv.Itoa(c.body.Len()))
	return c
}

// serveStatus answers with an error as the cloud that is asked words it.
func (s *Server) serveStatus(f *activeFault, w http.ResponseWriter, r *http.Request) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
	}
	switch s.playing(r.URL.Path) {
	case AWS:
		awsError(w, f.Status)
	case Azure:
		azureError(w, f.Status, http.StatusText(f.Status))
	default:
		w.Header().Set("Metadata-Flavor", "Google")
		w.Header().Set("Server", "Metadata Server for VM")
		w.Header().Set("X-XSS-Protection", "0")
		w.Header().Set("X-Frame-Options", "SAMEORIGIN")
		page(w, f.Status, http.StatusText(f.Status)+".")
	}
}

// truncate sends the headers of the right answer and half of its body.
func (s *Server) truncate(w http.ResponseWriter, r *http.Request) {
	c := s.capture(r)
	for name, values := range c.header {
		w.Header()[name] = values
	}
	w.WriteHeader(c.status)
	_, _ = w.Write(c.body.Bytes()[:c.body.Len()/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// drip sends the right answer byte by byte, headers too, until the fault is over.
func (s *Server) drip(f *activeFault, w http.ResponseWriter, r *http.Request) {
	c := s.capture(r)
	conn := hijack(w)
	defer func() { _ = conn.Close() }()
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\n", c.status, http.StatusText(c.status), time.Now().UTC().Format(http.TimeFormat))
	_ = c.header.Write(&b)
	b.WriteString("\r\n")
	b.Write(c.body.Bytes())
	for _, one := range b.Bytes() {
		if _, err := conn.Write([]byte{one}); err != nil {
			return
		}
		if !f.pause(r.Context(), orElse(f.Interval, time.Second)) || f.ctx.Err() != nil {
			return
		}
	}
}

// scribble sends what is no HTTP.
func (s *Server) scribble(w http.ResponseWriter) {
	conn := hijack(w)
	_, _ = conn.Write(s.noise(512))
	_ = conn.Close()
}

// noise is the same for the same seed.
func (s *Server) noise(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(s.random.Uint32())
	}
	return b
}

// reset makes the kernel send a RST: bytes that nobody will send any more are thrown away.
func reset(w http.ResponseWriter) {
	conn := hijack(w)
	if tcp, isTCP := conn.(*net.TCPConn); isTCP {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// hijack takes the connection over. Where that cannot be done, as with HTTP/2, the request is aborted.
func hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if o, isOurs := w.(*observed); isOurs {
		o.cut = true
	}
	return conn
}
