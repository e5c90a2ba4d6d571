package lease

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	maxWait     = 10 * time.Second // of a request for a lock that another holds
	minPause    = 50 * time.Millisecond
	maxPause    = 2 * time.Second  // between requests that are not answered
	sayEvery    = 10 * time.Second // of failures, whose texts differ
	releaseTime = time.Second
	quickTTL    = 2400 * time.Millisecond // whose renewals tell within a second that the lock is gone
)

// errOver ends a hold whose lock is not needed any more.
var errOver = errors.New("not needed any more")

// Guard acquires a lock again and again, and keeps it each time while something runs. Acquire and
// Release are called in turn by one goroutine.
type Guard struct {
	client *Client
	req    Request
	log    *slog.Logger

	mu    sync.Mutex // guards what follows
	hold  *hold      // nil: not held
	stats Stats
}

// Stats are what a guard did so far.
type Stats struct {
	Key      string
	Held     bool
	Token    int64     // while it is held; 0: the server has none
	Since    time.Time // when it was acquired, while it is held
	Acquired uint64    // how often
	Gone     uint64    // how often the server said that it was
	Late     uint64    // how often it was not renewed in time
	Failed   uint64    // requests for it that were not answered, or not with yes or no
}

// NewGuard returns a guard of one lock. Nothing happens before Acquire.
func NewGuard(client *Client, req Request, log *slog.Logger) *Guard {
	return &Guard{client: client, req: req, log: log, stats: Stats{Key: req.Key}}
}

// Stats returns what happened so far.
func (g *Guard) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stats
}

// Token returns the fencing token of the lock that is held, 0 if there is none.
func (g *Guard) Token() int64 { return g.Stats().Token }

// Acquire returns when the lock is held, which it then is until Release, or when ctx ends, with its
// cause. It tells say, where that is not nil, what it waits for.
func (g *Guard) Acquire(ctx context.Context, say func(string)) error {
	var wait time.Duration // at first none, to learn who holds it
	failures := 0          // in a row
	var said time.Time     // of a failure
	for {
		began := time.Now()
		err := g.Try(ctx, wait)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if say != nil && (errors.Is(err, ErrHeld) || time.Since(said) > sayEvery) {
			say(err.Error())
			said = time.Now()
		}
		var pause time.Duration
		switch {
		case !errors.Is(err, ErrHeld):
			g.count(func(s *Stats) { s.Failed++ })
			pause = min(minPause<<failures, maxPause)
			failures = min(failures+1, 10)
		case wait > 0 && time.Since(began) < wait/2: // a server of the old protocol does not let us wait
			pause = min(max(g.req.TTL/4, minPause), time.Second)
		}
		if errors.Is(err, ErrHeld) {
			wait, failures = maxWait, 0
		}
		if !sleep(ctx, spread(pause)) {
			return context.Cause(ctx)
		}
	}
}

// Try is one request of Acquire, that waits for up to wait. The error is [ErrHeld] if another holds
// the lock, [ErrRefused] if no other request would be answered differently, else it may be tried again.
func (g *Guard) Try(ctx context.Context, wait time.Duration) error {
	l, err := g.client.Acquire(ctx, g.req, wait)
	if err == nil {
		err = l.freshen(ctx)
	}
	if err == nil {
		g.begin(l)
	}
	return err
}

// freshen renews a lock of which much is over already, since its answer took long. On an error it is
// released.
func (l *Lock) freshen(ctx context.Context) error {
	if l.Until()-Boottime() > l.req.TTL/2 {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	err := l.Renew(within)
	if err == nil && l.Until()-Boottime() <= l.req.TTL/2 {
		err = ErrLate
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, l.Release(context.WithoutCancel(ctx)))
}

func (g *Guard) begin(l *Lock) {
	h := &hold{lock: l, alarm: newAlarm(), nudges: make(chan struct{}, 1), asked: Boottime()}
	h.life, h.end = context.WithCancelCause(context.Background())
	h.wg.Go(h.keep)
	h.wg.Go(h.watch)
	if l.lease == "" && l.req.TTL > quickTTL {
		h.wg.Go(h.listen)
	}
	if l.lease == "" {
		g.client.holds.join(h)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold = h
	g.stats.Acquired++
	g.stats.Held, g.stats.Token, g.stats.Since = true, l.token, time.Now()
}

func (g *Guard) count(f func(*Stats)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(&g.stats)
}

func (g *Guard) held() *hold {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hold
}

// Hold returns why the lock is lost: [ErrGone] or [ErrLate]. What it protects is to be killed then,
// for which there is little time. It returns nil when ctx ends or Release is called.
func (g *Guard) Hold(ctx context.Context) error {
	h := g.held()
	if h == nil {
		return errors.New("the lock is not held")
	}
	select {
	case <-h.life.Done():
	case <-ctx.Done():
		if h.life.Err() == nil {
			return nil
		}
	}
	err := context.Cause(h.life)
	switch {
	case errors.Is(err, errOver):
		return nil
	case errors.Is(err, ErrGone):
		g.count(func(s *Stats) { s.Gone++ })
	default:
		g.count(func(s *Stats) { s.Late++ })
	}
	return err
}

// Last returns until when, by [Boottime], what the lock protects may live: a little longer than until
// Hold returns, which should have had it killed. It is 1 where the lock is not held.
func (g *Guard) Last() time.Duration {
	if h := g.held(); h != nil {
		return h.last()
	}
	return 1
}

// Follow has f told the time of Last now, and at each renewal until Release. f must not block for long.
func (g *Guard) Follow(f func(until time.Duration)) {
	if h := g.held(); h != nil {
		h.follow(f)
	}
}

// Release gives the lock back, after what it protects is gone.
func (g *Guard) Release() {
	g.mu.Lock()
	h := g.hold
	g.hold = nil
	g.stats.Held, g.stats.Token, g.stats.Since = false, 0, time.Time{}
	g.mu.Unlock()
	if h == nil {
		return
	}
	h.end(errOver)
	g.client.holds.leave(h)
	h.follow(nil) // also when it is renewed along with another just now
	h.alarm.close()
	h.wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	if err := h.lock.Release(ctx); err != nil {
		g.log.Warn("the lock could not be released, its TTL will", "key", g.req.Key, "err", err)
	}
}

// hold is the time for which a lock is held.
type hold struct {
	lock   *Lock
	alarm  *alarm
	life   context.Context // its cause is why the lock is lost, or errOver
	end    context.CancelCauseFunc
	wg     sync.WaitGroup
	nudges chan struct{} // to renew now
	asked  time.Duration // when a renewal was last sent, by Boottime; guarded by holds.mu

	mu   sync.Mutex // guards tell; held while it is called
	tell func(time.Duration)
}

func (h *hold) follow(f func(time.Duration)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell = f
	if f != nil {
		f(h.last())
	}
}

// deadline is when the lock is lost unless it is renewed.
func (h *hold) deadline() time.Duration { return h.lock.Until() - h.lock.req.stopping() }

// last is when others kill what we should have killed at the deadline.
func (h *hold) last() time.Duration { return h.lock.Until() - h.lock.req.stopping()/2 }

// keep renews until the hold is over.
func (h *hold) keep() {
	ttl := h.lock.req.TTL
	every := spread(ttl / 3)
	pause := every
	for {
		nudged, over := h.pause(pause)
		if over {
			return
		}
		if rest := every - h.age(); rest > 0 && !nudged { // it was renewed along with another
			pause = rest
			continue
		}
		ctx, cancel := context.WithTimeout(h.life, h.patience())
		err := h.renew(ctx)
		cancel()
		switch {
		case h.life.Err() != nil:
			return
		case err == nil:
			every = spread(ttl / 3)
			pause = max(every-h.age(), 0)
		case errors.Is(err, ErrGone):
			h.end(ErrGone)
			return
		default: // retried until the deadline
			pause = spread(min(ttl/20, 200*time.Millisecond))
		}
	}
}

// age is how long ago the last request was sent that was acknowledged.
func (h *hold) age() time.Duration {
	return Boottime() - (h.lock.Until() - h.lock.req.TTL + h.lock.req.margin())
}

// patience is how long a renewal may take, so that there is time for each of the servers.
func (h *hold) patience() time.Duration {
	left := h.lock.Until() - Boottime()
	return min(h.lock.req.TTL/3, max(left/time.Duration(len(h.lock.client.cfg.URLs)), 10*time.Millisecond))
}

// pause waits, or is told to renew now, or that the hold is over.
func (h *hold) pause(d time.Duration) (nudged, over bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return false, false
	case <-h.nudges:
		return true, false
	case <-h.life.Done():
		return false, true
	}
}

func (h *hold) renewed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tell != nil && h.life.Err() == nil {
		h.tell(h.last())
	}
}

// watch ends the hold at its deadline.
func (h *hold) watch() {
	for {
		if err := h.alarm.set(h.deadline()); err != nil {
			h.end(err)
			return
		}
		if !h.alarm.wait() {
			return
		}
		if Boottime() >= h.deadline() {
			h.end(ErrLate)
			return
		}
	}
}

// spread varies a pause by up to 10 %, so that not all holders ask at once.
func spread(d time.Duration) time.Duration {
	return d + time.Duration(float64(d)*0.1*(2*rand.Float64()-1))
}

// sleep returns false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
