package lock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// granted is the answer of acquire.
type granted struct {
	Key     string `json:"key"`
	Token   int64  `json:"token"`
	Cluster string `json:"cluster"`
	TTL     int64  `json:"ttlMs"`
	Waited  int64  `json:"waitedMs"`
	Slot    int    `json:"slot"`
}

// holderJSON is what others see of a holder.
type holderJSON struct {
	Owner      string            `json:"owner,omitempty"`
	Host       string            `json:"host,omitempty"`
	Pod        string            `json:"pod,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	AcquiredAt *time.Time        `json:"acquiredAt,omitempty"`
	TTL        int64             `json:"ttlMs,omitempty"`
	Remaining  *int64            `json:"remainingMs"`
	Slot       int               `json:"slot"`
}

func show(h Holder) holderJSON {
	j := holderJSON{Owner: h.Owner, Host: h.Host, Pod: h.Pod, Labels: h.Labels, TTL: h.TTL.Milliseconds(), Slot: h.Slot}
	if !h.AcquiredAt.IsZero() {
		at := h.AcquiredAt.UTC()
		j.AcquiredAt = &at
	}
	if h.Remaining >= 0 {
		ms := h.Remaining.Milliseconds()
		j.Remaining = &ms
	}
	return j
}

// acquire answers POST /v1/locks/{key}/acquire.
func (s *Server) acquire(w http.ResponseWriter, r *http.Request, name Name) error {
	if err := s.may(r, hold, name); err != nil {
		return err
	}
	var body acquireBody
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if r.URL.RawQuery != "" {
		if text := r.URL.Query().Get("wait"); text != "" {
			body.Wait = text
		}
	}
	req, wait, err := body.request(name)
	if err != nil {
		return err
	}
	holder, waited, err := s.wait(r.Context(), req, wait)
	switch {
	case errors.Is(err, ErrHeld) && holder.Key != "":
		s.refuse(w, r, err, map[string]any{"holder": show(holder)})
		return nil
	case err != nil:
		return err
	}
	if s.abandoned(r, holder) {
		return nil
	}
	status := http.StatusCreated
	if holder.Reentered {
		status = http.StatusOK
	}
	w.Header().Set("X-Fencing-Token", strconv.FormatInt(holder.Token, 10))
	writeJSON(w, status, granted{Key: name.Key, Token: holder.Token, Cluster: s.store.Cluster(),
		TTL: holder.TTL.Milliseconds(), Waited: waited.Milliseconds(), Slot: holder.Slot})
	return nil
}

// abandoned gives a lock back whose client is gone.
func (s *Server) abandoned(r *http.Request, h Holder) bool {
	if r.Context().Err() == nil || h.Reentered {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), tryTimeout)
	defer cancel()
	if err := s.store.Release(ctx, h.Ref); err != nil && !errors.Is(err, ErrGone) {
		s.log.Warn("lock of a lost client could not be freed, its TTL will", "key", h.Key, "err", err)
	}
	return true
}

// refJSON names a lock and its token.
type refJSON struct {
	Key   string `json:"key,omitempty"`
	Token int64  `json:"token"`
}

// renewedJSON is the answer for one lock of a renewal.
type renewedJSON struct {
	Key    string `json:"key"`
	Token  int64  `json:"token"`
	Status string `json:"status,omitempty"`
	TTL    int64  `json:"ttlMs,omitempty"`
}

// appendRenewed is json.Marshal for an answer, without reflection where the key needs no escape.
func appendRenewed(b []byte, r renewedJSON) []byte {
	b = append(b, `{"key":`...)
	if plainText(r.Key) {
		b = append(append(append(b, '"'), r.Key...), '"')
	} else {
		text, err := json.Marshal(r.Key)
		if err != nil {
			panic(err) // a string
		}
		b = append(b, text...)
	}
	b = strconv.AppendInt(append(b, `,"token":`...), r.Token, 10)
	if r.Status != "" {
		b = append(append(append(b, `,"status":"`...), r.Status...), '"')
	}
	if r.TTL != 0 {
		b = strconv.AppendInt(append(b, `,"ttlMs":`...), r.TTL, 10)
	}
	return append(b, '}')
}

// plainText tells if a text stands in JSON as it is.
func plainText(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// renew answers PUT /v1/locks/{key}/renew.
func (s *Server) renew(w http.ResponseWriter, r *http.Request, name Name) error {
	if err := s.may(r, hold, name); err != nil {
		return err
	}
	text, err := readBody(w, r)
	if err != nil {
		return err
	}
	token, err := decodeToken(text)
	if err != nil {
		return err
	}
	if token <= 0 {
		return bad("bad_request", "token %d is no token: it is the number that acquire returned", token)
	}
	answer := s.renewAll(r, []Ref{{name, token}})[0]
	if answer.Err != nil {
		return answer.Err
	}
	var room [192]byte
	text = appendRenewed(room[:0], renewedJSON{Key: name.Key, Token: token, TTL: answer.TTL.Milliseconds()})
	writeBody(w, http.StatusOK, append(text, '\n'))
	return nil
}

// decodeToken reads {"token":123}. What is written so is read without reflection.
func decodeToken(text []byte) (int64, error) {
	if digits, ok := bytes.CutPrefix(text, []byte(`{"token":`)); ok {
		digits, ok = bytes.CutSuffix(digits, []byte{'}'})
		if n, good := smallNumber(digits); ok && good {
			return n, nil
		}
	}
	var body struct {
		Token int64 `json:"token"`
	}
	err := decodeJSON(text, &body)
	return body.Token, err
}

// smallNumber reads what is 1 to 18 digits and begins with another than 0.
func smallNumber(digits []byte) (n int64, ok bool) {
	if len(digits) < 1 || len(digits) > 18 || digits[0] == '0' {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// renewAll leaves it to the store to be done in time, which needs no time for most.
func (s *Server) renewAll(r *http.Request, refs []Ref) []Renewal {
	begin := time.Now()
	answers := s.store.Renew(r.Context(), refs)
	took := time.Since(begin)
	for _, a := range answers {
		s.metrics.renewed(a.Err, took)
	}
	return answers
}

// renewMany answers PUT /v1/renew.
func (s *Server) renewMany(w http.ResponseWriter, r *http.Request, name Name) error {
	var body struct {
		Locks []refJSON `json:"locks"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if len(body.Locks) == 0 || len(body.Locks) > maxRefs {
		return bad("bad_request", "locks has %d entries, it needs 1 to %d", len(body.Locks), maxRefs)
	}
	refs := make([]Ref, len(body.Locks))
	for i, l := range body.Locks {
		refs[i] = Ref{Name{name.Namespace, l.Key}, l.Token}
		if err := s.may(r, hold, refs[i].Name); err != nil {
			return err
		}
		if l.Token <= 0 {
			return bad("bad_request", "token %d of key %q is no token", l.Token, l.Key)
		}
	}
	out := make([]renewedJSON, len(refs))
	for i, a := range s.renewAll(r, refs) {
		out[i] = renewedJSON{Key: refs[i].Key, Token: refs[i].Token, Status: "ok", TTL: a.TTL.Milliseconds()}
		switch {
		case errors.Is(a.Err, ErrGone):
			out[i].Status = "gone"
		case a.Err != nil:
			out[i].Status = "unknown"
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"locks": out})
	return nil
}

// release answers DELETE /v1/locks/{key}.
func (s *Server) release(w http.ResponseWriter, r *http.Request, name Name) error {
	query := r.URL.Query()
	ctx, cancel := bounded(r)
	defer cancel()
	if query.Has("force") {
		if err := s.may(r, force, name); err != nil {
			return err
		}
		n, err := s.store.Force(ctx, name)
		if err != nil {
			return err
		}
		s.log.Info("lock was freed by force", "key", name.Key, "namespace", name.Namespace, "holders", n)
		s.metrics.forced.Add(float64(n))
		if n == 0 {
			return &problem{http.StatusGone, "gone", "nobody holds the lock"}
		}
		writeJSON(w, http.StatusOK, map[string]any{"key": name.Key, "released": n})
		return nil
	}
	if err := s.may(r, hold, name); err != nil {
		return err
	}
	token, err := parseToken(query.Get("token"))
	if err != nil {
		return err
	}
	if err := s.store.Release(ctx, Ref{name, token}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// validate answers GET /v1/locks/{key}/validate.
func (s *Server) validate(w http.ResponseWriter, r *http.Request, name Name) error {
	if err := s.may(r, read, name); err != nil {
		return err
	}
	token, err := parseToken(r.URL.Query().Get("token"))
	if err != nil {
		return err
	}
	ctx, cancel := bounded(r)
	defer cancel()
	switch err := s.store.Validate(ctx, Ref{name, token}); {
	case errors.Is(err, ErrGone):
		s.refuse(w, r, err, map[string]any{"valid": false})
	case err != nil:
		return err
	default:
		writeJSON(w, http.StatusOK, map[string]any{"key": name.Key, "token": token, "valid": true})
	}
	return nil
}

// endSession answers DELETE /v1/sessions/{session}. Whoever knows the secret may.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request, name Name) error {
	if err := s.known(r); err != nil {
		return err
	}
	if len(name.Key) < 16 || len(name.Key) > 128 {
		return bad("bad_request", "session has %d bytes: it is a secret of 16 to 128", len(name.Key))
	}
	ctx, cancel := bounded(r)
	defer cancel()
	if err := s.store.EndSession(ctx, name.Namespace, name.Key); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
