package lock

import (
	"container/list"
	"sync"
	"time"
)

// queues are the waiters of this replica, one queue for each key. Only the first one of a queue asks
// the store, and only when a watch has told that it may have success.
type queues struct {
	mu    sync.Mutex // guards all
	by    map[Name]*queue
	count int
}

type queue struct {
	waiters list.List // of *waiter, in the order of coming
	changes int       // how often the key was freed, or events may have been missed
	freed   int64     // revision of the last time
	at      time.Time // of that; zero: not yet
	holder  Holder    // as last seen
}

// waiter is one who waits. All but wake is guarded by queues.mu.
type waiter struct {
	name    Name
	queue   *queue
	element *list.Element
	seen    int           // changes that a try took into account
	wake    chan struct{} // holds one
}

// join puts a waiter at the end.
func (q *queues) join(name Name) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.by == nil {
		q.by = map[Name]*queue{}
	}
	line := q.by[name]
	if line == nil {
		line = &queue{}
		q.by[name] = line
	}
	w := &waiter{name: name, queue: line, seen: -1, wake: make(chan struct{}, 1)}
	w.element = line.waiters.PushBack(w)
	q.count++
	return w
}

// leave removes a waiter and makes the next one the first. got is what the waiter got, if anything:
// then the next need not ask before that is freed.
func (q *queues) leave(w *waiter, got Holder) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := w.queue.waiters.Front() == w.element
	w.queue.waiters.Remove(w.element)
	q.count--
	next := w.queue.waiters.Front()
	switch {
	case next == nil:
		delete(q.by, w.name)
	case first:
		n := next.Value.(*waiter)
		if got.Token > 0 {
			w.queue.holder = got
			if got.Slots <= 1 && w.queue.freed < got.Token {
				n.seen = w.queue.changes
			}
		} else {
			n.seen = w.seen
		}
		n.poke()
	}
}

func (w *waiter) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// turn tells if the waiter should ask the store now.
func (q *queues) turn(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.queue.waiters.Front() != w.element || w.seen == w.queue.changes {
		return false
	}
	w.seen = w.queue.changes
	return true
}

// retry lets the waiter ask again without a change.
func (q *queues) retry(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w.seen = -1
}

// met remembers who holds the key, for those who wait behind.
func (q *queues) met(w *waiter, h Holder) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w.queue.holder = h
}

func (q *queues) holder(w *waiter) Holder {
	q.mu.Lock()
	defer q.mu.Unlock()
	return w.queue.holder
}

// freedAt is when the key was last freed, zero if that is not known.
func (q *queues) freedAt(w *waiter) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return w.queue.at
}

// observe wakes who has to ask.
func (q *queues) observe(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.Key == "" {
		for _, line := range q.by {
			line.change(e.Revision)
		}
		return
	}
	if line := q.by[e.Name]; line != nil && e.Freed {
		line.change(e.Revision)
	}
}

// change wakes the first. The caller holds mu.
func (l *queue) change(revision int64) {
	l.changes++
	l.freed, l.at = max(l.freed, revision), time.Now()
	if first := l.waiters.Front(); first != nil {
		first.Value.(*waiter).poke()
	}
}

// waiting counts who waits for a key.
func (q *queues) waiting(name Name) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if line := q.by[name]; line != nil {
		return line.waiters.Len()
	}
	return 0
}

func (q *queues) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count
}
