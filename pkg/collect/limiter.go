package collect

import (
	"hash/maphash"
	"net/netip"
	"sync"
)

// limiter is a token bucket for each source address. Its memory is fixed:
// sources share one of 16,384 buckets by a hash that nobody outside knows.
type limiter struct {
	rate float64 // messages a second
	most float64 // at once: as many, but one at least
	seed maphash.Seed

	mu      sync.Mutex // guards buckets
	buckets []bucket
}

type bucket struct {
	left float64
	at   int64
}

const sourceBuckets = 1 << 14

func newLimiter(rate float64) *limiter {
	if rate <= 0 {
		return nil
	}
	return &limiter{rate: rate, most: max(rate, 1), seed: maphash.MakeSeed(), buckets: make([]bucket, sourceBuckets)}
}

// source returns which bucket an address has. Those of an IPv6 network of 64 bits
// are one: whoever has one address there has them all.
func (l *limiter) source(a netip.Addr) uint64 {
	if l == nil {
		return 0
	}
	if a.Is6() {
		p, _ := a.WithZone("").Prefix(64)
		a = p.Addr()
	}
	return maphash.Comparable(l.seed, a) % sourceBuckets
}

// allow reports whether a source may send; spend tells how much it did.
func (l *limiter) allow(src uint64, now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.buckets[src]
	if b.at == 0 {
		b.left = l.most
	} else if now > b.at {
		b.left = min(l.most, b.left+float64(now-b.at)/1e9*l.rate)
	}
	b.at = now
	return b.left >= 1
}

func (l *limiter) spend(src uint64, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buckets[src].left -= float64(max(n, 1))
}
