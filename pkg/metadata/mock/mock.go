// Package mock is the command metadata-mock: a metadata.Server with a command line, a control side and
// scenarios. It is apart from cmd so that go run cmd/metadata-mock/main.go works.
package mock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/metadata"
)

// flags is the command line.
type flags struct {
	Addr         string        `help:"address of the metadata server" default:":8989"`
	Control      string        `help:"address of the control side, and where ctl finds it; empty: none" default:"127.0.0.1:8990"`
	Personality  string        `help:"which cloud to play: gce, gke-wi (GKE with Workload Identity), aws, azure, or all" enum:"gce,gke-wi,aws,azure,all" default:"gce"`
	PreemptAfter time.Duration `help:"preempt by itself after that time; 0s: never" default:"0s"`
	Notice       time.Duration `help:"from the notice to the end of the machine; 0s: what the cloud gives, which is 0s, 2m on AWS, 30s on Azure" default:"0s"`
	WarmUp       time.Duration `help:"refuse connections for that long at first; 0s: what the cloud does, which is 3s for a new pod on gke-wi, else nothing; -1s: nothing" default:"0s"`
	Scenario     string        `help:"run the steps of this YAML file, then exit: 0 if all expectations held, else 1"`
	Seed         uint64        `help:"of faults by chance; the same seed gives the same run" default:"1"`
	Record       string        `help:"write each request as a line of JSON to this file; - is stdout"`

	Serve struct{} `cmd:"" default:"withargs" hidden:""`
	Ctl   ctl      `cmd:"" help:"tell a metadata-mock that runs what to do: preempt, maintenance, rebalance, azure-event, cancel, fault, set, delete, reset, state, requests or wait, with fields as name=value"`
}

// Main runs the command and exits.
func Main() {
	var f flags
	cli.Main(cli.Program{
		Name:  "metadata-mock",
		About: "Plays the metadata server of a virtual machine that is about to be preempted: GCE, AWS, Azure. SIGUSR1 preempts.",
		Flags: &f,
		Run: func(ctx context.Context, call *cli.Call) error {
			ctx, stop := cli.SignalContext(ctx)
			defer stop()
			if call.Command == "ctl" {
				return f.Ctl.run(ctx, f.Control, call.Stdout)
			}
			return run(ctx, &f, call)
		},
	})
}

// run serves until ctx ends or the scenario is over.
func run(ctx context.Context, f *flags, call *cli.Call) (err error) {
	var sc *scenario
	if f.Scenario != "" {
		if sc, err = readScenario(f.Scenario); err != nil {
			return cli.Usagef("%w", err)
		}
		sc.apply(f, call.Given)
	}
	record, err := openRecord(f.Record, call.Stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, record.Close()) }()
	c := metadata.Config{Personality: metadata.Personality(f.Personality), Notice: f.Notice, WarmUp: f.WarmUp, Seed: f.Seed, Logger: call.Log}
	if f.Record != "" {
		c.Record = record
	}
	m, err := metadata.NewServer(c)
	if err != nil {
		return cli.Usagef("%w", err)
	}
	defer m.Close()
	l, control, err := listen(f)
	if err != nil {
		return err
	}
	call.Log.Info("listening", "addr", l.Addr().String(), "control", address(control), "personality", f.Personality)
	warnOpen(control, call.Log)
	return serve(ctx, f, m, l, control, sc, call.Log)
}

// serve runs all that runs until ctx ends, one of it fails, or the scenario is over.
func serve(parent context.Context, f *flags, m *metadata.Server, l, control net.Listener, sc *scenario, log *slog.Logger) error {
	ctx, end := context.WithCancel(parent)
	defer end()
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	defer signal.Stop(usr1)
	tasks := []func() error{
		func() error { return m.Serve(ctx, l) },
		func() error { preemptOn(ctx, m, usr1, f.PreemptAfter); return nil },
	}
	if control != nil {
		tasks = append(tasks, func() error { return serveControl(ctx, control, m, log) })
	}
	if sc != nil {
		tasks = append(tasks, func() error { return sc.run(ctx, m, log) })
	}
	done := make(chan error, len(tasks))
	var wg sync.WaitGroup
	for _, task := range tasks {
		wg.Go(func() { done <- task() })
	}
	defer wg.Wait()
	var errs []error
	for range tasks {
		err := <-done
		end() // one is over: the others end too
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// preemptOn preempts at SIGUSR1 and after a time.
func preemptOn(ctx context.Context, m *metadata.Server, usr1 <-chan os.Signal, after time.Duration) {
	var late <-chan time.Time
	if after > 0 {
		t := time.NewTimer(after)
		defer t.Stop()
		late = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-usr1:
		case <-late:
		}
		m.Preempt()
	}
}

func listen(f *flags) (l, control net.Listener, err error) {
	if l, err = net.Listen("tcp", f.Addr); err != nil {
		return nil, nil, fmt.Errorf("%w: choose another address with -addr", err)
	}
	if f.Control == "" {
		return l, nil, nil
	}
	if control, err = net.Listen("tcp", f.Control); err != nil {
		_ = l.Close()
		return nil, nil, fmt.Errorf("%w: choose another address with -control", err)
	}
	return l, control, nil
}

func address(l net.Listener) string {
	if l == nil {
		return "none"
	}
	return l.Addr().String()
}

// warnOpen warns of a control side that others reach.
func warnOpen(l net.Listener, log *slog.Logger) {
	if l == nil {
		return
	}
	if tcp, isTCP := l.Addr().(*net.TCPAddr); isTCP && !tcp.IP.IsLoopback() {
		log.Warn("the control side is reachable from other machines; whoever reaches it may preempt", "control", tcp.String())
	}
}

func serveControl(ctx context.Context, l net.Listener, m *metadata.Server, log *slog.Logger) error {
	srv := &http.Server{
		Handler: m.Control(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the control side: %w", err)
	}
	return nil
}

// openRecord opens the file of -record.
func openRecord(name string, stdout io.Writer) (io.WriteCloser, error) {
	switch name {
	case "", "-":
		return nopCloser{stdout}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, cli.Usagef("-record: %w", err)
	}
	return f, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
