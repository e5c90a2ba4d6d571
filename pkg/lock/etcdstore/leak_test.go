package etcdstore

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

// noLeaks waits until etcd has no more leases than the test's locks, pools and replicas need.
func noLeaks(t *testing.T, before, held int, all ...*replica) {
	t.Helper()
	c := etcdClient(t)
	defer c.Close()
	begin := time.Now()
	eventually(t, 30*time.Second, "surplus leases end", func() error {
		want := before + held + len(all)
		for _, r := range all {
			want += r.store.pool.size()
		}
		if got := leaseCount(t, c); got > want {
			return fmt.Errorf("%d leases, want at most %d", got, want)
		}
		return nil
	})
	t.Logf("only leases of locks and pools were left %s after the last answer", time.Since(begin).Round(time.Millisecond))
}

func TestACrowdOnOneKeyLeavesOneHolderAndNoLeases(t *testing.T) {
	c := etcdClient(t)
	before := leaseCount(t, c)
	_ = c.Close()
	a, b := startReplica(t), startReplica(t)
	crowd := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}
	defer crowd.CloseIdleConnections()
	few := make(chan struct{}, 20) // who tries again, at a time
	rounds := 2
	if os.Getenv("FAULT") != "" {
		rounds = 10
	}
	for round := range rounds {
		key := fmt.Sprintf("race%d", round)
		var won atomic.Int64
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				ask := func() int {
					resp, err := crowd.Post([]*replica{a, b}[i%2].URL+"/v1/locks/"+key+"/acquire", "", stringReader("{}"))
					if err != nil {
						t.Error(err)
						return 0
					}
					defer resp.Body.Close()
					_, _ = io.Copy(io.Discard, resp.Body)
					return resp.StatusCode
				}
				status := ask()
				for try := 0; status == 503 && try < 5; try++ { // as the answer says, where the machine is slow
					few <- struct{}{}
					status = ask()
					<-few
				}
				if status == 201 {
					won.Add(1)
				} else if status != 409 {
					t.Errorf("%d", status)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("round %d: %d holders", round, won.Load())
		}
	}
	noLeaks(t, before, rounds, a, b)
}

func TestAbortedAcquiresLeaveNothing(t *testing.T) {
	c := etcdClient(t)
	before := leaseCount(t, c)
	_ = c.Close()
	r := startReplica(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%20)*500*time.Microsecond)
			defer cancel()
			body := `{"ttl":"1h"}`
			if i%2 == 0 {
				body = fmt.Sprintf(`{"ttl":"1h","session":"session-number-%03d"}`, i)
			}
			req, err := http.NewRequestWithContext(ctx, "POST", fmt.Sprintf("%s/v1/locks/abort%d/acquire", r.URL, i), stringReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := r.Client().Do(req)
			if err != nil {
				return
			}
			defer resp.Body.Close()
			if resp.StatusCode == 201 { // it came in time
				r.do(t, "DELETE", fmt.Sprintf("/v1/locks/abort%d?force", i), "")
			}
			if i%2 == 0 {
				r.do(t, "DELETE", fmt.Sprintf("/v1/sessions/session-number-%03d", i), "")
			}
		})
	}
	wg.Wait()
	eventually(t, 30*time.Second, "orphans end", func() error {
		if _, text, _ := r.do(t, "GET", "/v1/locks?prefix=abort", ""); text != `{"locks":[]}`+"\n" {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	for i := range 100 { // those who are gone cannot end their session themselves
		r.do(t, "DELETE", fmt.Sprintf("/v1/sessions/session-number-%03d", 2*i), "")
	}
	noLeaks(t, before, 0, r)
}

func TestOldLeasesAreRevokedAtTheEnd(t *testing.T) {
	c := etcdClient(t)
	before := leaseCount(t, c)
	_ = c.Close()
	a, b := startReplica(t), startReplica(t)
	for i := range 5 {
		status, id, _ := a.do(t, "POST", "/lease", fmt.Sprintf(`{"key":"old%d"}`, i), "x-lease-ttl", "300ms")
		if status != 201 {
			t.Fatalf("%d %s", status, id)
		}
		if status, _, _ := b.do(t, "POST", "/keepalive", id); status != 200 {
			t.Errorf("keepalive at the other replica: %d", status)
		}
		if i == 0 {
			if status, _, _ := a.do(t, "DELETE", "/lease", id); status != 200 {
				t.Errorf("release: %d", status)
			}
			if status, _, _ := a.do(t, "POST", "/keepalive", id); status != 204 {
				t.Errorf("keepalive after the release: %d", status)
			}
		}
	}
	noLeaks(t, before, 0, a, b)
}

func TestALeaseIsNoKeyToLocksOfV1(t *testing.T) {
	r := startReplica(t)
	r.must(t, "k", `{}`)
	resp, err := r.store.client().Get(t.Context(), prefix(t)+"k")
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("%v %v", resp, err)
	}
	if status, _, _ := r.do(t, "POST", "/keepalive", fmt.Sprint(resp.Kvs[0].Lease)); status != 204 {
		t.Errorf("keepalive with the lease of a lock of /v1: %d, want 204", status)
	}
}

func TestEndOfASession(t *testing.T) {
	// A session of its own: the lease of one does not depend on the prefix, and that of another test may be ending.
	a, b := startReplica(t), startReplica(t)
	for i := range 3 {
		a.must(t, fmt.Sprintf("k%d", i), `{"session":"session-that-ends"}`)
	}
	eventually(t, 30*time.Second, "the other replica frees all", func() error {
		if status, text, _ := b.do(t, "DELETE", "/v1/sessions/session-that-ends", ""); status != 204 {
			return fmt.Errorf("%d %s", status, text)
		}
		if _, text, _ := a.do(t, "GET", "/v1/locks", ""); text != `{"locks":[]}`+"\n" {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
}

func TestLocksOfALostReplicaAreTakenOver(t *testing.T) {
	a := startReplica(t)
	got := a.must(t, "k", `{"ttl":"1h","owner":"me"}`)
	short := a.must(t, "short", `{"ttl":"4s"}`)
	a.Server.Close()
	a.store.Close()
	begin := time.Now()
	b := startReplica(t)
	if status := b.renew(t, "k", got.Token); status != 200 {
		t.Errorf("renew after the loss: %d", status)
	}
	took := freeAt(t, b, "short").free.Sub(begin)
	if took > 12*time.Second {
		t.Errorf("the lock of a dead holder and a dead replica was free after %s", took)
	}
	if status := b.renew(t, "short", short.Token); status != 410 {
		t.Errorf("renew of it: %d", status)
	}
}
