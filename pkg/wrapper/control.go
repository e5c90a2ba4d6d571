package wrapper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/process-wrapper/process-wrapper/pkg/api"
)

const (
	controlSocket = "/run/process-wrapper/control.sock"
	noControl     = "none" // as -control-socket
)

// controlPaths are where the control socket may be, in the order in which they
// are tried: what the user says alone, else the usual place and, where /run is
// read-only or belongs to another, one of the user's own in the temp dir.
func controlPaths(said string) []string {
	switch said {
	case noControl:
		return nil
	case "":
		own := fmt.Sprintf("process-wrapper-%d", os.Geteuid())
		return []string{controlSocket, filepath.Join(os.TempDir(), own, "control.sock")}
	}
	return []string{said}
}

// listenControl opens the control socket. Without one the pod runs all the same:
// what went wrong is a warning.
func (p *pod) listenControl() {
	var err error
	if p.control, err = listenFirst(controlPaths(p.flags.ControlSocket), p.log); err != nil {
		p.log.Warn("there is no control socket: ctl will not work", "err", err, "hint", "-control-socket sets its path, none turns it off")
	} else if p.control != nil {
		p.log.Debug("control socket", "path", p.control.Path())
	}
}

// listenFirst opens the first socket that can be made; of no paths it is nil.
func listenFirst(paths []string, log *slog.Logger) (*api.ControlServer, error) {
	var errs []error
	for _, path := range paths {
		s, err := api.ListenControl(path, log)
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
		if errors.Is(err, api.ErrTaken) {
			break // that one would be found first
		}
	}
	return nil, errors.Join(errs...)
}

// serveControl answers on the control socket until ctx ends.
func (p *pod) serveControl(ctx context.Context) {
	handler := api.ControlHandler(p.board, api.ControlConfig{Operator: operator{p}, Events: p.events, Usage: p.usage, Lock: p.lockOf})
	if err := p.control.Serve(ctx, handler); err != nil {
		p.log.Error("the control socket ended", "err", err)
	}
}
