package lock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// tryTimeout bounds what one request asks of the store, waiting apart.
const tryTimeout = 4 * time.Second

// Options say how a [Server] works. The zero value of each field is good, except for Log.
type Options struct {
	Access   *Access // nil: everybody may do everything
	Registry prometheus.Registerer
	Log      *slog.Logger
}

// Server is the HTTP handler of a store. Make one with [NewServer].
type Server struct {
	store   Store
	access  *Access
	log     *slog.Logger
	metrics *metrics
	queues  queues
	hub     hub

	draining chan struct{}
	drain    sync.Once
}

// NewServer returns a handler. The store is set by Serve, since it reports to Observe.
func NewServer(o Options) *Server {
	s := &Server{access: o.Access, log: o.Log, draining: make(chan struct{})}
	s.metrics = newMetrics(s, o.Registry)
	return s
}

// Use sets the store, before the first request.
func (s *Server) Use(store Store) { s.store = store }

// Observe takes the events of the store, in order. It does not block.
func (s *Server) Observe(e Event) {
	s.queues.observe(e)
	s.hub.observe(e)
}

// Drain ends all waiting: those who wait are told to come again. It may be called more than once.
func (s *Server) Drain() { s.drain.Do(func() { close(s.draining) }) }

// ServeHTTP answers. The path is taken as it was sent, since a key may hold what a mux would clean.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	switch {
	case path == "/lease":
		s.serveLease(w, r)
	case path == "/keepalive":
		s.serveKeepalive(w, r)
	case path == "/health":
		s.text(w, r, http.StatusOK, "ok")
	case path == "/ready":
		s.serveReady(w, r)
	case strings.HasPrefix(path, "/v1/"):
		if err := s.serveV1(w, r, strings.TrimPrefix(path, "/v1/")); err != nil {
			s.refuse(w, r, err, nil)
		}
	default:
		s.refuse(w, r, &problem{http.StatusNotFound, "not_found", "there is nothing at this path"}, nil)
	}
}

func (s *Server) text(w http.ResponseWriter, r *http.Request, status int, text string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed: use GET", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	select {
	case <-s.draining:
		s.text(w, r, http.StatusServiceUnavailable, "shutting down")
		return
	default:
	}
	if err := s.store.Ready(r.Context()); err != nil {
		s.log.Debug("not ready", "err", err)
		w.Header().Set("Retry-After", "1")
		s.text(w, r, http.StatusServiceUnavailable, "etcd does not answer")
		return
	}
	s.text(w, r, http.StatusOK, "ready")
}

// serveV1 finds the operation of a path and the name of its lock.
func (s *Server) serveV1(w http.ResponseWriter, r *http.Request, path string) error {
	name := Name{Namespace: r.Header.Get("X-Lock-Namespace")}
	if r.URL.RawQuery != "" {
		if n := r.URL.Query().Get("namespace"); n != "" {
			name.Namespace = n
		}
	}
	if err := checkNamespace(name.Namespace); err != nil {
		return err
	}
	op, raw, err := route(r.Method, path)
	if err != nil {
		return err
	}
	if raw != "" {
		if name.Key, err = url.PathUnescape(raw); err != nil {
			return bad("bad_key", "the key in the path is not percent-encoded: %v", err)
		}
	}
	for _, o := range op {
		if o.method == r.Method {
			return o.answer(s, w, r, name)
		}
	}
	var allow []string
	for _, o := range op {
		allow = append(allow, o.method)
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	return &problem{http.StatusMethodNotAllowed, "method_not_allowed", "use " + strings.Join(allow, " or ")}
}

// operation is what a path of /v1 can be asked for by a method.
type operation struct {
	method string
	answer func(*Server, http.ResponseWriter, *http.Request, Name) error
}

var (
	ofLocks    = []operation{{http.MethodGet, (*Server).list}}
	ofLock     = []operation{{http.MethodGet, (*Server).get}, {http.MethodDelete, (*Server).release}}
	ofAcquire  = []operation{{http.MethodPost, (*Server).acquire}}
	ofRenew    = []operation{{http.MethodPut, (*Server).renew}}
	ofMany     = []operation{{http.MethodPut, (*Server).renewMany}}
	ofValidate = []operation{{http.MethodGet, (*Server).validate}}
	ofEvents   = []operation{{http.MethodGet, (*Server).serveEvents}}
	ofSession  = []operation{{http.MethodDelete, (*Server).endSession}}
)

// route splits a path behind /v1/ into operation and key, which is still encoded.
func route(method, path string) ([]operation, string, error) {
	rest, isLock := strings.CutPrefix(path, "locks/")
	session, isSession := strings.CutPrefix(path, "sessions/")
	switch {
	case path == "renew":
		return ofMany, "", nil
	case path == "events":
		return ofEvents, "", nil
	case path == "locks":
		return ofLocks, "", nil
	case isSession && session != "":
		return ofSession, session, nil
	case !isLock:
		return nil, "", &problem{http.StatusNotFound, "not_found", "there is nothing at this path"}
	case rest == "":
		return nil, "", bad("bad_key", "the key is empty")
	}
	if at := strings.LastIndexByte(rest, '/'); at >= 0 {
		if op := named(method, rest[at+1:]); op != nil {
			if at == 0 {
				return nil, "", bad("bad_key", "the key is empty")
			}
			return op, rest[:at], nil
		}
	}
	return ofLock, rest, nil
}

// named returns the operation that the last part of a path is the name of. With DELETE a key may end
// in such a word, and with GET in acquire and renew.
func named(method, word string) []operation {
	switch {
	case method == http.MethodDelete:
		return nil
	case word == "validate":
		return ofValidate
	case method == http.MethodGet:
		return nil
	case word == "acquire":
		return ofAcquire
	case word == "renew":
		return ofRenew
	}
	return nil
}

// readJSON reads a body strictly.
func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	return decodeJSON(body, into)
}

// decodeJSON is readJSON for a body that is read already.
func decodeJSON(body []byte, into any) error {
	if len(body) == 0 {
		return nil // all fields are optional, or missed later by name
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return bad("bad_request", "the body is no JSON of this request: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("bad_request", "there is more than one JSON value in the body")
	}
	return nil
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > maxBody {
		w.Header().Set("Connection", "close") // or all of it would be read
		return nil, &problem{http.StatusRequestEntityTooLarge, "too_large", "the body is larger than 64 KiB"}
	}
	if r.ContentLength > 0 { // there is no more, and a server reads no less
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, bad("bad_request", "read body: %v", err)
		}
		return body, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &problem{http.StatusRequestEntityTooLarge, "too_large", "the body is larger than 64 KiB"}
	case err != nil:
		return nil, bad("bad_request", "read body: %v", err)
	}
	return body, nil
}

// refuse writes an error as JSON, with more fields beside it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error, more map[string]any) {
	p := s.problem(r, err)
	if p.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	body := map[string]any{"error": map[string]string{"code": p.code, "message": p.message}}
	for k, v := range more {
		body[k] = v
	}
	writeJSON(w, p.status, body)
}

// problem translates an error.
func (s *Server) problem(r *http.Request, err error) *problem {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, ErrHeld):
		return &problem{http.StatusConflict, "held", "another holds the lock"}
	case errors.Is(err, ErrSlots):
		return &problem{http.StatusConflict, "slots_mismatch", "the key is in use with another number of slots"}
	case errors.Is(err, ErrGone):
		return &problem{http.StatusGone, "gone", "the token holds the lock no more"}
	}
	if r.Context().Err() == nil {
		s.log.Warn("request could not be answered", "method", r.Method, "err", err)
	}
	return &problem{http.StatusServiceUnavailable, "unavailable", "the state of the lock is not known now: try again"}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types
	}
	writeBody(w, status, append(b, '\n'))
}

var typeJSON = []string{"application/json"} // never changed

func writeBody(w http.ResponseWriter, status int, body []byte) {
	w.Header()["Content-Type"] = typeJSON
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// bounded is the context of what a request asks of the store.
func bounded(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), tryTimeout)
}
