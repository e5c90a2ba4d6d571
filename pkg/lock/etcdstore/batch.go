package etcdstore

import (
	"sync"
)

// batcher runs items in batches: while limit batches are under way, items gather for the next.
// An item alone is run at once.
type batcher[T any, K comparable] struct {
	limit int       // batches side by side
	most  int       // items of a batch
	key   func(T) K // an item with the key of another of its batch waits for the next
	run   func([]T)
	wg    *sync.WaitGroup // of the goroutines that run

	mu      sync.Mutex // guards what follows
	queue   []T
	running int
	closed  bool
}

// add returns false when the batcher is closed. Else run will see item.
func (b *batcher[T, K]) add(item T) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.queue = append(b.queue, item)
	if b.running < b.limit {
		b.running++
		b.wg.Go(b.work)
	}
	return true
}

// close lets nothing in any more; what is queued is still run.
func (b *batcher[T, K]) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

func (b *batcher[T, K]) work() {
	for {
		batch := b.take()
		if batch == nil {
			return
		}
		b.run(batch)
	}
}

// take returns the next batch, or nil when the goroutine is to end.
func (b *batcher[T, K]) take() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		b.running--
		return nil
	}
	if len(b.queue) == 1 {
		batch := b.queue
		b.queue = nil
		return batch
	}
	batch := make([]T, 0, min(len(b.queue), b.most))
	seen := make(map[K]bool, cap(batch))
	rest := b.queue[:0:0]
	for i, item := range b.queue {
		if len(batch) == b.most {
			rest = append(rest, b.queue[i:]...)
			break
		}
		if key := b.key(item); seen[key] {
			rest = append(rest, item)
		} else {
			seen[key] = true
			batch = append(batch, item)
		}
	}
	b.queue = rest
	return batch
}
