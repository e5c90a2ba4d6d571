package sink

import "sync"

const (
	chunkSize = 64 << 10
	pageSize  = 4 << 10
)

// chunk is a run of whole frames.
type chunk struct {
	data    []byte
	records int
}

// queue is the bounded memory between Put and who writes or sends: chunks of frames, first in first
// out. A chunk that was taken counts until it is freed.
type queue struct {
	max   int           // bytes of chunks, by their capacity
	size  int           // of a chunk
	ready chan struct{} // one element: there is something to take, or the queue was closed

	mu      sync.Mutex // guards what follows
	chunks  []chunk
	arena   *arena
	spare   [][]byte // empty chunks of chunkSize that were in use
	memory  int      // capacity of all chunks that are not spare
	bytes   int      // of frames
	records int
	closed  bool
}

// newQueue returns a queue whose chunks are so small that the last one that a spool has no room for
// leaves at most an eighth of it empty. spool is 0 where there is none.
func newQueue(size int, spool int64) *queue {
	chunk := chunkSize
	if spool > 0 {
		chunk = int(min(chunkSize, max(pageSize, spool/8/pageSize*pageSize)))
	}
	return &queue{max: size, size: chunk, ready: make(chan struct{}, 1), arena: &arena{limit: size, size: chunk}}
}

// put copies a frame to the end. It never waits for more than the mutex, which nobody holds for
// longer than a copy.
func (q *queue) put(frame []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if n := len(q.chunks); n == 0 || cap(q.chunks[n-1].data)-len(q.chunks[n-1].data) < len(frame) {
		if !q.grow(len(frame)) {
			return ErrFull
		}
	}
	last := &q.chunks[len(q.chunks)-1]
	last.data = append(last.data, frame...)
	last.records++
	q.bytes += len(frame)
	q.records++
	wake(q.ready)
	return nil
}

func (q *queue) grow(n int) bool {
	size := max(n, q.size)
	if q.memory+size > q.max {
		return false
	}
	var data []byte
	switch last := len(q.spare) - 1; {
	case size > q.size:
		q.arena.release(q.spare) // so that spare chunks and large ones are within max together
		q.spare = nil
		data = make([]byte, 0, size)
	case last >= 0:
		data, q.spare = q.spare[last], q.spare[:last]
	default:
		data = q.arena.chunk()
	}
	q.memory += cap(data)
	q.chunks = append(q.chunks, chunk{data: data})
	return true
}

// full tells whether a frame of a usual size would be refused, without the work of making one.
func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.memory+q.size <= q.max {
		return false
	}
	n := len(q.chunks)
	return n == 0 || cap(q.chunks[n-1].data)-len(q.chunks[n-1].data) < 512
}

// take removes the first chunk; its owner frees it or gives it back.
func (q *queue) take() (chunk, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.chunks) == 0 {
		return chunk{}, false
	}
	c := q.chunks[0]
	q.chunks[0] = chunk{}
	q.chunks = q.chunks[1:]
	return c, true
}

// back puts a chunk that was taken in front again.
func (q *queue) back(c chunk) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.chunks = append([]chunk{c}, q.chunks...)
}

func (q *queue) free(c chunk) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.memory -= cap(c.data)
	q.bytes -= len(c.data)
	q.records -= c.records
	if cap(c.data) == q.size && len(q.spare) < q.max/q.size {
		q.spare = append(q.spare, c.data[:0])
	}
}

// held counts what is not freed.
func (q *queue) held() (records, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.records, q.bytes
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	wake(q.ready)
}

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// again takes back frames that were freed, when the queue is closed and nobody takes: they may be
// more than max.
func (q *queue) again(c chunk) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.chunks = append([]chunk{c}, q.chunks...)
	q.memory += cap(c.data)
	q.bytes += len(c.data)
	q.records += c.records
}
