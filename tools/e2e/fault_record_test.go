package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// ledger notes what process-wrappers ask shared-lock for and how it answers. What gets lost on the way
// between them and the ledger is of no account: to the servers the ledger is the client.
type ledger struct {
	notes *chronicle

	mu     sync.Mutex // guards what follows
	open   map[sessionKey]int64
	owners map[lockName]string // the session of each lock that was given
}

// sessionKey is a key that a session asks for. While there was no answer, the session may have it.
type sessionKey struct{ session, key string }

func newLedger(notes *chronicle) *ledger {
	return &ledger{notes: notes, open: map[sessionKey]int64{}, owners: map[lockName]string{}}
}

// asked is a request of which the answer is to be noted.
type asked struct {
	id      int // of its lockOp
	what    int
	key     string
	session string
	waits   bool
}

type askedKey struct{}

// recorder passes requests on to a replica and has them noted; it returns its address.
func (l *ledger) recorder(t *testing.T, to string) string {
	t.Helper()
	pass := &httputil.ReverseProxy{
		FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), ModifyResponse: l.answered,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: to}) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Second},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err != nil {
			return // its client is gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if a := l.asks(r, body); a != nil {
			defer l.notes.edit(a.id, func(op *lockOp) {
				if op.result == unknown {
					op.ret = boottime()
				}
			})
			r = r.WithContext(context.WithValue(r.Context(), askedKey{}, a))
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.Listener.Addr().String()
}

// asks notes a request; nil: it is none for a lock.
func (l *ledger) asks(r *http.Request, body []byte) *asked {
	if session, ok := strings.CutPrefix(r.URL.Path, "/v1/sessions/"); ok && r.Method == http.MethodDelete {
		l.ends(session)
		return nil
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/locks/")
	key, verb, _ := strings.Cut(rest, "/")
	what, known := map[string]int{"POST acquire": opAcquire, "PUT renew": opRenew, "DELETE ": opRelease}[r.Method+" "+verb]
	if !ok || !known {
		return nil
	}
	var b struct {
		Session, Wait string
		Token         int64
	}
	_ = json.Unmarshal(body, &b) // of a release it is empty
	if what == opRelease {
		b.Token, _ = strconv.ParseInt(r.URL.Query().Get("token"), 10, 64) // 0: no lock has it
	}
	a := &asked{what: what, key: key, session: b.Session, waits: b.Wait != "0s"}
	op := lockOp{what: what, key: key, token: b.Token}
	if what == opAcquire && a.waits {
		op.queued = boottime()
	}
	a.id = l.notes.begin(op)
	l.mu.Lock()
	defer l.mu.Unlock()
	if sk := (sessionKey{a.session, key}); what == opAcquire && l.open[sk] == 0 {
		l.open[sk] = boottime()
	}
	return a
}

// ends notes that all of a session may be freed from now on.
func (l *ledger) ends(session string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, owner := range l.owners {
		if owner == session {
			l.notes.begin(lockOp{what: opRelease, key: name.key, token: name.token})
		}
	}
}

// answered notes an answer.
func (l *ledger) answered(r *http.Response) error {
	a, ok := r.Request.Context().Value(askedKey{}).(*asked)
	if !ok {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if a.what == opAcquire {
		l.acquired(a, r.StatusCode, body)
		return nil
	}
	switch r.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		l.notes.answer(a.id, done, 0)
	case http.StatusGone:
		l.notes.answer(a.id, refused, 0)
	}
	return nil
}

// acquired notes the answer to an acquire.
func (l *ledger) acquired(a *asked, status int, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var got struct {
		Token  int64
		Waited int64 `json:"waitedMs"`
	}
	sk := sessionKey{a.session, a.key}
	switch _ = json.Unmarshal(body, &got); { // an error's text has no token
	case status == http.StatusCreated && got.Token > 0:
		l.owners[lockName{a.key, got.Token}] = a.session
		delete(l.open, sk)
		l.notes.edit(a.id, func(op *lockOp) { op.call += got.Waited * int64(time.Millisecond) }) // it was not had before
		l.notes.answer(a.id, done, got.Token)
	case status == http.StatusOK && got.Token > 0:
		l.reentered(a, got.Token, l.open[sk])
		delete(l.open, sk)
	case status == http.StatusConflict && a.waits: // it says who held the key last, which nobody may any more
		l.notes.forget(a.id)
	case status == http.StatusConflict:
		l.notes.answer(a.id, refused, 0)
	}
}

// reentered notes that a session has a lock already. If it was not told so before, then by a request since
// a time, which the server may be about to undo. The caller holds mu.
func (l *ledger) reentered(a *asked, token, since int64) {
	name := lockName{a.key, token}
	if l.owners[name] != "" {
		l.notes.edit(a.id, func(op *lockOp) { op.what = opRenew })
		l.notes.answer(a.id, done, token)
		return
	}
	l.owners[name] = a.session
	l.notes.edit(a.id, func(op *lockOp) { op.call = since })
	l.notes.answer(a.id, done, token)
	undo := l.notes.begin(lockOp{what: opRelease, key: a.key, token: token})
	l.notes.edit(undo, func(op *lockOp) { op.call = since })
}
