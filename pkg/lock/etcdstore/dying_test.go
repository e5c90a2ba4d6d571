package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

// etcd ends a lease up to half a second after its time, and until then takes keys for it, which end with it. A lock on such a one
// would be held for nobody.
func TestASessionWhoseLeaseIsJustOverHoldsNothingForNobody(t *testing.T) {
	t.Parallel()
	a, b := startStore(t, nil), startStore(t, nil)
	c := etcdClient(t)
	defer c.Close()
	begin := acquireAt(t, a, "begin", "session-of-the-begin", time.Minute)
	acquire := func(s *Store, key, session string) lock.Holder {
		h, err := s.Acquire(t.Context(), lock.Request{Name: lock.Name{Key: key}, TTL: time.Second, Session: session, Slots: 1})
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		return h
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			<-time.After(time.Duration(i) * 70 * time.Millisecond) // as etcd looks twice a second
			session, key := fmt.Sprintf("session-that-was-quiet-%d", i), fmt.Sprintf("second%d", i)
			first := acquire(a, fmt.Sprintf("first%d", i), session)
			if err := a.Release(t.Context(), first.Ref); err != nil && !errors.Is(err, lock.ErrGone) {
				t.Error(err)
			}
			<-time.After(time.Duration(lifetime(time.Second))*time.Second + 20*time.Millisecond)
			got := acquire([]*Store{a, b}[i%2], key, session)
			// A key that was there before would have ended by now, and come again.
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			watch := c.Watch(ctx, prefix(t)+key, clientv3.WithRev(begin.Token))
			if r := <-watch; r.Err() != nil || len(r.Events) < 1 || r.Events[0].Kv.CreateRevision != got.Token {
				t.Errorf("%s was first written otherwise than as %d: %v", key, got.Token, r)
			}
		})
	}
	wg.Wait()
}
