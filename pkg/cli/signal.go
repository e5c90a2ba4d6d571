package cli

import (
	"context"
	"os/signal"
	"syscall"
)

// SignalContext returns a context that ends at SIGINT or SIGTERM, with the signal as its cause.
// The first signal also ends the handling, so that a second one kills at once, whatever hangs.
func SignalContext(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(parent, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
