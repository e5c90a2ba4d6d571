// Command hello is a small HTTP server for the examples: it answers, is slow on demand, and on
// SIGTERM finishes the requests that it has before it exits.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	if err := run(log, os.Args[1:]); err != nil {
		log.Error("ended with an error", "err", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger, args []string) error {
	address := os.Getenv("LISTEN_ADDRESS")
	if address == "" {
		address = "127.0.0.1:8080"
	}
	flags := flag.NewFlagSet("hello", flag.ExitOnError)
	flags.StringVar(&address, "listen", address, "address to listen on; its default is in $LISTEN_ADDRESS")
	deadline := flags.Duration("deadline", 8*time.Second, "how long requests may go on after SIGTERM")
	_ = flags.Parse(args) // exits by itself

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return serve(ctx, log, listener, *deadline)
}

// serve answers until ctx ends, then lets requests finish until the deadline.
func serve(ctx context.Context, log *slog.Logger, listener net.Listener, deadline time.Duration) error {
	var stopping atomic.Bool
	server := &http.Server{Handler: handler(log, &stopping), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	log.Info("listening", "addr", listener.Addr().String())

	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	stopping.Store(true)
	log.Info("finishing requests", "deadline", deadline)
	// The deadline begins now that ctx has ended.
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline)
	defer cancel()
	err := server.Shutdown(rest)
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("finish requests: %w", errors.Join(err, server.Close()))
	}
	log.Info("bye")
	return nil
}

func handler(log *slog.Logger, stopping *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		log.Info("request", "path", r.URL.Path)
		_, _ = fmt.Fprintln(w, "hello")
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if stopping.Load() {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		log.Info("slow request")
		select {
		case <-time.After(5 * time.Second):
			_, _ = fmt.Fprintln(w, "hello, at last")
		case <-r.Context().Done():
		}
	})
	return mux
}
