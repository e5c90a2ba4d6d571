package wrapper

import (
	"runtime"
	"sync"
)

// spareThreads is how many threads a wrapper comes to in a flood of requests and
// checks.
const spareThreads = 12

// makeThreads has the runtime make its threads now, which it then keeps. When it
// needs one and the pod has used up its processes, it ends the program.
func makeThreads(total int) {
	var wg sync.WaitGroup
	over := make(chan struct{})
	defer wg.Wait()
	defer close(over)
	for range total {
		if have, _ := runtime.ThreadCreateProfile(nil); have >= total {
			return
		}
		held := make(chan struct{})
		wg.Go(func() {
			runtime.LockOSThread() // so that the next one needs another
			defer runtime.UnlockOSThread()
			close(held)
			<-over
		})
		<-held
	}
}

// dropThreads ends the threads beyond total that a burst of work left, which the
// runtime would keep for ever.
func dropThreads(total int) {
	have, _ := runtime.ThreadCreateProfile(nil)
	for range have - total {
		var wg sync.WaitGroup
		wg.Go(func() {
			runtime.LockOSThread() // whoever returns while it is locked takes its thread along
			if onMainThread() {
				runtime.UnlockOSThread() // it cannot end, and would be of no use any more
			}
		})
		wg.Wait()
	}
}
