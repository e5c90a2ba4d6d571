package etcdstore

import (
	"context"
	"sync"
	"time"
)

const (
	poolMin     = 4
	poolMax     = 128 // as many as are taken while others are granted
	poolGrants  = 32  // side by side, for one class
	poolRevokes = 4   // of one class at a tick, so that a crowd that went is not followed by a storm
	poolTick    = 500 * time.Millisecond
	poolForgets = 10 * time.Second // a class that nobody asks for
)

// pool keeps leases that were granted ahead, in classes by their lifetime. A class grows with each
// time that it was empty when asked, and shrinks when it is not asked for.
type pool struct {
	store *Store

	mu      sync.Mutex // guards what follows
	classes map[int64]*class
	closed  bool
}

type class struct {
	seconds  int64
	free     []*lease // the freshest last
	granting int
	want     int
	takes    int // since the last tick
	used     time.Time
}

// fresh tells if a lease may be given out: half of its slack is left, for the request to take.
func fresh(l *lease) bool {
	seconds := int64(l.lifetime() / time.Second)
	return l.lives(l.lifetime() - time.Duration(slackOf(seconds))*time.Second/2)
}

// refreshAge is the age at which a lease in the pool is kept alive, well before it is not fresh.
func refreshAge(seconds int64) time.Duration {
	slack := time.Duration(slackOf(seconds)) * time.Second
	return max(slack/2-time.Second, slack/4)
}

// slackOf is how many seconds of a lifetime are slack at most. See lifetime.
func slackOf(seconds int64) int64 {
	return min(max(seconds/3, minSlack), maxSlack)
}

// take returns a lease that is alive and has no keys.
func (p *pool) take(ctx context.Context, seconds int64) (*lease, error) {
	p.mu.Lock()
	c := p.class(seconds)
	c.takes++
	c.used = time.Now()
	var got *lease
	if n := len(c.free); n > 0 && fresh(c.free[n-1]) {
		got, c.free = c.free[n-1], c.free[:n-1]
	} else {
		c.want = min(max(2*c.want, poolMin), poolMax)
	}
	p.fill(c)
	p.mu.Unlock()
	if got != nil {
		return got, nil
	}
	return p.wait(ctx, seconds)
}

// wait grants a lease for a caller; if that is gone by then, it is put into the pool.
func (p *pool) wait(ctx context.Context, seconds int64) (*lease, error) {
	granted := make(chan *lease, 1)
	var err error
	if !p.store.spawn(func() {
		var l *lease
		l, err = p.store.grant(0, seconds)
		granted <- l
	}) {
		return nil, errClosed
	}
	select {
	case l := <-granted:
		return l, err
	case <-ctx.Done():
	}
	p.store.spawn(func() {
		if l := <-granted; l != nil {
			p.put(l)
		}
	})
	return nil, context.Cause(ctx)
}

// put takes back a lease without keys that no client knows.
func (p *pool) put(l *lease) {
	p.mu.Lock()
	c := p.class(int64(l.lifetime() / time.Second))
	if !p.closed && len(c.free) < max(c.want, poolMin) && fresh(l) {
		c.free = append(c.free, l)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.store.revoke(l.id, l.lifetime())
}

// class finds or makes one. The caller holds mu.
func (p *pool) class(seconds int64) *class {
	if p.classes == nil {
		p.classes = map[int64]*class{}
	}
	c := p.classes[seconds]
	if c == nil {
		c = &class{seconds: seconds, used: time.Now()}
		p.classes[seconds] = c
	}
	return c
}

// fill starts as many grants as are missing. The caller holds mu.
func (p *pool) fill(c *class) {
	for c.granting < poolGrants && len(c.free)+c.granting < c.want && !p.closed {
		c.granting++
		if !p.store.spawn(func() { p.grant(c) }) {
			c.granting--
			return
		}
	}
}

// grant adds leases until there are enough.
func (p *pool) grant(c *class) {
	for {
		l, err := p.store.grant(0, c.seconds)
		p.mu.Lock()
		if err == nil && !p.closed {
			c.free = append(c.free, l)
		}
		more := err == nil && !p.closed && len(c.free)+c.granting <= c.want
		if !more {
			c.granting--
		}
		closed := p.closed
		p.mu.Unlock()
		if closed && err == nil {
			p.store.revoke(l.id, l.lifetime())
		}
		if !more {
			return
		}
	}
}

// tend keeps the leases alive and adapts the sizes, until the store is closed.
func (p *pool) tend() {
	tick := time.NewTicker(poolTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.tick()
			p.store.sessions.tidy()
		case <-p.store.live.Done():
			return
		}
	}
}

func (p *pool) tick() {
	var stale, extra []*lease
	p.mu.Lock()
	for seconds, c := range p.classes {
		if c.takes < c.want && c.want > poolMin {
			c.want -= (c.want - c.takes + 7) / 8
		}
		c.takes = 0
		if time.Since(c.used) > poolForgets {
			c.want = 0
		}
		for range poolRevokes {
			if len(c.free) <= c.want {
				break
			}
			// The oldest first.
			extra = append(extra, c.free[0])
			c.free = c.free[1:]
		}
		kept := c.free[:0:0]
		for _, l := range c.free {
			if l.lives(l.lifetime() - refreshAge(seconds)) {
				kept = append(kept, l)
			} else {
				stale = append(stale, l)
			}
		}
		c.free = kept
		if c.want == 0 && c.granting == 0 && len(c.free)+len(stale) == 0 {
			delete(p.classes, seconds)
		}
	}
	p.mu.Unlock()
	for _, l := range extra {
		p.store.revoke(l.id, l.lifetime())
	}
	p.refresh(stale)
}

// refresh keeps leases alive and puts them back. They are nowhere else meanwhile.
func (p *pool) refresh(stale []*lease) {
	var wg sync.WaitGroup
	for _, l := range stale {
		wg.Go(func() {
			// One that cannot be kept alive ends by itself.
			if p.store.ensure(p.store.live, l, l.lifetime()) == nil {
				p.put(l)
			}
		})
	}
	wg.Wait()
}

// size counts the leases at rest.
func (p *pool) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, c := range p.classes {
		n += len(c.free)
	}
	return n
}

// close empties the pool.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var all []*lease
	for _, c := range p.classes {
		all = append(all, c.free...)
		c.free = nil
	}
	p.mu.Unlock()
	for _, l := range all {
		p.store.revoke(l.id, l.lifetime())
	}
}
