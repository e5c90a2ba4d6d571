package api

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Heartbeats remembers when each process last said that it is well. Its zero
// value is ready to use.
type Heartbeats struct {
	mu   sync.Mutex // guards last
	last map[string]time.Time
}

// Beat notes a sign of life of a process.
func (b *Heartbeats) Beat(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil {
		b.last = make(map[string]time.Time)
	}
	b.last[name] = time.Now()
}

// Last returns when a process last beat, and whether it ever did.
func (b *Heartbeats) Last(name string) (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.last[name]
	return t, ok
}

// Forget drops what is known of a process.
func (b *Heartbeats) Forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.last, name)
}

func (h *handler) beat(w http.ResponseWriter, r *http.Request) {
	if st, ok := h.named(w, r); ok {
		h.Heartbeats.Beat(st.Name)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (h *handler) age(w http.ResponseWriter, r *http.Request) {
	st, ok := h.named(w, r)
	if !ok {
		return
	}
	t, ok := h.Heartbeats.Last(st.Name)
	if !ok {
		http.Error(w, "no heartbeat yet: PATCH /heartbeat?name=NAME beats", http.StatusNotFound)
		return
	}
	text(w, http.StatusOK, strconv.FormatFloat(time.Since(t).Seconds(), 'f', 3, 64))
}
