package lease

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// guards are some of one client, which all hold their locks.
func guards(t *testing.T, n int, ttl time.Duration, url string) []*Guard {
	t.Helper()
	c := client(t, url)
	var all []*Guard
	for i := range n {
		g := NewGuard(c, Request{Key: fmt.Sprintf("along/%d", i), TTL: ttl, Owner: t.Name()}, quiet)
		acquire(t, g)
		all = append(all, g)
	}
	return all
}

func TestLocksOfOneClientAreRenewedTogether(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n, ttl, rounds = 10, 5 * time.Second, 4 // of a third of the TTL each
	all := guards(t, n, ttl, s.URL)
	before := s.renew.Load()
	_ = sleep(t.Context(), rounds*ttl/3)
	if renewals := s.renew.Load() - before; renewals > n*rounds*3/4 { // some more than one a round, where an answer takes long
		t.Errorf("%d requests to renew %d locks in the time of %d renewals", renewals, n, rounds)
	}
	for _, g := range all {
		if err := g.Hold(canceled()); err != nil { // so they were renewed
			t.Error(err)
		}
	}
}

func TestALockThatIsGoneTakesNoOtherAlong(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	all := guards(t, 5, 3*time.Second, s.URL)
	_ = sleep(t.Context(), 500*time.Millisecond)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.URL+path(all[2].req.Key)+"?force", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := all[2].Hold(ctx); !errors.Is(err, ErrGone) {
		t.Errorf("the lock that was freed: %v", err)
	}
	_ = sleep(t.Context(), 3500*time.Millisecond)
	for i, g := range all {
		if err := g.Hold(canceled()); i != 2 && err != nil {
			t.Errorf("lock %d: %v", i, err)
		}
	}
}

// many answers requests for many locks itself, and has the others passed on.
func many(answer func(w http.ResponseWriter)) fault {
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.URL.Path == "/v1/renew" {
			answer(w)
			return
		}
		pass.ServeHTTP(w, r)
	}
}

func TestWhereManyAreRefusedEachIsRenewed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{403, 404} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			all := guards(t, 3, 3*time.Second, s.URL)
			s.fails(many(func(w http.ResponseWriter) { http.Error(w, "not that", status) }))
			_ = sleep(t.Context(), 3500*time.Millisecond)
			for _, g := range all {
				if err := g.Hold(canceled()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestAnOddAnswerForManyRenewsNothing(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no locks":       `{"locks":[]}`,
		"others":         `{"locks":[` + strings.Repeat(`{"token":1,"status":"ok"},`, 2) + `{"token":1,"status":"ok"}]}`,
		"no JSON":        `ok`,
		"nothing at all": ``,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onTime(t, func() error {
				s := startServer(t)
				const ttl = 600 * time.Millisecond
				all := guards(t, 3, ttl, s.URL)
				s.fails(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
					if r.Method == http.MethodPut {
						_, _ = w.Write([]byte(text))
						return
					}
					pass.ServeHTTP(w, r)
				})
				var told []error
				for _, g := range all {
					told = append(told, g.Hold(t.Context()))
				}
				left := s.lastGood() + ttl - Boottime()
				for i, err := range told {
					if !errors.Is(err, ErrLate) {
						return fmt.Errorf("lock %d: %w", i, err)
					}
				}
				if left <= 0 {
					return fmt.Errorf("told %v after the end", -left)
				}
				return nil
			})
		})
	}
}

func TestWhatIsReleasedIsToldNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	all := guards(t, 2, 3*time.Second, s.URL)
	var over atomic.Bool
	all[1].Follow(func(time.Duration) {
		if over.Load() {
			t.Error("told after the release")
		}
	})
	sent, answer := make(chan struct{}, 10), make(chan struct{})
	s.fails(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		rec := httptest.NewRecorder()
		pass.ServeHTTP(rec, r)
		if r.URL.Path == "/v1/renew" {
			sent <- struct{}{}
			<-answer
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
	<-sent // a renewal of both is under way
	all[1].Release()
	over.Store(true)
	close(answer)
	_ = sleep(t.Context(), 300*time.Millisecond)
}

func TestWhoGoesAlong(t *testing.T) {
	t.Parallel()
	var s holds
	held := func(key string, ttl, asked time.Duration) *hold {
		h := &hold{lock: &Lock{req: Request{Key: key, TTL: ttl}}, asked: asked}
		s.join(h)
		return h
	}
	const now = time.Hour
	due := held("due", time.Minute, now-20*time.Second)
	half, young := held("half", time.Minute, now-10*time.Second), held("young", time.Minute, now-9*time.Second)
	short := held("short", time.Second, now-200*time.Millisecond)
	left := held("left", time.Minute, 0)
	s.leave(left)
	got := map[*hold]bool{}
	all := s.along(due, now)
	for _, h := range all {
		got[h] = true
	}
	if all[0] != due || len(all) != 3 || !got[half] || !got[short] || got[young] {
		t.Errorf("%d: due %v, half %v, young %v, short %v", len(all), all[0] == due, got[half], got[young], got[short])
	}
	if again := s.along(due, now+time.Millisecond); len(again) != 1 {
		t.Errorf("%d are asked for twice at once", len(again)-1)
	}
	for i := range 200 {
		held(fmt.Sprint(i), time.Minute, 0)
	}
	if n := len(s.along(due, now)); n != maxAlong {
		t.Errorf("%d in one request", n)
	}
	for i := range 50 {
		held(strings.Repeat("k", 512)+fmt.Sprint(i), time.Minute, 0)
	}
	size := 0
	for _, h := range s.along(due, now+time.Minute) {
		size += len(h.lock.req.Key)
	}
	if size > maxAlongKeys {
		t.Errorf("keys of %d bytes", size)
	}
}
