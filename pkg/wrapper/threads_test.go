package wrapper

import (
	"runtime"
	"testing"
)

func TestThreadsAreMadeBeforeTheyAreNeeded(t *testing.T) {
	before, _ := runtime.ThreadCreateProfile(nil)
	makeThreads(before + 5)
	if after, _ := runtime.ThreadCreateProfile(nil); after < before+5 || after > before+8 {
		t.Errorf("%d threads, then %d", before, after)
	}
}
