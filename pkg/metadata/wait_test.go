package metadata

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A waiter is a request that runs.
type waiter struct {
	w     *httptest.ResponseRecorder
	start time.Time
	took  time.Duration
	leave context.CancelFunc
	cut   bool
	done  chan struct{}
}

// hang sends a request in the background. It is for bubbles of synctest.
func hang(s http.Handler, target string) *waiter {
	ctx, leave := context.WithCancel(context.Background())
	h := &waiter{w: httptest.NewRecorder(), start: time.Now(), leave: leave, done: make(chan struct{})}
	r := httptest.NewRequestWithContext(ctx, "GET", target, nil)
	r.Header.Set("Metadata-Flavor", "Google")
	go func() {
		defer close(h.done)
		defer func() {
			h.cut = recover() != nil
			h.took = time.Since(h.start)
		}()
		s.ServeHTTP(h.w, r)
	}()
	return h
}

// state says how it is going.
func (h *waiter) state() string {
	synctest.Wait()
	select {
	case <-h.done:
	default:
		return "waiting"
	}
	if h.cut {
		return "cut"
	}
	return http.StatusText(h.w.Code) + " " + h.w.Body.String()
}

func TestLongPoll(t *testing.T) {
	const key = base + "instance/preempted?wait_for_change=true"
	etagFALSE := tag([]byte("FALSE"))
	preempt := func(s *Server) error { s.Preempt(); return nil }
	nothing := func(*Server) error { return nil }
	to := func(path, value string) func(*Server) error {
		return func(s *Server) error { return s.Set(path, value) }
	}
	for _, test := range []struct {
		name   string
		target string
		change func(*Server) error // after 10 s
		before string              // at 5 s
		after  string              // at 15 s
		late   string              // at 100 s
	}{
		{"without last_etag the next change is awaited", key, preempt, "waiting", "OK TRUE", "OK TRUE"},
		{"without timeout_sec it waits on", key, nothing, "waiting", "waiting", "waiting"},
		{"a last_etag that is another is answered at once", key + "&last_etag=NONE", preempt, "OK FALSE", "OK FALSE", "OK FALSE"},
		{"so is 0", key + "&last_etag=0", preempt, "OK FALSE", "OK FALSE", "OK FALSE"},
		{"so is an empty one", key + "&last_etag=", preempt, "OK FALSE", "OK FALSE", "OK FALSE"},
		{"the last_etag that is current waits", key + "&last_etag=" + etagFALSE, preempt, "waiting", "OK TRUE", "OK TRUE"},
		{"at timeout_sec the unchanged value comes with 200", key + "&timeout_sec=60", nothing, "waiting", "waiting", "OK FALSE"},
		{"also with last_etag", key + "&timeout_sec=60&last_etag=" + etagFALSE, nothing, "waiting", "waiting", "OK FALSE"},
		{"a timeout of 0 is over at once", key + "&timeout_sec=0", nothing, "OK FALSE", "OK FALSE", "OK FALSE"},
		{"timeout_sec without wait does nothing", base + "instance/preempted?timeout_sec=60", nothing, "OK FALSE", "OK FALSE", "OK FALSE"},
		{"a change of another key does not wake", key, to("instance/attributes/a", "b"), "waiting", "waiting", "waiting"},
		{"the same value again is no change", key, to(pathPreempted, "FALSE"), "waiting", "waiting", "waiting"},
		{"a deletion is 404", key, func(s *Server) error { return s.Delete(pathPreempted) }, "waiting", "Not Found ", "Not Found "},
		{"deleting the directory is 404 too", base + "instance/scheduling/preemptible?wait_for_change=true",
			func(s *Server) error { return s.Delete("instance/scheduling") }, "waiting", "Not Found ", "Not Found "},
		{"an unknown key does not wait", base + "instance/nope?wait_for_change=true", nothing, "Not Found ", "Not Found ", "Not Found "},
		{"a change below wakes the directory", base + "instance/scheduling/?wait_for_change=true&recursive=true", to("instance/scheduling/preemptible", "FALSE"), "waiting",
			`OK {"automaticRestart":"FALSE","onHostMaintenance":"TERMINATE","preemptible":"FALSE"}`, `OK {"automaticRestart":"FALSE","onHostMaintenance":"TERMINATE","preemptible":"FALSE"}`},
		{"a change deep below wakes the top, as text", base + "universe/?wait_for_change=true&recursive=true&alt=text", to("universe/a/b/c", "new"), "waiting",
			"OK a/b/c new\nuniverse-domain googleapis.com\n", "OK a/b/c new\nuniverse-domain googleapis.com\n"},
		{"maintenance", base + "instance/maintenance-event?wait_for_change=true",
			func(s *Server) error { return s.Maintenance("MIGRATE_ON_HOST_MAINTENANCE") }, "waiting", "OK MIGRATE_ON_HOST_MAINTENANCE", "OK MIGRATE_ON_HOST_MAINTENANCE"},
		{"a reset wakes", key, func(s *Server) error { s.Reset(); return nil }, "waiting", "OK FALSE", "OK FALSE"},
		{"closing cuts", key, func(s *Server) error { s.Close(); return nil }, "waiting", "cut", "cut"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Config{})
				h := hang(s, test.target)
				check := func(want string) {
					t.Helper()
					got := h.state()
					if want == "Not Found " && h.w.Code == http.StatusNotFound {
						return
					}
					if got != want {
						t.Errorf("after %v: got %q, want %q", time.Since(h.start), got, want)
					}
				}
				time.Sleep(5 * time.Second)
				check(test.before)
				time.Sleep(5 * time.Second)
				if err := test.change(s); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				check(test.after)
				time.Sleep(85 * time.Second)
				check(test.late)
				h.leave()
				<-h.done
			})
		})
	}
}

func TestLongPollEndsInTime(t *testing.T) {
	for _, test := range []struct {
		name string
		then func(*Server)
		want time.Duration
	}{
		{"at the change, not at the next look", func(s *Server) { time.Sleep(1234 * time.Millisecond); s.Preempt() }, 1234 * time.Millisecond},
		{"at the timeout", func(*Server) {}, 60 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Config{})
				before := ask(s, "GET", base+pathPreempted).Header().Get("Etag")
				h := hang(s, base+"instance/preempted?wait_for_change=true&timeout_sec=60&last_etag="+before)
				test.then(s)
				<-h.done
				if h.took != test.want {
					t.Errorf("took %v, want %v", h.took, test.want)
				}
				if same := h.w.Header().Get("Etag") == before; same != (test.want == time.Minute) {
					t.Errorf("ETag is the same: %t", same)
				}
			})
		})
	}
}

func TestOneChangeWakesAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{MaxWaiters: 3000})
		var all []*waiter
		for range 3000 {
			all = append(all, hang(s, base+"instance/preempted?wait_for_change=true"))
		}
		synctest.Wait()
		if got := s.State().Waiting; got != 3000 {
			t.Errorf("%d wait, want 3000", got)
		}
		s.Preempt()
		for _, h := range all {
			if got := h.state(); got != "OK TRUE" {
				t.Fatalf("got %q", got)
			}
		}
		if got := s.State().Waiting; got != 0 {
			t.Errorf("%d wait still", got)
		}
	})
}

func TestOnlySoManyMayWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{})
		const key = base + "instance/preempted?wait_for_change=true"
		var all []*waiter
		for range defaultWaiters {
			all = append(all, hang(s, key))
		}
		synctest.Wait()
		if w := ask(s, "GET", key); w.Code != http.StatusServiceUnavailable {
			t.Errorf("one more: got %d, want 503", w.Code)
		}
		if w := ask(s, "GET", base+pathPreempted); w.Code != http.StatusOK {
			t.Errorf("without waiting: got %d, want 200", w.Code)
		}
		all[0].leave()
		if got := all[0].state(); got != "cut" {
			t.Errorf("who left: %q", got)
		}
		again := hang(s, key)
		if got := again.state(); got != "waiting" {
			t.Errorf("after one left: %q, want it to wait", got)
		}
		s.Close()
		for _, h := range append(all, again) {
			<-h.done
		}
	})
}

func TestChangesAndWaitersTogether(t *testing.T) {
	s := newServer(t, Config{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				ask(s, "GET", base+"instance/?recursive=true&wait_for_change=true&last_etag=0&timeout_sec=1")
				_ = s.Set("instance/attributes/a", "x")
				_ = s.Set("instance/attributes/a", "y")
				_ = s.Delete("instance/attributes/a")
				s.State()
			}
		})
	}
	wg.Wait()
}
