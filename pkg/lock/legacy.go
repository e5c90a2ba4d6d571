package lock

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// serveLease answers /lease of the old protocol.
func (s *Server) serveLease(w http.ResponseWriter, r *http.Request) {
	var err error
	switch r.Method {
	case http.MethodPost:
		err = s.oldAcquire(w, r)
	case http.MethodDelete:
		err = s.oldRelease(w, r)
	default:
		w.Header().Set("Allow", "POST, DELETE")
		err = &problem{http.StatusMethodNotAllowed, "", "method not allowed: use POST or DELETE"}
	}
	s.oldRefuse(w, r, err)
}

// serveKeepalive answers /keepalive of the old protocol.
func (s *Server) serveKeepalive(w http.ResponseWriter, r *http.Request) {
	err := error(&problem{http.StatusMethodNotAllowed, "", "method not allowed: use POST"})
	if r.Method == http.MethodPost {
		err = s.oldKeepalive(w, r)
	} else {
		w.Header().Set("Allow", "POST")
	}
	s.oldRefuse(w, r, err)
}

// oldRefuse writes an error as a line of text.
func (s *Server) oldRefuse(w http.ResponseWriter, r *http.Request, err error) {
	if err == nil {
		return
	}
	p := s.problem(r, err)
	if p.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, p.message, p.status)
}

// oldBody is the JSON of /lease. Other fields are let through, as they always were.
type oldBody struct {
	Key       string          `json:"key"`
	Value     json.RawMessage `json:"value"`
	Labels    json.RawMessage `json:"labels"`
	Timestamp json.RawMessage `json:"timestamp"`
}

func (s *Server) oldAcquire(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	var b oldBody
	if err := json.Unmarshal(body, &b); err != nil {
		return bad("bad_request", "the body is no JSON: %v", err)
	}
	name := Name{Namespace: r.Header.Get("X-Lock-Namespace"), Key: b.Key}
	if err := checkNamespace(name.Namespace); err != nil {
		return err
	}
	if err := s.may(r, hold, name); err != nil {
		return err
	}
	req := Request{Name: name, Slots: 1, Expose: true, Owner: oldText(b.Value), Labels: oldLabels(b.Labels)}
	if req.TTL, err = parseTTL(r.Header.Get("X-Lease-Ttl")); err != nil {
		return err
	}
	wait, err := parseBounded("wait", r.URL.Query().Get("wait"), maxWait)
	if err != nil {
		return err
	}
	holder, _, err := s.wait(r.Context(), req, wait)
	switch {
	case errors.Is(err, ErrHeld):
		w.WriteHeader(http.StatusAccepted)
		return nil
	case err != nil:
		return err
	}
	if s.abandoned(r, holder) {
		return nil
	}
	w.Header().Set("X-Fencing-Token", strconv.FormatInt(holder.Token, 10))
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, strconv.FormatInt(holder.Lease, 10))
	return nil
}

// oldText is a value for people: a string, or JSON as it came.
func oldText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	return text[:min(len(text), maxText)]
}

// oldLabels takes an object; its values are made text.
func oldLabels(raw json.RawMessage) map[string]string {
	var any map[string]json.RawMessage
	if json.Unmarshal(raw, &any) != nil || len(any) == 0 {
		return nil
	}
	labels := make(map[string]string, len(any))
	for k, v := range any {
		labels[k] = oldText(v)
	}
	return labels
}

// oldRef reads a lease id and finds its lock.
func (s *Server) oldRef(w http.ResponseWriter, r *http.Request) (Ref, error) {
	body, err := readBody(w, r)
	if err != nil {
		return Ref{}, err
	}
	if err := s.known(r); err != nil {
		return Ref{}, err
	}
	text := strings.TrimSpace(string(body))
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id <= 0 {
		return Ref{}, bad("bad_request", "the body %.40q is no lease id", text)
	}
	ctx, cancel := bounded(r)
	defer cancel()
	ref, err := s.store.ByLease(ctx, id)
	if err != nil {
		return ref, err
	}
	return ref, s.mayPrefix(r, hold, ref.Name)
}

func (s *Server) oldKeepalive(w http.ResponseWriter, r *http.Request) error {
	ref, err := s.oldRef(w, r)
	if err == nil {
		err = s.renewAll(r, []Ref{ref})[0].Err
	}
	if errors.Is(err, ErrGone) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err == nil {
		w.WriteHeader(http.StatusOK)
	}
	return err
}

func (s *Server) oldRelease(w http.ResponseWriter, r *http.Request) error {
	ref, err := s.oldRef(w, r)
	if err == nil {
		ctx, cancel := bounded(r)
		defer cancel()
		err = s.store.Release(ctx, ref)
	}
	switch {
	case errors.Is(err, ErrGone):
		w.WriteHeader(http.StatusNoContent)
		return nil
	case err != nil:
		return fmt.Errorf("release: %w", err)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
