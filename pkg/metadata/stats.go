package metadata

import (
	"net/http"
	"strconv"
	"time"
)

const (
	maxLog   = 1000 // how many requests are remembered
	maxPaths = 200  // how many paths are counted apart
)

// Request is one request in the log, and one line of Config.Record.
type Request struct {
	Time      time.Time `json:"time"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Query     string    `json:"query,omitempty"`
	UserAgent string    `json:"userAgent,omitempty"`
	Remote    string    `json:"remote,omitempty"`
	Status    int       `json:"status"` // 0: cut without an answer
	Bytes     int64     `json:"bytes"`
	Seconds   float64   `json:"seconds"`
	Fault     string    `json:"fault,omitempty"` // its mode
}

// stats counts what was asked and answered.
type stats struct {
	total  uint64
	codes  map[string]uint64
	faults map[string]uint64
	paths  map[string]uint64 // at most maxPaths, then they are counted as others
	log    []Request         // a ring, next at total % maxLog
}

// note counts and records a request.
func (s *Server) note(w *observed, r *http.Request, start time.Time, f *activeFault) {
	req := Request{
		Time: start.UTC(), Method: clip(r.Method), Path: clip(r.URL.Path), Query: clip(r.URL.RawQuery), UserAgent: clip(r.UserAgent()),
		Remote: r.RemoteAddr, Status: w.status, Bytes: w.bytes, Seconds: time.Since(start).Seconds(),
	}
	if f != nil {
		req.Fault = f.Mode
	}
	code := "cut"
	if w.status > 0 {
		code = strconv.Itoa(w.status)
	}
	s.mu.Lock()
	if f != nil {
		f.users--
	}
	if len(s.stats.log) < maxLog {
		s.stats.log = append(s.stats.log, req)
	} else {
		s.stats.log[s.stats.total%maxLog] = req
	}
	s.stats.total++
	s.stats.codes[code]++
	if _, known := s.stats.paths[req.Path]; known || len(s.stats.paths) < maxPaths {
		s.stats.paths[req.Path]++
	} else {
		s.stats.paths["others"]++
	}
	s.stir()
	s.mu.Unlock()
	s.config.Logger.Debug("request", "method", req.Method, "path", req.Path, "query", req.Query, "status", req.Status, "fault", req.Fault)
	s.record(req)
}

// record writes to Config.Record, until that fails.
func (s *Server) record(v any) {
	s.recordMu.Lock()
	defer s.recordMu.Unlock()
	if s.recording == nil {
		return
	}
	if err := s.recording.Encode(v); err != nil {
		s.recording = nil
		s.config.Logger.Error("recording ended", "err", err)
	}
}

// clip bounds what a request can put into the log.
func clip(text string) string {
	const most = 512
	if len(text) > most {
		return text[:most]
	}
	return text
}

// Requests returns the last requests that were answered, at most 1000, in order.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.stats.log
	if len(log) < maxLog {
		return append([]Request(nil), log...)
	}
	next := int(s.stats.total % maxLog)
	return append(append(make([]Request, 0, maxLog), log[next:]...), log[:next]...)
}

// playing is the cloud that a path belongs to.
func (s *Server) playing(path string) Personality {
	p := s.config.Personality
	if p != All {
		return p
	}
	switch {
	case path == "/latest" || hasDir(path, "/latest"):
		return AWS
	case hasDir(path, "/metadata"):
		return Azure
	default:
		return GCE
	}
}

func hasDir(path, dir string) bool {
	return len(path) > len(dir) && path[:len(dir)] == dir && path[len(dir)] == '/'
}

var _ http.Handler = (*Server)(nil)
