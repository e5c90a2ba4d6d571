package lease

import (
	"context"
	"sync"
	"time"
)

// keys are those that a client has asked for.
type keys struct {
	mu sync.Mutex // guards by
	by map[string]*key
}

// key is what a client knows of one. All but turn belongs to who has the turn.
type key struct {
	turn  chan struct{} // holds one while somebody in this program asks for the lock or has it
	lease string        // of the old protocol: it could not be released, "" for none
	until time.Duration // when it is over, by Boottime
}

func (t *keys) of(name string) *key {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = make(map[string]*key)
	}
	k := t.by[name]
	if k == nil {
		k = &key{turn: make(chan struct{}, 1)}
		t.by[name] = k
	}
	return k
}

// enter waits for the turn: of those in this program who want a lock, which are one session, only one
// asks the server.
func (k *key) enter(ctx context.Context, wait time.Duration) error {
	select {
	case k.turn <- struct{}{}:
		return nil
	default:
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case k.turn <- struct{}{}:
		return nil
	case <-late.C:
		return &heldError{&holder{Owner: "another process of this pod"}}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (k *key) leave() { <-k.turn }
