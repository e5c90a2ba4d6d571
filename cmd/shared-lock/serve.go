package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/lock"
	"github.com/process-wrapper/process-wrapper/pkg/lock/etcdstore"
)

const (
	startTimeout = 30 * time.Second // for etcd to answer
	drainTimeout = 5 * time.Second  // for requests that are being answered
	// serveGC is the share by which the heap may grow between collections. Requests make garbage of which nothing stays, and
	// with 1,000 clients collecting at 100 % took a tenth of the CPU time.
	serveGC = 200
)

// serve answers until ctx or a signal ends it.
func serve(ctx context.Context, f *flags, log *slog.Logger) error {
	ctx, stop := cli.SignalContext(ctx)
	defer stop()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(serveGC)
	}
	access, err := f.access()
	if err != nil {
		return cli.Usagef("%w", err)
	}
	tlsConfig, err := f.serverTLS()
	if err != nil {
		return cli.Usagef("%w", err)
	}
	l, err := net.Listen("tcp", f.Listen)
	if err != nil {
		return fmt.Errorf("listen on %q: %w (SHARED_LEASE_SOCKET sets the address)", f.Listen, err)
	}
	defer l.Close()
	etcd, failed, end, err := f.etcd(ctx, log)
	if err != nil {
		return err
	}
	defer end()

	reg := prometheus.NewRegistry()
	reg.MustRegister(
		prometheus.NewGoCollector(),                                       //nolint:staticcheck // the package collectors links database/sql
		prometheus.NewProcessCollector(prometheus.ProcessCollectorOpts{}), //nolint:staticcheck // the same
		buildInfo(),
	)
	srv := lock.NewServer(lock.Options{Access: access, Registry: reg, Log: log})
	store := etcdstore.New(etcd, etcdstore.Options{Prefix: f.EtcdPrefix, Observe: srv.Observe, Registry: reg, Log: log})
	defer store.Close()
	srv.Use(store)
	sctx, cancel := context.WithTimeout(ctx, startTimeout)
	err = store.Start(sctx)
	cancel()
	if err != nil {
		return fmt.Errorf("%w (SHARED_LEASE_ETCD_ENDPOINTS says where etcd is: %s)", err, strings.Join(etcd.Endpoints(), ","))
	}
	web := &http.Server{
		Handler: handler(srv, reg), TLSConfig: tlsConfig, ReadTimeout: 10 * time.Second, // also of headers: another time for these would cost a call each
		IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	log.Info("listening", "addr", l.Addr().String(), "etcd", strings.Join(etcd.Endpoints(), ","), "tls", tlsConfig != nil)
	return answer(ctx, web, l, failed, func() { drain(srv, f.ShutdownDelay, log) })
}

// answer serves until ctx ends, then what was asked already.
func answer(ctx context.Context, web *http.Server, l net.Listener, failed <-chan error, drain func()) error {
	done := make(chan error, 1)
	go func() {
		if web.TLSConfig != nil {
			done <- web.ServeTLS(l, "", "")
			return
		}
		done <- web.Serve(l)
	}()
	select {
	case err := <-done:
		return fmt.Errorf("serve: %w", err)
	case err := <-failed:
		_ = web.Close() // the end of etcd is what to tell
		return fmt.Errorf("the embedded etcd ended: %w", err)
	case <-ctx.Done():
	}
	drain()
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := web.Shutdown(sctx)
	if err != nil {
		_ = web.Close() // whoever is not done by now is cut off
	}
	if serr := <-done; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// drain sends those away who wait, and gives load balancers time to notice.
func drain(srv *lock.Server, delay time.Duration, log *slog.Logger) {
	log.Info("shutting down")
	srv.Drain()
	if delay > 0 {
		<-time.After(delay)
	}
}

// handler adds the metrics of this process.
func handler(srv *lock.Server, reg *prometheus.Registry) http.Handler {
	metrics := promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			metrics.ServeHTTP(w, r)
			return
		}
		srv.ServeHTTP(w, r)
	})
}

func buildInfo() prometheus.Collector {
	build := cli.ReadBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "shared_lock_build_info", Help: "Version of shared-lock.",
		ConstLabels: prometheus.Labels{"version": build.Version, "commit": build.Commit, "goversion": build.GoVersion}})
	info.Set(1)
	return info
}

// etcd returns a client, a channel that tells if the embedded etcd failed, and what to call at the end.
func (f *flags) etcd(ctx context.Context, log *slog.Logger) (*clientv3.Client, <-chan error, func(), error) {
	cfg := clientv3.Config{Endpoints: split(f.EtcdEndpoints)}
	var failed <-chan error
	end := func() {}
	if f.EmbeddedEtcd != "" {
		address, err := f.embeddedAddress(cfg.Endpoints)
		if err != nil {
			return nil, nil, nil, cli.Usagef("%w", err)
		}
		begin := time.Now()
		e, err := etcdstore.Embed(ctx, f.EmbeddedEtcd, address)
		if err != nil {
			return nil, nil, nil, err
		}
		log.Info("embedded etcd serves", "addr", e.Endpoint(), "dir", f.EmbeddedEtcd, "took", time.Since(begin).Round(time.Millisecond).String())
		cfg.Endpoints, failed, end = []string{e.Endpoint()}, e.Failed(), e.Close
	} else {
		var err error
		if cfg.TLS, err = f.etcdTLS(); err != nil {
			return nil, nil, nil, cli.Usagef("%w", err)
		}
	}
	client, err := etcdstore.Client(cfg)
	if err != nil {
		end()
		return nil, nil, nil, err
	}
	return client, failed, end, nil
}

// embeddedAddress is where the embedded etcd listens: the endpoint, if it is one on loopback.
func (f *flags) embeddedAddress(endpoints []string) (string, error) {
	if f.SharedLockEtcdTLS {
		return "", errors.New("-embedded-etcd is on loopback and has no TLS: leave -shared-lock-etcd-tls out")
	}
	if len(endpoints) != 1 {
		return "", errors.New("-embedded-etcd needs one endpoint, such as localhost:2379")
	}
	host, port, err := net.SplitHostPort(strings.TrimPrefix(endpoints[0], "http://"))
	if err != nil {
		return "", fmt.Errorf("endpoint %q: %w", endpoints[0], err)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", fmt.Errorf("-embedded-etcd listens on loopback only: %q is not, use localhost:2379", endpoints[0])
	}
	return net.JoinHostPort(host, port), nil
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

func (f *flags) access() (*lock.Access, error) {
	if f.AccessFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.AccessFile)
	if err != nil {
		return nil, fmt.Errorf("read access file: %w", err)
	}
	a, err := lock.ParseAccess(text)
	if err != nil {
		return nil, fmt.Errorf("access file %s: %w", f.AccessFile, err)
	}
	return a, nil
}
