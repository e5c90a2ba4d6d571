package prommerge

import (
	"context"
	"errors"
	"io"
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
	mu      sync.Mutex   // guards indexes
}

// Gather asks all targets and merges what arrives before ctx ends. accept is the Accept header of whoever will get
// the page. A target that fails has no part in the page, and Page.Results says why. The page must be closed.
func (m *Merger) Gather(ctx context.Context, accept string, targets []Target) *Page {
	n := len(targets)
	p := &Page{m: m, start: time.Now(), out: negotiate(accept), parts: make([]*part, n, n+1),
		results: make([]Result, n), states: make([]*targetState, n)}
	j := &job{Page: p, m: m, targets: targets}
	j.total.Store(m.opt.Limits.TotalBytes)
	if m.begin(targets, p.states, p.out.esc) {
		p.out = p.out.asText()
	}
	p.asked, j.accept = p.out.wire, p.out.accept()
	j.run(ctx)
	p.merge(ctx)
	return p
}

// run asks the targets: by several workers at a time if Async, else by this one.
func (j *job) run(ctx context.Context) {
	if !j.m.opt.Async {
		j.work(ctx)
		return
	}
	var wg sync.WaitGroup
	for range min(len(j.targets), j.m.opt.Limits.Concurrency) {
		wg.Go(func() { j.work(ctx) })
	}
	wg.Wait()
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
	tctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pt, n, err := j.fetch(tctx, t, j.states[i].inj)
	r.Duration, r.Bytes = time.Since(r.Start), n
	if err != nil {
		r.Err, r.Reason = err, reasonOf(tctx, err, reasonRead)
		return
	}
	r.Up, r.Samples, r.text = true, pt.samples, pt.wire == wireText
	j.parts[i] = pt
}

func (j *job) fetch(ctx context.Context, t *Target, inj *injection) (*part, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	pg, err := j.m.open(ctx, t, j.accept)
	if err != nil {
		return nil, 0, err
	}
	pt, n, err := j.scanPage(pg, t, inj)
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
