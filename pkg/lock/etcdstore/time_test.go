package etcdstore

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// freed is when a key became free, as who tries all the time knows it.
type freed struct {
	held, free time.Time     // when it was asked for in vain for the last time, and when it was had
	slowest    time.Duration // answer to those who asked in vain
}

// freeAt waits until another gets the key.
func freeAt(t *testing.T, r *replica, key string) (f freed) {
	t.Helper()
	eventually(t, 30*time.Second, key+" becomes free", func() error {
		asked := time.Now()
		if _, status, text := r.acquire(t, key, `{"owner":"next"}`); status != http.StatusCreated {
			f.held, f.slowest = asked, max(f.slowest, time.Since(asked))
			return fmt.Errorf("%d %s", status, text)
		}
		f.free = time.Now()
		return nil
	})
	return f
}

// late is ten times what the benchmark's bar allows.
const late = 500 * time.Millisecond

// span is when the last request was sent and answered.
type span struct{ sent, answered time.Time }

func (s span) check(t *testing.T, what string, f freed, ttl time.Duration) {
	t.Helper()
	if got := f.free.Sub(s.sent); got < ttl {
		t.Errorf("%s: the key became free %s after the request, want %s at least", what, got, ttl)
	}
	// Where an answer takes long, as the machine is busy, so does the end of a lock.
	if got, most := f.held.Sub(s.answered), ttl+late+10*f.slowest; got > most {
		t.Errorf("%s: the key was held %s after the answer, want %s at most", what, got, most)
	}
}

func TestAKeyIsFreeAfterItsTTLAndNotBefore(t *testing.T) {
	a, b := startReplica(t), startReplica(t)
	for _, test := range []struct {
		name, body string
		ttl        time.Duration
		run        func(t *testing.T, key string, got acquired, begin time.Time) span // returns that of the last renewal
	}{
		{"never renewed", `{"ttl":"300ms"}`, 300 * time.Millisecond, nil},
		{"of 1.9 s", `{"ttl":"1900ms"}`, 1900 * time.Millisecond, nil},
		{"on a session", `{"ttl":"400ms","session":"0123456789abcdef"}`, 400 * time.Millisecond, nil},
		{"with a delay after it", `{"ttl":"300ms","lockDelay":"500ms"}`, 800 * time.Millisecond, nil},
		{"renewed at its replica", `{"ttl":"400ms"}`, 400 * time.Millisecond, renewals(5, a)},
		{"renewed at another", `{"ttl":"400ms"}`, 400 * time.Millisecond, renewals(5, b)},
		{"renewed at both in turns", `{"ttl":"400ms"}`, 400 * time.Millisecond, renewals(6, b, a)},
		{"of the old protocol's length", `{"ttl":"1s"}`, time.Second, renewals(2, b)},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := test.name[:4] + "%2F" + fmt.Sprint(len(test.name))
			begin := time.Now()
			got := a.must(t, key, test.body)
			last := span{begin, time.Now()}
			if test.run != nil {
				last = test.run(t, key, got, begin)
			}
			last.check(t, test.name, freeAt(t, a, key), test.ttl)
		})
	}
}

// renewals renews n times, every 150 ms, at the replicas in turns.
func renewals(n int, at ...*replica) func(*testing.T, string, acquired, time.Time) span {
	return func(t *testing.T, key string, got acquired, begin time.Time) (last span) {
		ttl := time.Duration(got.TTL) * time.Millisecond
		for i := range n {
			<-time.After(150 * time.Millisecond)
			sent := time.Now()
			switch status := at[i%len(at)].renew(t, key, got.Token); {
			case status == 410 && time.Since(begin) > ttl:
				t.Skip("this machine is too slow for the TTL")
			case status != 200:
				t.Fatalf("renewal %d: %d", i, status)
			}
			begin, last = sent, span{sent, time.Now()}
		}
		return last
	}
}

func TestALockThatIsRenewedIsKept(t *testing.T) {
	t.Parallel()
	a, b := startReplica(t), startReplica(t)
	got := a.must(t, "k", `{"ttl":"1s"}`)
	end := time.Now().Add(5 * time.Second) // longer than any lease of etcd for it
	for i := 0; time.Now().Before(end); i++ {
		r := []*replica{a, a, b}[i%3]
		if status := r.renew(t, "k", got.Token); status != 200 {
			t.Fatalf("renewal %d: %d", i, status)
		}
		if _, status, _ := b.acquire(t, "k", "{}"); status != 409 {
			t.Fatalf("another got it: %d", status)
		}
		<-time.After(200 * time.Millisecond)
	}
}

func TestWaitersGetTheLockInTheirOrder(t *testing.T) {
	r := startReplica(t)
	first := r.must(t, "k", `{"owner":"first"}`)
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			got, status, text := r.acquire(t, "k", `{"wait":"20s"}`)
			if status != 201 {
				t.Errorf("waiter %d: %d %s", i, status, text)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			if status := r.release(t, "k", got.Token); status != 204 {
				t.Errorf("release by %d: %d", i, status)
			}
		})
		eventually(t, 30*time.Second, "it waits", func() error {
			if _, text, _ := r.do(t, "GET", "/v1/locks/k", ""); !contains(text, fmt.Sprintf(`"waiters":%d`, i+1)) {
				return fmt.Errorf("%s", text)
			}
			return nil
		})
	}
	r.release(t, "k", first.Token)
	wg.Wait()
	for i, who := range order {
		if who != i {
			t.Fatalf("order %v", order)
		}
	}
	if len(order) != 10 {
		t.Errorf("%d got it", len(order))
	}
}

func TestWaitersOfAnotherReplicaAreWoken(t *testing.T) {
	a, b := startReplica(t), startReplica(t)
	got := a.must(t, "k", `{}`)
	begin := make(chan time.Time, 1)
	go func() {
		<-time.After(300 * time.Millisecond)
		begin <- time.Now()
		a.release(t, "k", got.Token)
	}()
	if _, status, text := b.acquire(t, "k", `{"wait":"10s"}`); status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	if took := time.Since(<-begin); took > late {
		t.Errorf("hand-over took %s", took)
	}
}

func TestWaitingEndsInTime(t *testing.T) {
	r := startReplica(t)
	r.must(t, "k", `{"owner":"first"}`)
	begin := time.Now()
	if _, status, text := r.acquire(t, "k", `{"wait":"300ms"}`); status != 409 || !contains(text, `"owner":"first"`) {
		t.Errorf("%d %s", status, text)
	}
	if took := time.Since(begin); took < 300*time.Millisecond || took > 10*time.Second {
		t.Errorf("waited %s", took)
	}
}

func TestSemaphore(t *testing.T) {
	a, b := startReplica(t), startReplica(t)
	tokens := map[int64]bool{}
	slots := map[int]bool{}
	var last acquired
	for i := range 3 {
		last = []*replica{a, b}[i%2].must(t, "s", `{"slots":3}`)
		tokens[last.Token], slots[last.Slot] = true, true
	}
	if len(tokens) != 3 || len(slots) != 3 {
		t.Errorf("tokens %v slots %v", tokens, slots)
	}
	if _, status, _ := a.acquire(t, "s", `{"slots":3}`); status != 409 {
		t.Errorf("the fourth got %d", status)
	}
	if _, status, text := a.acquire(t, "s", `{"slots":4}`); status != 409 || !contains(text, "slots_mismatch") {
		t.Errorf("another number of slots: %d %s", status, text)
	}
	for _, r := range []*replica{a, b} {
		if status := r.renew(t, "s", last.Token); status != 200 {
			t.Errorf("renew: %d", status)
		}
	}
	done := make(chan int, 1)
	go func() {
		_, status, _ := b.acquire(t, "s", `{"slots":3,"wait":"10s"}`)
		done <- status
	}()
	<-time.After(100 * time.Millisecond)
	if status := b.release(t, "s", last.Token); status != 204 {
		t.Errorf("release: %d", status)
	}
	if status := <-done; status != 201 {
		t.Errorf("waiter for a slot: %d", status)
	}
	if _, text, _ := a.do(t, "GET", "/v1/locks?prefix=s", ""); !contains(text, `"slot":2`) {
		t.Errorf("list: %s", text)
	}
	if status, text, _ := a.do(t, "DELETE", "/v1/locks/s?force", ""); status != 200 || !contains(text, `"released":3`) {
		t.Errorf("force: %d %s", status, text)
	}
}

func TestReentrance(t *testing.T) {
	a, b := startReplica(t), startReplica(t)
	for _, slots := range []string{"", `,"slots":2`} {
		body := `{"ttl":"2s","session":"0123456789abcdef","reentrant":true` + slots + `}`
		first := a.must(t, "r"+slots[:min(len(slots), 0)], body)
		again, status, text := b.acquire(t, "r", body)
		if status != 200 || again.Token != first.Token {
			t.Errorf("%q: again %d %s, first token %d", slots, status, text, first.Token)
		}
		if _, status, _ := b.acquire(t, "r", `{"session":"another-session-","reentrant":true}`); slots == "" && status != 409 {
			t.Errorf("another session: %d", status)
		}
		if status := b.release(t, "r", first.Token); status != 204 {
			t.Errorf("release: %d", status)
		}
	}
}
