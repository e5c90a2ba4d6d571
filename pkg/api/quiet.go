package api

import (
	"log/slog"
	"strings"
	"sync"
	"time"
)

// quietFor is how long a server that has complained keeps quiet.
const quietFor = time.Minute

// quiet logs what package http complains of: one complaint a minute, with how many
// there were before it that were not logged. Clients cause most of them.
type quiet struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	last    time.Time
	skipped int
}

// Write takes one line.
func (q *quiet) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now := time.Now(); q.last.IsZero() || now.Sub(q.last) >= quietFor {
		q.log.Warn("health server", "err", clip(strings.TrimSpace(string(line)), maxError), "unsaid", q.skipped)
		q.last, q.skipped = now, 0
	} else {
		q.skipped++
	}
	return len(line), nil
}
