package wrapper

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestStartsWaitForTheirTurnAndEndWithThePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, halt := context.WithCancelCause(t.Context())
		q := newQueue(ctx, 3)
		over := errors.New("over")
		var inside, most, done, refused atomic.Int32
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				leave, err := q.enter()
				if err != nil {
					if errors.Is(err, over) {
						refused.Add(1)
					}
					return
				}
				defer leave()
				most.Store(max(most.Load(), inside.Add(1)))
				time.Sleep(time.Second)
				inside.Add(-1)
				done.Add(1)
			})
		}
		time.Sleep(1500 * time.Millisecond)
		halt(over)
		wg.Wait()
		if most.Load() != 3 || done.Load() != 6 || refused.Load() != 4 {
			t.Errorf("%d at once, %d done, %d refused", most.Load(), done.Load(), refused.Load())
		}
		if _, err := q.enter(); !errors.Is(err, over) {
			t.Errorf("let in after the end: %v", err)
		}
	})
}
