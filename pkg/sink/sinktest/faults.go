package sinktest

import (
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"time"
)

// Fault is one way to spoil a request.
type Fault uint8

// The faults.
const (
	Refuse429  Fault = iota // with Retry-After: 0
	Refuse500               // before the store sees it
	Refuse503               // before the store sees it
	HangUp                  // before the store sees it
	LoseAnswer              // after the store has taken it
	CutAnswer               // after the store has taken it, in the middle of the body
	Stall                   // no answer for a second, the store does not see it
	Empty200                // the store does not see it
	faults
)

// Proxy passes requests on to next and spoils some of them.
type Proxy struct {
	next    http.Handler
	percent atomic.Int32
	without map[Fault]bool
	Spoilt  atomic.Int64 // requests
}

// NewProxy spoils percent of the requests, by every fault but the given ones.
func NewProxy(next http.Handler, percent int, without ...Fault) *Proxy {
	p := &Proxy{next: next, without: map[Fault]bool{}}
	p.percent.Store(int32(percent))
	for _, f := range without {
		p.without[f] = true
	}
	return p
}

// Heal ends the faults.
func (p *Proxy) Heal() { p.percent.Store(0) }

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if int(p.percent.Load()) <= rand.IntN(100) {
		p.next.ServeHTTP(w, r)
		return
	}
	f := Fault(rand.IntN(int(faults)))
	for p.without[f] {
		f = Fault(rand.IntN(int(faults)))
	}
	p.Spoilt.Add(1)
	switch f {
	case Refuse429:
		w.Header().Set("Retry-After", "0")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
	case Refuse500:
		http.Error(w, "internal error", http.StatusInternalServerError)
	case Refuse503:
		http.Error(w, "unavailable", http.StatusServiceUnavailable)
	case HangUp:
		panic(http.ErrAbortHandler)
	case LoseAnswer:
		p.next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case CutAnswer:
		p.cut(w, r)
	case Stall:
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(time.Second):
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case Empty200:
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

func (p *Proxy) cut(w http.ResponseWriter, r *http.Request) {
	rec := httptest.NewRecorder()
	p.next.ServeHTTP(rec, r)
	body := rec.Body.Bytes()
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body[:len(body)/2])
	panic(http.ErrAbortHandler)
}
