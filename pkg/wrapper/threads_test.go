package wrapper

import (
	"runtime"
	"testing"
	"time"
)

func TestThreadsAreMadeBeforeTheyAreNeeded(t *testing.T) {
	before, _ := runtime.ThreadCreateProfile(nil)
	makeThreads(before + 5)
	if after, _ := runtime.ThreadCreateProfile(nil); after < before+5 || after > before+8 {
		t.Errorf("%d threads, then %d", before, after)
	}
}

func TestThreadsThatABurstLeftAreEnded(t *testing.T) {
	before, _ := runtime.ThreadCreateProfile(nil)
	makeThreads(before + 20)
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		dropThreads(before + 5)
		after, _ := runtime.ThreadCreateProfile(nil)
		if after <= before+5 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d threads, then %d", before, after)
		}
	}
}
