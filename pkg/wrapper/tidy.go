package wrapper

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// stackHalvings is how often a stack must be halved that starting a process
// made grow. A garbage collection halves those that are mostly unused.
const stackHalvings = 4

// tidyLatest is when memory is given back at the latest.
const tidyLatest = time.Minute

// tidy gives back, once, what start-up took: the config's syntax tree, the
// stacks that grew while processes were started, and most of the program. An idle program would keep
// that, for it has no reason to collect garbage.
func tidy(ctx context.Context, board *status.Board, log *slog.Logger) {
	late := time.NewTimer(tidyLatest)
	defer late.Stop()
	for {
		snap, changed := board.Load()
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
	for range stackHalvings {
		runtime.GC()
	}
	debug.FreeOSMemory()
	if err := dropProgram(); err != nil {
		log.Debug("pages of the program stay in memory", "err", err)
	}
}
