package wrapper

import (
	"context"
	"log/slog"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// announce logs when all processes together become ready, and when they no
// longer are.
func announce(ctx context.Context, board *status.Board, log *slog.Logger) {
	ready := false
	for {
		snap, changed := board.LoadPod()
		if now := snap.Ready(); now != ready {
			ready = now
			if ready {
				log.Info("all processes are ready", "processes", snap.Len())
			} else if snap.Pod().InService() {
				log.Warn("not all processes are ready any more")
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
