package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/collect"
	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/profile"
)

var errAsked = errors.New("a sender asked to shut down")

// server is all that runs.
type server struct {
	flags    *flags
	log      *slog.Logger
	registry *collect.Registry
	receiver *collect.Server
	full     func() bool      // the receiver's queue is over its high water mark
	forward  *datagram.Sender // nil without -remote
	sinks    []runner
	profile  *profile.Pusher
	http     *http.Server
	listener net.Listener
	ending   atomic.Bool
}

// runner is a sink, as far as it is run. Run returns once ctx has ended and what was accepted is sent or kept.
type runner interface {
	Run(ctx context.Context) error
}

// run receives until ctx, a signal or a sender ends it.
func run(ctx context.Context, f *flags, env *environment, log *slog.Logger) error {
	st, stop := newStages(ctx)
	defer stop()
	s, err := newServer(f, env, log, func() { st.finish(errAsked) })
	if err != nil {
		return err
	}
	return s.serve(st)
}

// newServer checks everything, then opens the sockets.
func newServer(f *flags, env *environment, log *slog.Logger, shutdown func()) (*server, error) {
	sockets, err1 := f.sockets()
	networks, err2 := f.networks()
	labels, err3 := f.labels()
	if err := errors.Join(f.check(), f.checkSinks(), err1, err2, err3); err != nil {
		return nil, cli.Usagef("%v", err)
	}
	s := &server{flags: f, log: log}
	own := prometheus.NewRegistry()
	own.MustRegister(
		prometheus.NewGoCollector(),                                       //nolint:staticcheck // the package collectors links database/sql
		prometheus.NewProcessCollector(prometheus.ProcessCollectorOpts{}), //nolint:staticcheck // as above
		buildInfo())
	cfg := collect.Config{
		Labels: labels, Allow: networks, Rate: f.RateLimit, QueueBytes: f.QueueBytes, MessageBytes: f.MaxMessage,
		Idle: f.IdleTimeout, Connections: f.MaxConnections, AllowShutdown: f.AllowShutdown, Shutdown: shutdown, Log: log,
	}
	if f.Remote != "" {
		sender, err := datagram.NewSender(f.Remote, datagram.SenderConfig{Bytes: f.QueueBytes})
		if err != nil {
			return nil, cli.Usagef("-remote: %v", err)
		}
		s.forward = sender
		cfg.Forward = &router{sender, hostname()}
		own.MustRegister(forwardMetrics(sender))
	}
	var err error
	if s.profile, err = profile.New(f.PyroscopeURL, "metrics-server", os.Getenv("POD_NAME"), log); err != nil {
		return nil, cli.Usagef("-pyroscope-url %v", err)
	}
	if err := s.addSinks(env, &cfg, own); err != nil {
		return nil, err
	}
	// What we serve ourselves can be nobody else's.
	cfg.Registry = collect.NewRegistry(f.limits(), append(names(own), "metrics_server_*")...)
	s.registry = cfg.Registry
	s.receiver = collect.NewServer(cfg)
	s.full = s.receiver.Full
	own.MustRegister(s.receiver)
	if err := s.receiver.Listen(sockets...); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", f.Socket)
	if err != nil {
		s.receiver.Close()
		return nil, fmt.Errorf("-socket: %w", err)
	}
	s.listener = l
	s.http = &http.Server{Handler: s.handler(own), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: time.Minute,
		IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	return s, nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

func buildInfo() prometheus.Collector {
	build := cli.ReadBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "metrics_server_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": build.Version, "commit": build.Commit, "goversion": build.GoVersion}})
	info.Set(1)
	return info
}

// names returns what is called how on our own page, with the suffixes.
func names(g prometheus.Gatherer) []string {
	families, _ := g.Gather()
	var out []string
	for _, f := range families {
		out = append(out, f.GetName(), f.GetName()+"_count", f.GetName()+"_sum", f.GetName()+"_bucket")
	}
	return out
}

func (s *server) handler(own prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.registry.Handler(own))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case s.ending.Load():
			http.Error(w, "shutting down", http.StatusServiceUnavailable)
		case s.full():
			http.Error(w, "the receive queue is over its high water mark", http.StatusServiceUnavailable)
		default:
			_, _ = fmt.Fprintln(w, "ok")
		}
	})
	return mux
}
