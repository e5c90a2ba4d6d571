package lock

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxListeners = 1024
	listenBuffer = 256
	heartbeat    = 15 * time.Second
	writeTimeout = 10 * time.Second
)

// hub hands events to those who listen. One who does not read fast enough gets a reset in the place
// of what was missed.
type hub struct {
	mu        sync.Mutex // guards what follows
	listeners map[*listener]struct{}
}

type listener struct {
	prefix Name
	events chan Event
	missed chan struct{} // holds one
}

func (h *hub) observe(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		if e.Key == "" {
			l.miss()
			continue
		}
		if e.Namespace != l.prefix.Namespace || !strings.HasPrefix(e.Key, l.prefix.Key) {
			continue
		}
		select {
		case l.events <- e:
		default:
			l.miss()
		}
	}
}

func (l *listener) miss() {
	select {
	case l.missed <- struct{}{}:
	default:
	}
}

// listen returns nil when there are too many.
func (h *hub) listen(prefix Name) *listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.listeners) >= maxListeners {
		return nil
	}
	if h.listeners == nil {
		h.listeners = map[*listener]struct{}{}
	}
	l := &listener{prefix: prefix, events: make(chan Event, listenBuffer), missed: make(chan struct{}, 1)}
	h.listeners[l] = struct{}{}
	return l
}

func (h *hub) leave(l *listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.listeners, l)
}

// size counts who listens.
func (h *hub) size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.listeners)
}

// serveEvents answers GET /v1/events until the client leaves.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request, name Name) error {
	name.Key = r.URL.Query().Get("prefix")
	if err := s.mayPrefix(r, read, name); err != nil {
		return err
	}
	l := s.hub.listen(name)
	if l == nil {
		return &problem{http.StatusServiceUnavailable, "unavailable", fmt.Sprintf("%d clients listen already", maxListeners)}
	}
	defer s.hub.leave(l)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	text := ": listening\n\n"
	for {
		if out.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
			return nil
		}
		if _, err := fmt.Fprint(w, text); err != nil || out.Flush() != nil {
			return nil // the client left
		}
		select {
		case e := <-l.events:
			text = sse(e)
		case <-l.missed:
			text = "event: reset\ndata: {}\n\n"
		case <-beat.C:
			text = ": alive\n\n"
		case <-s.draining:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
}

func sse(e Event) string {
	kind := "acquired"
	if e.Freed {
		kind = "freed"
	}
	data, err := json.Marshal(refJSON{Key: e.Key, Token: e.Token})
	if err != nil {
		panic(err) // a string and a number
	}
	return "event: " + kind + "\ndata: " + string(data) + "\n\n"
}
