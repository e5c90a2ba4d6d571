package output

import "time"

// reportEvery is how often a stream says how many of its lines the rate limit has taken.
const reportEvery = 10 * time.Second

// limiter is a pair of token buckets that each hold one second's worth. They are filled for a whole read at once, which
// is why this is not x/time/rate: that takes a lock and the time for each line.
type limiter struct {
	lines, bytes bucket
	at           time.Time // when the buckets were filled last
	lost         uint64    // lines not yet reported
	reportAt     time.Time
}

type bucket struct{ perSecond, tokens float64 }

func newLimiter(cfg *StreamConfig) *limiter {
	if cfg.RateLines <= 0 && cfg.RateBytes <= 0 {
		return nil
	}
	lines, bytes := float64(cfg.RateLines), float64(cfg.RateBytes)
	return &limiter{lines: bucket{lines, lines}, bytes: bucket{bytes, bytes}}
}

func (l *limiter) fill(now time.Time) {
	if !l.at.IsZero() {
		seconds := now.Sub(l.at).Seconds()
		l.lines.fill(seconds)
		l.bytes.fill(seconds)
	}
	l.at = now
}

// take reports whether a line of n bytes may pass. One may pass a bucket that it overdraws, else a line that is longer
// than a second's worth would never pass.
func (l *limiter) take(n int) bool {
	if !l.lines.open() || !l.bytes.open() {
		l.lost++
		return false
	}
	l.lines.tokens--
	l.bytes.tokens -= float64(n)
	return true
}

func (b *bucket) fill(seconds float64) {
	b.tokens = min(b.perSecond, b.tokens+max(seconds, 0)*b.perSecond)
}

func (b *bucket) open() bool { return b.perSecond <= 0 || b.tokens > 0 }
