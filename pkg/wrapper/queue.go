package wrapper

import "context"

// maxStarts is how many processes are being started at one time. Each has four
// descriptors open meanwhile, and thousands that wait for one fork would use up
// those that running processes need. It leaves room for some that hang.
const maxStarts = 128

// queue lets a number of starts through at one time, and none once ctx ended.
type queue struct {
	ctx   context.Context
	slots chan struct{}
}

func newQueue(ctx context.Context, n int) *queue {
	return &queue{ctx, make(chan struct{}, n)}
}

// enter waits for a slot, which leave gives back.
func (q *queue) enter() (leave func(), err error) {
	select {
	case q.slots <- struct{}{}:
	case <-q.ctx.Done():
		return nil, context.Cause(q.ctx)
	}
	leave = func() { <-q.slots }
	if q.ctx.Err() != nil { // both were so
		leave()
		return nil, context.Cause(q.ctx)
	}
	return leave, nil
}
