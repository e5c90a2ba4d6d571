package prommerge

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// job is one merge while targets are asked.
type job struct {
	*Page
	m       *Merger
	targets []Target
	accept  string
	next    atomic.Int64
	total   atomic.Int64 // bytes that may still be read
	held    atomic.Int64 // bytes that parts may still take up
	mu      sync.Mutex   // guards indexes and waits
	waits   []*wait
}

// wait is a time limit, and what requests within it have in common. Targets that are asked at nearly the same time
// share one.
type wait struct {
	ctx     context.Context
	cancel  context.CancelFunc
	timeout time.Duration
	since   time.Time
	accept  string
	headers [2]http.Header // shared by requests: for other hosts, for this one
}

// Gather asks all targets and merges what arrives before ctx ends. accept is the Accept header of whoever will get
// the page. A target that fails has no part in the page, and Page.Results says why. The page must be closed.
func (m *Merger) Gather(ctx context.Context, accept string, targets []Target) *Page {
	n := len(targets)
	p := &Page{m: m, start: time.Now(), out: negotiate(accept), parts: make([]*part, n, n+1),
		results: make([]Result, n), states: make([]*targetState, n), injs: make([]*injection, n)}
	j := &job{Page: p, m: m, targets: targets}
	j.total.Store(m.opt.Limits.TotalBytes)
	j.held.Store(2 * min(m.opt.Limits.TotalBytes, math.MaxInt64/2))
	if m.begin(targets, p) {
		p.out = p.out.asText()
	}
	p.asked, j.accept = p.out.wire, p.out.accept()
	j.run(ctx)
	p.merge(ctx)
	return p
}

// run asks the targets: by several workers at a time if Async, else by this one.
func (j *job) run(ctx context.Context) {
	defer func() {
		for _, w := range j.waits {
			w.cancel()
		}
	}()
	if !j.m.opt.Async {
		j.work(ctx)
		return
	}
	j.m.crew.run(min(len(j.targets), j.m.opt.Limits.Concurrency), func() { j.work(ctx) })
}

// work asks one target after the other until none is left.
func (j *job) work(ctx context.Context) {
	for {
		i := int(j.next.Add(1)) - 1
		if i >= len(j.targets) {
			return
		}
		j.one(ctx, i)
	}
}

// one asks target i and scans its page.
func (j *job) one(ctx context.Context, i int) {
	t, r := &j.targets[i], &j.results[i]
	*r = Result{Name: t.Name, URL: t.URL, Start: time.Now()}
	timeout := t.Timeout
	if timeout <= 0 {
		timeout = j.m.opt.Timeout
	}
	w := j.wait(ctx, timeout, r.Start)
	pt, n, err := j.fetch(w, i)
	r.Duration, r.Bytes = time.Since(r.Start), n
	if err != nil {
		r.Err, r.Reason = err, reasonOf(w.ctx, err, reasonRead)
		return
	}
	r.Up, r.Samples, r.text = true, pt.samples, pt.wire == wireText
	j.parts[i] = pt
}

// wait returns the time limit of a target that is asked now. It may have begun up to a hundredth of it ago.
func (j *job) wait(ctx context.Context, timeout time.Duration, now time.Time) *wait {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := len(j.waits) - 1; i >= 0 && now.Sub(j.waits[i].since) <= timeout/100; i-- {
		if j.waits[i].timeout == timeout {
			return j.waits[i]
		}
	}
	w := &wait{timeout: timeout, since: now, accept: j.accept}
	w.ctx, w.cancel = context.WithTimeout(ctx, timeout)
	j.waits = append(j.waits, w)
	w.prepare(j.m.via(ctx))
	return w
}

func (j *job) fetch(w *wait, i int) (*part, int64, error) {
	if err := w.ctx.Err(); err != nil {
		return nil, 0, err
	}
	pg, err := j.m.open(w, &j.targets[i], j.states[i].address)
	if err != nil {
		return nil, 0, err
	}
	pt, n, err := j.scanPage(pg, j.injs[i])
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = &targetError{reason: reasonTruncated, err: err}
	}
	if cerr := pg.body.Close(); err == nil && cerr != nil {
		pt.release()
		return nil, n, cerr
	}
	return pt, n, err
}

// index returns the index for pages of w.
func (j *job) index(w wire) *index {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.Page.index(w)
}
