package etcdstore

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

func TestFreshness(t *testing.T) {
	long := int64(freshFor)
	for name, test := range map[string]struct {
		seen, sent, revision int64
		want                 bool
	}{
		"all is seen":                    {5, 0, 5, true},
		"more is seen":                   {6, 0, 5, true},
		"an event is missing":            {5, 0, 6, false},
		"there is no watch":              {0, 0, 0, false},
		"the read was sent too long ago": {5, -long, 5, false},
	} {
		var f freshness
		f.seen.Store(test.seen)
		f.read(boottime()+test.sent, test.revision)
		if got := f.is(boottime()); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	var f freshness
	f.seen.Store(1)
	f.read(boottime(), 1)
	f.read(boottime()-2*long, 1)
	if !f.is(boottime()) {
		t.Error("an older answer that came later hides a younger one")
	}
}

func TestAStateThatIsOutdatedIsNotKept(t *testing.T) {
	var table table
	row := func(key string, revision int64) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(key), ModRevision: revision}
	}
	table.reset()
	table.put(row("loaded", 9))
	if table.outdates("a", 5) {
		t.Error("while it is being read, nothing is known")
	}
	table.complete(10)
	for name, test := range map[string]struct {
		key      string
		modified int64
		want     bool
	}{
		"of this revision":                           {"loaded", 9, false},
		"written again since":                        {"loaded", 8, true},
		"not there, of before":                       {"a", 9, true},
		"not there, of the revision of some event":   {"a", 10, false},
		"not there, as its event has yet to come":    {"a", 11, false},
		"there as an older one, which event will be": {"loaded", 12, false},
	} {
		if got := table.outdates(test.key, test.modified); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	table.put(row("a", 11))
	table.remove("a", 12)
	if !table.outdates("a", 11) || table.outdates("a", 13) {
		t.Error("a deleted key")
	}
}

// Two replicas renew one lock so quickly that neither asks etcd, or knows of the other, each time.
func TestReplicasThatRenewAtOnceKeepTheTTL(t *testing.T) {
	a, b := startReplica(t), startReplica(t)
	const ttl = 500 * time.Millisecond
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			key := fmt.Sprintf("both%d", i)
			got := a.must(t, key, `{"ttl":"500ms"}`)
			var last span
			for n := range 100 + i {
				r := []*replica{a, a, b, a, b, b}[n%6]
				sent := time.Now()
				switch status := r.renew(t, key, got.Token); {
				case status == 200:
					last = span{sent, time.Now()}
				case status == 410 && time.Since(last.sent) > ttl:
					t.Skip("this machine is too slow for the TTL")
				case status != 503:
					t.Fatalf("renewal %d: %d", n, status)
				}
			}
			last.check(t, key, freeAt(t, a, key), ttl)
		})
	}
}

// Who waits for a read must not be told by one that was sent before it came: the lock may have been lost in between.
func TestWhoWaitsForAReadGetsOneThatWasSentLater(t *testing.T) {
	t.Parallel()
	s := startStore(t, nil)
	if r := s.round(boottime()); r != nil {
		t.Fatal("there is something to wait for while nothing is under way")
	}
	waited := 0
	for range 200 {
		s.fresh.mu.Lock()
		s.fresh.sent.Store(0) // so that it is time to
		s.ask(boottime())
		s.fresh.mu.Unlock()
		came := boottime()
		r := s.round(came)
		if r == nil {
			continue // it was over already
		}
		waited++
		<-r.done
		if at := s.fresh.at.Load(); r.err != nil || r.good && at < came {
			t.Fatalf("came at %d, the read was sent at %d: %v", came, at, r.err)
		}
	}
	if waited == 0 {
		t.Error("there never was a read to wait for")
	}
	noReads(t, s)
}

// reads are how many are under way, and whether another is wanted.
func reads(s *Store) (busy int, wanted bool) {
	s.fresh.mu.Lock()
	defer s.fresh.mu.Unlock()
	return s.fresh.busy, s.fresh.next != nil
}

func noReads(t *testing.T, s *Store) {
	t.Helper()
	eventually(t, 30*time.Second, "reads end when nobody waits", func() error {
		if busy, wanted := reads(s); busy > 0 || wanted {
			return fmt.Errorf("%d are under way, another is wanted: %v", busy, wanted)
		}
		return nil
	})
}

// Where each read takes longer than what it tells is fresh, it is those that are sent before it is answered that help.
func TestReadsDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	p := startStopper(t)
	s := startStore(t, nil, p.Addr().String())
	close(p.stopped) // so that none is answered
	most := 0
	for range 3 * maxReads {
		now := boottime()
		before, _ := reads(s)
		s.refresh(now)
		s.refresh(now) // another renewal of that moment
		after, _ := reads(s)
		if after > before+1 || after > maxReads {
			t.Fatalf("%d reads were under way, then %d", before, after)
		}
		most = max(most, after)
		<-time.After(staleFrom)
	}
	if most < maxReads {
		t.Errorf("%d reads were under way at most, want %d", most, maxReads)
	}
	noReads(t, s)
}

// One member of etcd that hangs must not keep a renewal from asking the others.
func TestWhoWaitsIsNotKeptByAReadThatHangs(t *testing.T) {
	t.Parallel()
	p := startStopper(t)
	s := startStore(t, nil, p.Addr().String())
	close(p.stopped)
	s.refresh(boottime())
	if busy, _ := reads(s); busy != 1 {
		t.Fatalf("%d reads are under way after the first", busy)
	}
	<-time.After(staleFrom)
	if s.round(boottime()) == nil {
		t.Skip("this machine is too slow: the first read is over")
	}
	eventually(t, callTimeout/2, "a second read is sent", func() error {
		if busy, wanted := reads(s); busy != 2 || wanted {
			return fmt.Errorf("%d are under way, another is wanted: %v", busy, wanted)
		}
		return nil
	})
	noReads(t, s)
}

func TestACrowdThatRenewsIsAnsweredTheTruth(t *testing.T) {
	t.Parallel()
	a, b := startStore(t, nil), startStore(t, nil)
	h := acquireAt(t, a, "k", "session-of-a-crowd", time.Minute)
	var refs []lock.Ref
	for i := range 20 {
		refs = append(refs, acquireAt(t, a, fmt.Sprint("k", i), "session-of-a-crowd", time.Minute).Ref)
	}
	renewed := make(chan error, 100)
	crowd := func() {
		for range cap(renewed) {
			go func() {
				answers := a.Renew(t.Context(), append(refs[:len(refs):len(refs)], h.Ref))
				for _, other := range answers[:len(refs)] {
					if other.Err != nil {
						renewed <- fmt.Errorf("another: %w", other.Err)
						return
					}
				}
				renewed <- answers[len(refs)].Err
			}()
		}
	}
	crowd()
	for range cap(renewed) {
		if err := <-renewed; err != nil {
			t.Error(err)
		}
	}
	if err := b.Release(t.Context(), h.Ref); err != nil {
		t.Fatal(err)
	}
	<-time.After(freshFor)
	crowd()
	for range cap(renewed) {
		if err := <-renewed; !errors.Is(err, lock.ErrGone) {
			t.Errorf("a lock that another replica released: %v", err)
		}
	}
}
