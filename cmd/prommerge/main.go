// Prommerge merges the pages of several Prometheus targets into one.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
	"github.com/process-wrapper/process-wrapper/pkg/prommerge/compress"
)

// flags is the command line.
type flags struct {
	Config         string        `help:"file with the targets, YAML or JSON"`
	Target         []string      `help:"a target as name=url; may be given several times" sep:"none" placeholder:"NAME=URL"`
	Listen         string        `help:"address to listen on" default:":9393"`
	Timeout        time.Duration `help:"for targets without a timeout of their own" default:"10s"`
	Async          bool          `help:"ask targets side by side" default:"true"`
	Sort           bool          `help:"sort families by name" default:"true"`
	OmitMeta       bool          `help:"leave HELP, TYPE and UNIT out"`
	EmptyOnFailure bool          `help:"if a target fails, serve nothing of the others either"`
	SuppressErrors bool          `help:"no log line for a target that fails"`
	HonorLabels    string        `help:"a target's label that is called like an added one: rename, keep or override" enum:"rename,keep,override" default:"rename"`
	Concurrency    int           `help:"how many targets are asked at the same time" default:"100"`
	MaxMerges      int           `help:"how many scrapes are answered at the same time" default:"16"`
	MaxTargetBytes int64         `help:"largest page of one target; negative: any" default:"67108864"`
	MaxTotalBytes  int64         `help:"largest sum of all pages; negative: any" default:"536870912"`
	EnableReload   bool          `help:"let POST /-/reload read the files again, as SIGHUP does"`
}

func main() {
	var f flags
	cli.Main(cli.Program{
		Name:  "prommerge",
		About: "Merges the metrics pages of several Prometheus targets into one.",
		Flags: &f,
		Run:   func(ctx context.Context, call *cli.Call) error { return run(ctx, &f, call.Log) },
	})
}

// run serves until ctx or a signal ends it.
func run(ctx context.Context, f *flags, log *slog.Logger) error {
	ctx, stop := cli.SignalContext(ctx)
	defer stop()
	if f.Timeout <= 0 {
		return cli.Usagef("-timeout %v must be above 0", f.Timeout)
	}
	src, err := newSource(f.Config, f.Target, log)
	if err != nil {
		return cli.Usagef("%v", err)
	}
	l, err := net.Listen("tcp", f.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	log.Info("listening", "address", l.Addr().String(), "targets", len(src.Targets()))
	return serve(ctx, f, src, l, log)
}

// serve answers on l until ctx ends.
func serve(ctx context.Context, f *flags, src *source, l net.Listener, log *slog.Logger) error {
	m := prommerge.New(f.options(log))
	defer m.Close()
	srv := &http.Server{Handler: newHandler(m, src, f.EnableReload), ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout: 5 * time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	for {
		select {
		case err := <-done:
			return fmt.Errorf("serve: %w", err)
		case <-hup:
			_ = src.Reload() // which logs
		case <-ctx.Done():
			// The cause of ctx is why we stop; requests that run get a moment.
			sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			err := srv.Shutdown(sctx)
			_ = srv.Close() // which ends the merges of those that are not done by then
			if serr := <-done; !errors.Is(serr, http.ErrServerClosed) {
				err = errors.Join(err, serr)
			}
			return err
		}
	}
}

// options translates the command line.
func (f *flags) options(log *slog.Logger) prommerge.Options {
	honor := map[string]prommerge.HonorLabels{"rename": prommerge.HonorRename, "keep": prommerge.HonorKeep, "override": prommerge.HonorOverride}
	return prommerge.Options{
		Async: f.Async, Sort: f.Sort, OmitMeta: f.OmitMeta, EmptyOnFailure: f.EmptyOnFailure, SuppressErrors: f.SuppressErrors,
		HonorLabels: honor[f.HonorLabels], Timeout: f.Timeout, Encodings: []prommerge.Encoding{compress.Zstd(), compress.Gzip()}, Logger: log,
		Limits: prommerge.Limits{TargetBytes: f.MaxTargetBytes, TotalBytes: f.MaxTotalBytes, Concurrency: f.Concurrency, Merges: f.MaxMerges},
	}
}
