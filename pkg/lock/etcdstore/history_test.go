package etcdstore

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// startRelay is a way to etcd that can be cut: connections are closed and refused until it is mended.
func startRelay(t *testing.T) (address string, cut *atomic.Bool, drop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cut = &atomic.Bool{}
	relay := startStopperOn(t, l, cut)
	return l.Addr().String(), cut, relay.drop
}

func TestWhatACompactionHidesIsReadAgain(t *testing.T) {
	address, cut, drop := startRelay(t)
	far, near := startReplica(t, address), startReplica(t)
	old := near.must(t, "k", `{"ttl":"1m","owner":"first"}`)
	gone := far.must(t, "gone", `{"ttl":"1m"}`)
	status := make(chan int, 1)
	go func() {
		_, code, _ := far.acquire(t, "k", `{"wait":"20s","owner":"waiter"}`)
		status <- code
	}()
	eventually(t, 30*time.Second, "it waits", func() error {
		if _, text, _ := far.do(t, "GET", "/v1/locks/k", ""); !strings.Contains(text, `"waiters":1`) {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	cut.Store(true)
	drop()
	near.release(t, "k", old.Token)
	near.do(t, "DELETE", "/v1/locks/gone?force", "")
	c := etcdClient(t)
	defer c.Close()
	for range 20 {
		near.release(t, "noise", near.must(t, "noise", `{}`).Token)
	}
	last := near.must(t, "new", `{"ttl":"1m"}`)
	if _, err := c.Compact(t.Context(), last.Token, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	cut.Store(false)
	if got := <-status; got != 201 {
		t.Errorf("the waiter got %d", got)
	}
	if got := far.renew(t, "gone", gone.Token); got != 410 {
		t.Errorf("renewal of a lock whose end was not seen: %d", got)
	}
	if got := far.renew(t, "new", last.Token); got != 200 {
		t.Errorf("renewal of a lock whose begin was not seen: %d", got)
	}
	eventually(t, 30*time.Second, "the table is that of etcd", func() error {
		if row := far.store.table.get(prefix(t) + "gone"); row != nil {
			return fmt.Errorf("%s is in it", row.Key)
		}
		return nil
	})
}

// Another machine's clock is a day ahead or behind: only durations count.
func TestOtherClocksDoNotMatter(t *testing.T) {
	r := startReplica(t)
	c := etcdClient(t)
	defer c.Close()
	for name, shift := range map[string]time.Duration{"a day ahead": 24 * time.Hour, "a day behind": -24 * time.Hour, "at zero": -time.Since(time.Unix(0, 0))} {
		t.Run(name, func(t *testing.T) {
			key := strings.ReplaceAll(name, " ", "-")
			got := r.must(t, key, `{"ttl":"600ms"}`)
			etcdKey := r.store.prefix + key
			read, err := c.Get(t.Context(), etcdKey)
			if err != nil || len(read.Kvs) != 1 {
				t.Fatalf("%v %v", read, err)
			}
			v := decode(read.Kvs[0].Value)
			v.At += shift.Milliseconds()
			v.Replica = "another"
			if _, err := c.Put(t.Context(), etcdKey, v.encode(), clientv3.WithIgnoreLease()); err != nil {
				t.Fatal(err)
			}
			last := span{sent: time.Now()}
			if status := r.renew(t, key, got.Token); status != 200 {
				t.Fatalf("renew: %d", status)
			}
			last.answered = time.Now()
			last.check(t, name, freeAt(t, r, key), 600*time.Millisecond)
		})
	}
}
