package preempt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	linkLocalIP = "169.254.169.254" // of the metadata server, on all three clouds
	dialTimeout = 2 * time.Second
	maxBody     = 64 << 10
	maxSaid     = 200 // of a body in an error
)

// bucket holds tokens for requests: burst of them when it is full, and a new
// one each time that every has passed. All requests of a watcher take from one.
type bucket struct {
	burst int

	mu    sync.Mutex // guards what follows
	every time.Duration
	full  time.Time // when it will be full again
}

// pace changes how often there is a new token. Those that are there stay.
func (b *bucket) pace(every time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if missing := time.Until(b.full); missing > 0 {
		b.full = b.full.Add(missing*every/b.every - missing)
	}
	b.every = every
}

// take waits for a token.
func (b *bucket) take(ctx context.Context) error {
	b.mu.Lock()
	wait := b.missing()
	b.full = b.full.Add(b.every)
	b.mu.Unlock()
	return sleep(ctx, wait)
}

// spare takes a token only when the bucket is full, so that most of the burst is
// left to those who take.
func (b *bucket) spare(ctx context.Context) error {
	for {
		b.mu.Lock()
		wait := b.missing() + time.Duration(b.burst-1)*b.every
		if wait <= 0 {
			b.full = b.full.Add(b.every)
		}
		b.mu.Unlock()
		if err := sleep(ctx, wait); err != nil || wait <= 0 {
			return err
		}
	}
}

// missing is how long it takes until there is a token, below zero when there are
// several. The lock is held.
func (b *bucket) missing() time.Duration {
	now := time.Now()
	if b.full.Before(now) {
		b.full = now
	}
	return b.full.Sub(now) - time.Duration(b.burst-1)*b.every
}

// sleep pauses, or returns early with the reason why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// client asks a metadata server.
type client struct {
	http  *http.Client
	token func(ctx context.Context) error // waits until a request may leave
	count func(kind string)
}

// newClient returns a client that takes its tokens in a way of the bucket.
// Connections are used once: Go repeats a request by itself when a connection
// that it uses again is broken, and such a request would have no token.
func (w *Watcher) newClient(token func(ctx context.Context) error) *client {
	return &client{
		http:  newHTTP(byAddress(w.cfg.dial)),
		token: token,
		count: func(kind string) { w.change(func(s *Stats) { s.Requests[kind]++ }) },
	}
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

func newHTTP(dial dialFunc) *http.Client {
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	return &http.Client{
		Transport: &http.Transport{ // without a proxy: the address is of this machine
			DialContext:            dial,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxBody,
		},
		// Metadata has no reason to be elsewhere, and each hop would be a
		// request without a token.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// byAddress dials GCE's server at its address, which is the same on all machines,
// while its name cannot be looked up: DNS is often what fails first.
func byAddress(dial dialFunc) dialFunc {
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		var dns *net.DNSError
		if host, port, _ := net.SplitHostPort(addr); host == googleHost && errors.As(err, &dns) && ctx.Err() == nil {
			if conn, err := dial(ctx, network, net.JoinHostPort(linkLocalIP, port)); err == nil {
				return conn, nil
			}
		}
		return conn, err
	}
}

// request is what is asked.
type request struct {
	method, url string
	body        string
	header      [2]string // name and value of the one that the server insists on
	more        [2]string
	timeout     time.Duration
}

// answer is a good one.
type answer struct {
	body   string
	etag   string
	flavor string // GCE signs its answers
	took   time.Duration
}

// do asks once. Its errors are faults, or why ctx ended.
func (c *client) do(ctx context.Context, r request) (answer, error) {
	if err := c.token(ctx); err != nil {
		return answer{}, err
	}
	limited, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	began := time.Now()
	a, err := c.once(limited, r)
	a.took = time.Since(began)
	if ctx.Err() != nil {
		return answer{}, context.Cause(ctx)
	}
	kind := "200"
	if err != nil {
		kind = faultOf(err).kind
	}
	c.count(kind)
	return a, err
}

func (c *client) once(ctx context.Context, r request) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, strings.NewReader(r.body))
	if err != nil {
		return answer{}, err
	}
	for _, h := range [][2]string{r.header, r.more} {
		if h[0] != "" {
			req.Header.Set(h[0], h[1])
		}
	}
	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, lost(err)
	}
	defer func() { _ = res.Body.Close() }() // all of it was read that is wanted
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	switch {
	case res.StatusCode != http.StatusOK:
		return answer{}, refusal(res, body)
	case err != nil:
		return answer{}, lost(err)
	case len(body) > maxBody:
		return answer{}, &fault{kind: "too_long", err: fmt.Errorf("the answer is longer than %d bytes", maxBody)}
	}
	return answer{body: string(body), etag: res.Header.Get("ETag"), flavor: res.Header.Get("Metadata-Flavor")}, nil
}

// fault is why there is no good answer.
type fault struct {
	kind  string        // a status code, or a word
	code  int           // the status code, 0 for a word
	after time.Duration // the server asks not to be asked again before
	err   error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// final reports whether asking again soon will not help.
func (f *fault) final() bool {
	switch f.code {
	case http.StatusRequestTimeout, http.StatusGone, http.StatusTooEarly, http.StatusTooManyRequests:
		return false // 410 is Azure's while it is being updated
	}
	return f.code >= 400 && f.code < 500
}

func faultOf(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	return &fault{kind: "error", err: err}
}

// refusal is an answer with another status than 200.
func refusal(res *http.Response, body []byte) *fault {
	said := strings.ToValidUTF8(string(body[:min(len(body), maxSaid)]), "")
	f := &fault{
		kind: strconv.Itoa(res.StatusCode), code: res.StatusCode, after: retryAfter(res.Header.Get("Retry-After"), time.Now()),
		err: fmt.Errorf("%s %s: %d %s: %q", res.Request.Method, res.Request.URL.Redacted(), res.StatusCode, http.StatusText(res.StatusCode), said),
	}
	if to := res.Header.Get("Location"); to != "" && res.StatusCode/100 == 3 {
		f.err = fmt.Errorf("%w: to %.200s, which is not followed", f.err, to)
	}
	return f
}

// maxRetryAfter bounds what a server may ask for: a notice may be 30 s long.
const maxRetryAfter = time.Minute

// retryAfter reads the header of that name: seconds or a date. It is 0 where
// that says nothing.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), maxRetryAfter))
}

// lost is an answer that did not come, or not whole.
func lost(err error) *fault {
	f := &fault{kind: "error", err: err}
	var timeout interface{ Timeout() bool }
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		f.kind = "dns"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		f.kind = "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		f.kind = "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		f.kind = "reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		f.kind = "unreachable"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		f.kind = "truncated"
	}
	return f
}

// garbage is an answer that means nothing.
func garbage(what, body string) *fault {
	return &fault{kind: "garbage", err: fmt.Errorf("%s is %.100q", what, body)}
}
