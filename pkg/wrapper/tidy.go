package wrapper

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// stackHalvings is how often a stack must be halved that starting a process
// made grow. A garbage collection halves those that are mostly unused.
const stackHalvings = 4

// startGC is the share by which the heap may grow between collections until
// everything runs. What a start takes is given back right after it.
const startGC = 400

// steadyGC is the share by which the heap may grow between collections once
// everything runs.
const steadyGC = 40

// firstLook is when the sampler has looked at all processes for the first time,
// which takes more memory than later looks.
const firstLook = 12 * time.Second

// tidyLatest is when memory is given back at the latest.
const tidyLatest = time.Minute

// tidy gives back what start-up took: the config's syntax tree, the
// stacks that grew while processes were started, and most of the program. An idle program would keep
// that, for it has no reason to collect garbage.
func tidy(ctx context.Context, board *status.Board, log *slog.Logger) {
	late := time.NewTimer(tidyLatest)
	defer late.Stop()
	for {
		snap, changed := board.LoadPod()
		if snap.Ready() {
			break
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
			return
		case <-late.C:
		}
		break
	}
	setGC(steadyGC) // what runs from here on makes little garbage, and keeps little
	giveBack(log)
	if sleep(ctx, firstLook) == nil {
		giveBack(log)
	}
}

// setGC sets the share unless the user did.
func setGC(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

func giveBack(log *slog.Logger) {
	for range stackHalvings {
		runtime.GC()
	}
	dropThreads(spareThreads)
	debug.FreeOSMemory()
	if err := dropProgram(); err != nil {
		log.Debug("pages of the program stay in memory", "err", err)
	}
}
