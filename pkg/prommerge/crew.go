package prommerge

import (
	"sync"
	"time"
)

// idleFor is how long a worker waits for a merge, and a connection for a request: longer than any scrape interval in use.
const idleFor = 5 * time.Minute

// crew are workers that outlast a merge. To start one costs an allocation, and its stack must grow again.
type crew struct {
	tasks   chan task // one for each worker that ceases to be idle
	workers sync.WaitGroup

	mu     sync.Mutex // guards all below
	idle   int        // workers that wait for a task, or will at once
	closed bool
}

// task is what one worker has to do.
type task struct {
	work func() // nil: to end
	done *sync.WaitGroup
}

// run calls work n times side by side, once itself, and returns when all calls have returned.
func (c *crew) run(n int, work func()) {
	if n == 0 {
		return
	}
	var done sync.WaitGroup
	t := task{work, &done}
	c.mu.Lock()
	idle := min(n-1, c.idle)
	c.idle -= idle
	for range n - 1 - idle {
		if c.closed {
			done.Go(work)
			continue
		}
		done.Add(1)
		c.workers.Go(func() { c.serve(t) })
	}
	c.mu.Unlock()
	done.Add(idle)
	for range idle {
		c.tasks <- t
	}
	work()
	done.Wait()
}

// serve does t and what comes after it.
func (c *crew) serve(t task) {
	timer := time.NewTimer(idleFor)
	defer timer.Stop()
	for t.work != nil {
		deepen(0)
		t.work()
		stay := c.rest() // before done, so that the next merge counts on this worker
		t.done.Done()
		if !stay {
			return
		}
		t = c.next(timer)
	}
}

// rest makes a worker idle, unless the crew is closed.
func (c *crew) rest() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.idle++
	}
	return !c.closed
}

// next waits for a task. A worker that none comes for is told to end.
func (c *crew) next(timer *time.Timer) task {
	timer.Reset(idleFor)
	select {
	case t := <-c.tasks:
		return t
	case <-timer.C:
	}
	c.mu.Lock()
	left := c.idle > 0
	if left {
		c.idle--
	}
	c.mu.Unlock()
	if left {
		return task{}
	}
	return <-c.tasks // a merge counts on this worker: its task is on the way
}

// close ends all workers. Those that work are waited for.
func (c *crew) close() {
	c.mu.Lock()
	idle := c.idle
	c.idle, c.closed = 0, true
	c.mu.Unlock()
	for range idle {
		c.tasks <- task{}
	}
	c.workers.Wait()
}

// deepen makes the stack of a worker as deep as a request needs it, at once and while there is next to nothing on it. Else
// it would grow in several steps, each of which copies all frames: 4 % of the time of a merge of small pages.
//
//go:noinline
func deepen(i int) byte {
	var frame [6 << 10]byte
	return frame[i]
}
