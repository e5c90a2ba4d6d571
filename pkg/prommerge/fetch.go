package prommerge

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// newClient returns the client for targets: the caller's, or one with its own connections. Neither follows a
// redirect to another host, which would let a target choose whom the merger asks.
func (m *Merger) newClient(c *http.Client) *http.Client {
	if c == nil {
		m.own = &http.Transport{
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ExpectContinueTimeout: time.Second,
			IdleConnTimeout:       5 * time.Minute,    // longer than any scrape interval in use
			MaxIdleConnsPerHost:   DefaultConcurrency, // many targets may be behind one gateway
			DisableCompression:    true,               // we ask for it and undo it ourselves, within limits
			ForceAttemptHTTP2:     true,
		}
		return &http.Client{Transport: m.own, CheckRedirect: sameHost}
	}
	return withRedirects(c)
}

func withRedirects(c *http.Client) *http.Client {
	if c.CheckRedirect != nil {
		return c
	}
	d := *c
	d.CheckRedirect = sameHost
	return &d
}

var errRedirect = errors.New("redirect to another host")

func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) > 5 {
		return errors.New("too many redirects")
	}
	if req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
		return errRedirect
	}
	return nil
}

// page is an answer that is about to be read.
type page struct {
	body   io.ReadCloser
	wire   wire
	gzip   bool
	framed bool // the end of the body is the end of the page
}

// open asks t for its page.
func (m *Merger) open(ctx context.Context, t *Target, accept string) (page, error) {
	if t.Open != nil {
		body, ct, err := t.Open(ctx, accept)
		if err != nil {
			return page{}, &targetError{reason: reasonOf(ctx, err, reasonConnect), err: err}
		}
		w, ok := wireOf(ct)
		if !ok {
			return page{}, errors.Join(&targetError{reason: reasonContentType, err: fmt.Errorf("Content-Type %q", ct)}, body.Close())
		}
		return page{body: body, wire: w, framed: true}, nil
	}
	resp, err := m.request(ctx, t, accept)
	if err != nil {
		reason := reasonOf(ctx, err, reasonConnect)
		if errors.Is(err, errRedirect) {
			reason = reasonStatus
		}
		return page{}, &targetError{reason: reason, err: err}
	}
	p, err := answer(resp)
	if err != nil {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // a short error page, so that the connection can be used again
		return page{}, errors.Join(err, resp.Body.Close())
	}
	return p, nil
}

func (m *Merger) request(ctx context.Context, t *Target, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range t.Header {
		if http.CanonicalHeaderKey(k) == "Host" && len(v) > 0 {
			req.Host = v[0]
			continue
		}
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Encoding", "gzip")
	if isLoopback(req.URL) {
		req.Header.Set("Accept-Encoding", "identity") // copying within the host is cheaper than inflating
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "prommerge")
	}
	if d, ok := ctx.Deadline(); ok {
		req.Header.Set(timeoutHeader, fmt.Sprintf("%.3f", max(time.Until(d).Seconds(), 0.001)))
	}
	c := m.client
	if t.Client != nil {
		c = withRedirects(t.Client)
	}
	return c.Do(req)
}

func isLoopback(u *url.URL) bool {
	h := u.Hostname()
	return h == "localhost" || net.ParseIP(h).IsLoopback()
}

// answer checks the header of resp.
func answer(resp *http.Response) (page, error) {
	if resp.StatusCode != http.StatusOK {
		return page{}, &targetError{reason: reasonStatus, err: fmt.Errorf("status %s", resp.Status)}
	}
	w, ok := wireOf(resp.Header.Get("Content-Type"))
	if !ok {
		return page{}, &targetError{reason: reasonContentType, err: fmt.Errorf("Content-Type %q", resp.Header.Get("Content-Type"))}
	}
	p := page{body: resp.Body, wire: w, framed: resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0 || resp.ProtoMajor > 1}
	switch enc := strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))); enc {
	case "", "identity":
	case "gzip", "x-gzip":
		p.gzip, p.framed = true, true // gzip says itself where it ends
	default:
		return page{}, &targetError{reason: reasonEncoding, err: fmt.Errorf("Content-Encoding %q", enc)}
	}
	return p, nil
}

// meter counts what is read from r, within limits.
type meter struct {
	r     io.Reader
	n     int64
	limit int64
	total *atomic.Int64 // what all targets of the merge may still read, or nil
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.n += int64(n)
	if m.n > m.limit {
		return n, &targetError{reason: reasonTooLarge, err: fmt.Errorf("more than %d bytes", m.limit)}
	}
	if m.total != nil && m.total.Add(-int64(n)) < 0 {
		return n, &targetError{reason: reasonTooLarge, err: errors.New("all pages together are over the limit")}
	}
	return n, err
}

var gzipPool = sync.Pool{New: func() any { return new(gzip.Reader) }}

// scanPage reads pg into a part.
func (j *job) scanPage(pg page, t *Target, inj *injection) (pt *part, n int64, err error) {
	limit := j.m.opt.Limits.TargetBytes
	body := meter{r: pg.body, limit: limit}
	in := meter{r: pg.body, limit: limit, total: &j.total}
	if pg.gzip {
		z := gzipPool.Get().(*gzip.Reader)
		defer gzipPool.Put(z)
		if err := z.Reset(&body); err != nil {
			return nil, 0, gzipError(err)
		}
		in.r = gzipReader{z}
	}
	pt = newPart(pg.wire)
	if pg.wire == wireProto {
		s := newProtoScanner(pt, j.index(pg.wire), inj, j.out.esc)
		err = s.feed(&in)
		s.finish(err == nil)
		s.release()
	} else {
		s := newScanner(pt, j.index(pg.wire), inj, j.out.esc)
		err = s.feed(&in, pg.framed)
		s.finish(err == nil)
		s.release()
	}
	if err != nil {
		pt.release()
		return nil, in.n, err
	}
	return pt, in.n, nil
}

// gzipReader marks errors of the compression as such.
type gzipReader struct{ z *gzip.Reader }

func (g gzipReader) Read(b []byte) (int, error) {
	n, err := g.z.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = gzipError(err)
	}
	return n, err
}

func gzipError(err error) error {
	var te *targetError
	if errors.As(err, &te) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &targetError{reason: reasonEncoding, err: err}
}
