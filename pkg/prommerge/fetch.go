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
	"strconv"
	"strings"
	"sync"
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
			IdleConnTimeout:       idleFor,
			MaxIdleConnsPerHost:   DefaultConcurrency, // many targets may be behind one gateway

			MaxResponseHeaderBytes: MaxHeaderBytes,
			DisableCompression:     true, // we ask for it and undo it ourselves, within limits
			ForceAttemptHTTP2:      true,
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

var (
	errRedirect  = errors.New("redirect to another host")
	errRedirects = errors.New("too many redirects")
)

func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) > 5 {
		return errRedirects
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
func (m *Merger) open(w *wait, t *Target, at *address) (page, error) {
	if t.Open != nil {
		body, ct, err := t.Open(w.ctx, w.accept)
		if err != nil {
			return page{}, &targetError{reason: reasonOf(w.ctx, err, reasonConnect), err: err}
		}
		wi, ok := wireOf(ct)
		if !ok {
			return page{}, errors.Join(&targetError{reason: reasonContentType, err: fmt.Errorf("Content-Type %q", ct)}, body.Close())
		}
		return page{body: body, wire: wi, framed: true}, nil
	}
	resp, err := m.request(w, t, at)
	if err != nil {
		reason := reasonOf(w.ctx, err, reasonConnect)
		if errors.Is(err, errRedirect) || errors.Is(err, errRedirects) {
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

// prepare makes the headers of requests.
func (w *wait) prepare(via string) {
	left := w.timeout
	if d, ok := w.ctx.Deadline(); ok {
		left = max(d.Sub(w.since), time.Millisecond)
	}
	for i, encoding := range []string{"gzip", "identity"} { // copying within the host is cheaper than inflating
		w.headers[i] = http.Header{"Accept": {w.accept}, "Accept-Encoding": {encoding}, "User-Agent": {"prommerge"}, viaHeader: {via},
			timeoutHeader: {strconv.FormatFloat(left.Seconds(), 'f', 3, 64)}}
	}
}

// address is where a target is.
type address struct {
	url   *url.URL
	local bool // on this host
	err   error
}

func addressOf(s string) *address {
	u, err := url.Parse(s)
	if err != nil {
		return &address{err: err}
	}
	h := u.Hostname()
	return &address{url: u, local: h == "localhost" || net.ParseIP(h).IsLoopback()}
}

func (m *Merger) request(w *wait, t *Target, at *address) (*http.Response, error) {
	if at.err != nil {
		return nil, at.err
	}
	header := w.headers[0]
	if at.local {
		header = w.headers[1]
	}
	blank := http.Request{Method: http.MethodGet, URL: at.url, Host: at.url.Host, Header: header}
	c := m.client
	if t.Client != nil {
		c = withRedirects(t.Client)
	}
	var req *http.Request
	if c != m.client || m.own == nil || len(t.Header) > 0 {
		req = blank.Clone(w.ctx) // for who knows what a caller's client does to it
	} else {
		req = blank.WithContext(w.ctx)
	}
	for k, v := range t.Header {
		switch k = http.CanonicalHeaderKey(k); k {
		case "Accept", "Accept-Encoding", timeoutHeader, viaHeader:
		case "Host":
			req.Host = strings.Join(v[:min(len(v), 1)], "")
		default:
			req.Header[k] = v
		}
	}
	return c.Do(req)
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

// meter counts what is read from r and what is made of it, within limits.
type meter struct {
	r     io.Reader
	n     int64
	held  int64 // memory that the part takes up
	limit int64
	job   *job // whose limits count too, or nil
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.n += int64(n)
	if m.n > m.limit {
		return n, &targetError{reason: reasonTooLarge, err: fmt.Errorf("more than %d bytes", m.limit)}
	}
	if m.job != nil && m.job.total.Add(-int64(n)) < 0 {
		return n, &targetError{reason: reasonTooLarge, err: errors.New("all pages together are over the limit")}
	}
	return n, err
}

// hold notes that the part takes up n bytes of memory by now. It may be twice as many as may be read: a page of
// short lines grows many times over when labels are added.
func (m *meter) hold(n int64) error {
	grown := n - m.held
	m.held = n
	switch {
	case n/2 > m.limit:
		return &targetError{reason: reasonTooLarge, err: fmt.Errorf("with its labels the page is more than twice %d bytes", m.limit)}
	case m.job.held.Add(-grown) < 0:
		return &targetError{reason: reasonTooLarge, err: errors.New("with their labels all pages together are over the limit")}
	}
	return nil
}

// forgo gives back what a target had of the limits of its job.
func (m *meter) forgo() {
	m.job.total.Add(m.n)
	m.job.held.Add(m.held)
}

var gzipPool = sync.Pool{New: func() any { return new(gzip.Reader) }}

// reading is what a page goes through while it is read.
type reading struct {
	body, page meter // as it comes, and decompressed
	gzip       gzipReader
}

var readingPool = sync.Pool{New: func() any { return new(reading) }}

// scanPage reads pg into a part.
func (j *job) scanPage(pg page, inj *injection) (pt *part, n int64, err error) {
	r := readingPool.Get().(*reading)
	defer readingPool.Put(r)
	limit := j.m.opt.Limits.TargetBytes
	r.body = meter{r: pg.body, limit: limit}
	r.page = meter{r: pg.body, limit: limit, job: j}
	defer func() { r.body.r, r.page.r, r.page.job = nil, nil, nil }()
	if pg.gzip {
		r.gzip.z = gzipPool.Get().(*gzip.Reader)
		defer gzipPool.Put(r.gzip.z)
		if err := r.gzip.z.Reset(&r.body); err != nil {
			return nil, 0, gzipError(err)
		}
		r.page.r = &r.gzip
	}
	pt = newPart(pg.wire)
	if pg.wire == wireProto {
		s := newProtoScanner(pt, j.index(pg.wire), inj, j.out.esc)
		err = s.feed(&r.page)
		s.finish(err == nil)
		s.release()
	} else {
		s := newScanner(pt, j.index(pg.wire), inj, j.out.esc)
		err = s.feed(&r.page, pg.framed)
		s.finish(err == nil)
		s.release()
	}
	if err != nil {
		r.page.forgo()
		pt.release()
		return nil, r.page.n, err
	}
	return pt, r.page.n, nil
}

// gzipReader marks errors of the compression as such.
type gzipReader struct{ z *gzip.Reader }

func (g *gzipReader) Read(b []byte) (int, error) {
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
