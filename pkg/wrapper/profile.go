package wrapper

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/grafana/pyroscope-go"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
)

// profiler pushes profiles of ourselves to a Pyroscope server.
type profiler struct {
	cfg pyroscope.Config
	log *slog.Logger
}

// newProfiler returns a profiler, which does nothing without a URL.
func newProfiler(server string, log *slog.Logger) (*profiler, error) {
	p := &profiler{log: log}
	if server == "" {
		return p, nil
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, cli.Usagef("-pyroscope-url %q is no URL: write http://host:4040", server)
	}
	p.cfg = pyroscope.Config{ApplicationName: "process-wrapper", ServerAddress: server, Logger: pyroscopeLog{log}}
	return p, nil
}

// run pushes until ctx ends.
func (p *profiler) run(ctx context.Context) {
	if p.cfg.ServerAddress == "" {
		return
	}
	session, err := pyroscope.Start(p.cfg)
	if err != nil {
		p.log.Warn("profiling is off", "err", err)
		return
	}
	<-ctx.Done()
	_ = session.Stop() // what it could not push is lost with us
}

// pyroscopeLog satisfies pyroscope.Logger.
type pyroscopeLog struct{ log *slog.Logger }

func (l pyroscopeLog) Infof(format string, args ...any) {
	l.log.Debug("pyroscope: " + fmt.Sprintf(format, args...))
}
func (l pyroscopeLog) Debugf(format string, args ...any) {
	l.log.Debug("pyroscope: " + fmt.Sprintf(format, args...))
}
func (l pyroscopeLog) Errorf(format string, args ...any) {
	l.log.Warn("pyroscope: " + fmt.Sprintf(format, args...))
}
