//go:build !linux

package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
)

// ErrTaken says that another process-wrapper listens on the socket.
var ErrTaken = errors.New("another process-wrapper has it")

// ControlServer serves the control socket, which needs Linux.
type ControlServer struct{}

// ListenControl fails: who is at the other end can be told on Linux only.
func ListenControl(string, *slog.Logger) (*ControlServer, error) {
	return nil, errors.New("control socket: needs Linux")
}

// Path is empty.
func (*ControlServer) Path() string { return "" }

// Close does nothing.
func (*ControlServer) Close() error { return nil }

// Serve returns when ctx ends.
func (*ControlServer) Serve(ctx context.Context, _ http.Handler) error {
	<-ctx.Done()
	return nil
}
