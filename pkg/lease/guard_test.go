package lease

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func guard(t *testing.T, ttl time.Duration, urls ...string) *Guard {
	t.Helper()
	return NewGuard(client(t, urls...), Request{Key: "k/ey", TTL: ttl, Owner: t.Name()}, quiet)
}

// acquire is to succeed, on a busy machine after some tries.
func acquire(t *testing.T, g *Guard) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := g.Acquire(ctx, func(s string) { t.Log(s) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Release)
}

func TestAGuardKeepsItsLockAndHandsItOver(t *testing.T) {
	s := startServer(t)
	leakless(t)
	const ttl = 2 * time.Second
	a, b := guard(t, ttl, s.URL), guard(t, ttl, s.URL)
	acquire(t, a)
	first := a.Token()
	if st := a.Stats(); first <= 0 || !st.Held || st.Acquired != 1 || st.Since.IsZero() {
		t.Errorf("%+v", st)
	}
	var said atomic.Pointer[string]
	got := make(chan error, 1)
	go func() { got <- b.Acquire(t.Context(), func(s string) { said.Store(&s) }) }()
	ctx, cancel := context.WithTimeout(t.Context(), ttl+ttl/4)
	defer cancel()
	if err := a.Hold(ctx); err != nil {
		t.Fatalf("lost while all is well: %v", err)
	}
	select {
	case err := <-got:
		t.Fatalf("two hold it: %v", err)
	default:
	}
	began := time.Now()
	a.Release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > ttl*3/4 {
		t.Errorf("the next one had it after %v", took)
	}
	if b.Token() <= first || a.Token() != 0 || a.Stats().Held {
		t.Errorf("token %d after %d, the first says %+v", b.Token(), first, a.Stats())
	}
	if err := b.Hold(canceled()); err != nil {
		t.Error(err)
	}
	b.Release()
	if err := b.Hold(t.Context()); err == nil {
		t.Error("what is released is held")
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// A holder must have been told before the server may give the lock away, which is a TTL after it
// received the last request that it granted.
func TestALockIsLostInTimeUnderEveryFault(t *testing.T) {
	faults := map[string]func(*server){
		"frozen":                func(s *server) { s.fails(frozen) },
		"always 500":            func(s *server) { s.fails(internalError) },
		"hangs up":              func(s *server) { s.fails(hangUp) },
		"answers get lost":      func(s *server) { s.fails(lost) },
		"answers come too late": func(s *server) { s.fails(slow(time.Second)) },
		"refused":               func(s *server) { s.Listener.Close(); s.CloseClientConnections() },
	}
	for name, fault := range faults {
		for _, ttl := range []time.Duration{200 * time.Millisecond, 600 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s at %v", name, ttl), func(t *testing.T) {
				t.Parallel()
				onTime(t, func() error {
					s := startServer(t)
					g := guard(t, ttl, s.URL)
					acquire(t, g)
					var last atomic.Int64
					g.Follow(func(until time.Duration) { last.Store(int64(until)) })
					_ = sleep(t.Context(), ttl/2) // somewhere between renewals
					fault(s)
					err := g.Hold(t.Context())
					at := Boottime()
					end := min(time.Duration(last.Load())+g.req.margin(), s.lastGood()+ttl) // of what was acknowledged, and of what was granted
					switch {
					case !errors.Is(err, ErrLate) || g.Stats().Late != 1:
						return fmt.Errorf("%w, %+v", err, g.Stats())
					case at >= end:
						return fmt.Errorf("told %v after the end", at-end)
					case s.lastGood()+ttl-at > ttl/2+50*time.Millisecond && !strings.HasPrefix(name, "answers"):
						return fmt.Errorf("told %v before the end: it gave up too early", s.lastGood()+ttl-at)
					}
					return nil
				})
			})
		}
	}
}

func TestAShortFaultIsSurvived(t *testing.T) {
	s := startServer(t)
	leakless(t)
	g := guard(t, 2*time.Second, s.URL)
	acquire(t, g)
	for _, f := range []fault{internalError, hangUp, lost, slow(100 * time.Millisecond)} {
		s.fails(f)
		_ = sleep(t.Context(), 500*time.Millisecond)
		s.works()
		_ = sleep(t.Context(), 500*time.Millisecond)
	}
	if err := g.Hold(canceled()); err != nil {
		t.Error(err)
	}
}

func TestAnotherReplicaRenews(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { frozen(w, r, nil) }))
	defer broken.Close()
	defer broken.CloseClientConnections()
	other := front(t, s.URL)
	g := guard(t, 5*time.Second, other.URL, broken.URL, s.URL)
	acquire(t, g)
	other.fails(frozen)
	ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
	defer cancel()
	if err := g.Hold(ctx); err != nil {
		t.Error(err)
	}
}

func TestALockThatIsFreedByForceIsLostWithinASecond(t *testing.T) {
	for _, ttl := range []time.Duration{2 * time.Second, time.Minute} {
		t.Run(ttl.String(), func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			g := guard(t, ttl, s.URL)
			acquire(t, g)
			for ttl > quickTTL && s.listen.Load() == 0 {
				_ = sleep(t.Context(), time.Millisecond)
			}
			began := time.Now()
			operator := client(t, s.URL)
			if _, err := operator.do(t.Context(), http.MethodDelete, path("k/ey")+"?force", nil, nil); err != nil {
				t.Fatal(err)
			}
			err := g.Hold(t.Context())
			if took := time.Since(began); !errors.Is(err, ErrGone) || took > 10*time.Second || g.Stats().Gone != 1 {
				t.Errorf("%v after %v, %+v", err, took, g.Stats())
			}
			g.Release()
			acquire(t, g)
		})
	}
}

func TestAnAnswerThatWasLostCostsNoLock(t *testing.T) {
	s := startServer(t)
	g := guard(t, time.Minute, s.URL)
	var n atomic.Int64
	s.fails(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if n.Add(1) == 1 {
			lost(w, r, pass)
		}
		pass.ServeHTTP(w, r)
	})
	acquire(t, g) // its session holds it, until the server undoes that
	_ = sleep(t.Context(), 300*time.Millisecond)
	if err := g.hold.lock.Renew(t.Context()); err != nil {
		t.Errorf("the lock went away with the request that was lost: %v", err)
	}
}

func TestAReleaseThatDidNotGetThroughIsMadeUpFor(t *testing.T) {
	s := startServer(t)
	g := guard(t, time.Minute, s.URL)
	acquire(t, g)
	first := g.Token()
	s.fails(hangUp)
	g.Release()
	s.works()
	acquire(t, g)
	if g.Token() <= first {
		t.Errorf("token %d after %d", g.Token(), first)
	}
}

func TestProcessesOfOnePodExcludeEachOther(t *testing.T) {
	s := startServer(t)
	c := client(t, s.URL)
	a, b := NewGuard(c, Request{Key: "k", TTL: time.Second}, quiet), NewGuard(c, Request{Key: "k", TTL: time.Second}, quiet)
	acquire(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := b.Acquire(ctx, nil); err == nil {
		t.Fatal("two hold it")
	}
	a.Release()
	acquire(t, b)
}

// oldServer speaks the old protocol and knows nothing else.
type oldServer struct {
	t     *testing.T
	held  atomic.Int64
	last  atomic.Int64
	kept  atomic.Int64
	ttl   atomic.Pointer[string]
	added atomic.Bool // DELETE /lease
}

func (o *oldServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := make([]byte, 1000)
	n, _ := r.Body.Read(body)
	text := string(body[:n])
	switch r.Method + " " + r.URL.Path {
	case "POST /lease":
		ttl := r.Header.Get("x-lease-ttl")
		o.ttl.Store(&ttl)
		if !strings.Contains(text, `"key":"k/ey"`) {
			o.t.Errorf("asked for %s", text)
		}
		if !o.held.CompareAndSwap(0, o.last.Add(1)) {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, o.held.Load())
	case "POST /keepalive":
		if text != fmt.Sprint(o.held.Load()) {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		o.kept.Add(1)
	case "DELETE /lease":
		if !o.added.Load() {
			http.NotFound(w, r)
			return
		}
		o.held.Store(0)
	default:
		http.NotFound(w, r)
	}
}

func TestTheOldProtocol(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	o := &oldServer{t: t}
	web := httptest.NewServer(o)
	t.Cleanup(web.Close)
	g := guard(t, 1500*time.Millisecond, web.URL)
	acquire(t, g)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := g.Hold(ctx); err != nil {
		t.Fatal(err)
	}
	if o.kept.Load() < 2 || *o.ttl.Load() != "2s" {
		t.Errorf("renewed %d times in two seconds, asked for %s", o.kept.Load(), *o.ttl.Load())
	}
	g.Release() // which it cannot
	began := time.Now()
	acquire(t, g)
	if took := time.Since(began); took > 5*time.Second || o.last.Load() != 1 {
		t.Errorf("acquired again after %v, as lease %d", took, o.last.Load())
	}
	o.added.Store(true)
	g.Release()
	acquire(t, g)
	if o.last.Load() < 2 {
		t.Error("the lease was not released")
	}
	o.held.Store(0)
	if err := g.Hold(t.Context()); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
}

func TestAWaitingGuardLeavesWhenItIsTold(t *testing.T) {
	s := startServer(t)
	leakless(t)
	a, b := guard(t, time.Second, s.URL), guard(t, time.Second, s.URL)
	acquire(t, a)
	cause := errors.New("the pod ends")
	ctx, cancel := context.WithCancelCause(t.Context())
	got := make(chan error, 1)
	go func() { got <- b.Acquire(ctx, nil) }()
	_ = sleep(t.Context(), 100*time.Millisecond)
	cancel(cause)
	select {
	case err := <-got:
		if !errors.Is(err, cause) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it waits on")
	}
}

func TestAGuardSaysWhatItWaitsFor(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	s := startServer(t)
	a := guard(t, time.Second, s.URL)
	acquire(t, a)
	failing := front(t, s.URL)
	failing.fails(internalError)
	for want, url := range map[string]string{
		"no shared-lock server answers at http://" + closed.Addr().String() + ": connection refused": "http://" + closed.Addr().String(),
		"it always fails":                       failing.URL,
		`held by "TestAGuardSaysWhatItWaitsFor`: s.URL,
	} {
		g := guard(t, 300*time.Millisecond, url)
		ctx, cancel := context.WithCancel(t.Context())
		said := ""
		ctx2, cancel2 := context.WithTimeout(ctx, 12*time.Second)
		_ = g.Acquire(ctx2, func(s string) { said = s; cancel() })
		cancel()
		cancel2()
		if !strings.Contains(said, want) {
			t.Errorf("it says %q, want %q", said, want)
		}
	}
}

func TestAURLOfAServer(t *testing.T) {
	for _, bad := range []string{"", "localhost:8191", "ftp://x", "http://", "http://x?y=1", "http://me:secret@ x"} {
		_, err := New(Config{URLs: []string{bad}})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("no URL is none")
	}
}
