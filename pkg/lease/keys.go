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
	turn    chan struct{} // holds one while somebody in this program asks for the lock or has it
	cluster string        // of etcd
	token   int64         // the greatest that was known
	free    time.Duration // not to be asked for before this time of Boottime
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
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case k.turn <- struct{}{}:
	default:
		select {
		case k.turn <- struct{}{}:
		case <-late.C:
			return &heldError{&holder{Owner: "another process of this pod"}}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	free := time.NewTimer(k.free - Boottime())
	defer free.Stop()
	select {
	case <-free.C:
		return nil
	case <-ctx.Done():
		k.leave()
		return context.Cause(ctx)
	}
}

func (k *key) leave() { <-k.turn }

// fresh notes a token, and says whether it was never known before.
func (k *key) fresh(cluster string, token int64) bool {
	if k.cluster == cluster && token <= k.token {
		return false
	}
	k.cluster, k.token = cluster, token
	return true
}
