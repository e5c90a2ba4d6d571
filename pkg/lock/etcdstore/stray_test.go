package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

func acquireAt(t *testing.T, s *Store, key, session string, ttl time.Duration) lock.Holder {
	t.Helper()
	h, err := s.Acquire(t.Context(), lock.Request{Name: lock.Name{Key: key}, TTL: ttl, Session: session, Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// stray makes a lock whose time nobody keeps: b takes it over from a by a renewal whose client leaves before etcd answers.
// Another lock of the session lets b know that the lease lives, so that nothing else ends the renewal early.
func stray(t *testing.T, a, b *Store, ttl time.Duration) lock.Ref {
	t.Helper()
	const session = "session-of-strays"
	h := acquireAt(t, a, "stray", session, ttl)
	other := acquireAt(t, b, "other", session, ttl)
	kv, err := b.find(t.Context(), h.Ref)
	if err != nil {
		t.Fatal(err)
	}
	left, leave := context.WithCancel(t.Context())
	leave()
	if err := b.renewOne(left, h.Ref, string(kv.Key), kv).Err; !errors.Is(err, context.Canceled) {
		t.Fatalf("the renewal whose client is gone: %v", err)
	}
	eventually(t, 30*time.Second, "the renewal is written", func() error {
		if now := b.table.get(string(kv.Key)); now == nil || decode(now.Value).Replica != b.replica {
			return fmt.Errorf("%v", now)
		}
		return nil
	})
	// The lease must not do what the timer has to.
	t.Cleanup(keepRenewing(t, b, other.Ref))
	return h.Ref
}

// keepRenewing renews a lock until stop is called.
func keepRenewing(t *testing.T, s *Store, ref lock.Ref) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			s.Renew(ctx, []lock.Ref{ref})
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	return func() { cancel(); <-done }
}

func TestARenewalWhoseClientLeftIsKeptTheTimeOf(t *testing.T) {
	t.Parallel()
	a, b := startStore(t, nil), startStore(t, nil)
	const ttl = 500 * time.Millisecond
	ref := stray(t, a, b, ttl)
	began := time.Now()
	eventually(t, 30*time.Second, "the lock ends", func() error {
		if err := a.Validate(t.Context(), ref); !errors.Is(err, lock.ErrGone) {
			return fmt.Errorf("it is still there: %v", err)
		}
		return nil
	})
	if took := time.Since(began); took > ttl+2*strayTick+late+time.Second {
		t.Errorf("it ended after %v", took)
	}
}

func TestAStrayThatIsRenewedIsKept(t *testing.T) {
	t.Parallel()
	a, b := startStore(t, nil), startStore(t, nil)
	ref := stray(t, a, b, 500*time.Millisecond)
	for range 20 {
		if got := b.Renew(t.Context(), []lock.Ref{ref})[0]; got.Err != nil {
			t.Fatalf("renew: %v", got.Err)
		}
		<-time.After(100 * time.Millisecond)
	}
	if err := a.Validate(t.Context(), ref); err != nil {
		t.Error(err)
	}
}

func TestAKeyThatIsBeingDeletedIsNoStray(t *testing.T) {
	t.Parallel()
	s := New(etcdClient(t), Options{Prefix: prefix(t), Log: slog.New(slog.DiscardHandler)}) // nothing looks for strays by itself
	t.Cleanup(s.Close)
	revision, err := s.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.spawn(func() { s.watch(revision) })
	h := acquireAt(t, s, "k", "session-of-deletes", time.Hour)
	key := s.etcdKey(h.Name, 0, 1)
	eventually(t, 30*time.Second, "the key is told", func() error {
		if s.table.get(key) == nil {
			return errors.New("not yet")
		}
		return nil
	})
	s.timers.take(h.Ref)
	s.timers.changed(key, h.Token, true)
	end := s.timers.deleting(key)
	for range 3 {
		if all := s.timers.strays(); len(all) != 0 {
			t.Errorf("strays %v while it is being deleted", all)
		}
	}
	end()
	if all := s.timers.strays(); len(all) != 0 {
		t.Errorf("%v is a stray at the first look", all)
	}
	s.renewStrays()
	if left, ok := s.timers.remaining(h.Ref); !ok || left < 59*time.Minute {
		t.Errorf("its time is %v, %v", left, ok)
	}
	if all := s.timers.strays(); len(all) != 0 {
		t.Errorf("%v is a stray although its time is kept", all)
	}
}
