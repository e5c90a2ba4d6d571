package wrapper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/process-wrapper/process-wrapper/pkg/api"
	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/command"
	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/output"
	kube "github.com/process-wrapper/process-wrapper/pkg/pod"
	"github.com/process-wrapper/process-wrapper/pkg/preempt"
	"github.com/process-wrapper/process-wrapper/pkg/profile"
	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
	"github.com/process-wrapper/process-wrapper/pkg/status"
	"github.com/process-wrapper/process-wrapper/pkg/supervisor"
	"github.com/process-wrapper/process-wrapper/pkg/telemetry"
)

const (
	// restGrace is what is still below us at the end gets between TERM and KILL.
	restGrace = 500 * time.Millisecond
	// lateFlush is for our output to be taken once the time to stop is over.
	lateFlush = 500 * time.Millisecond
)

// pod is everything that runs, in the order in which it is taken down.
type pod struct {
	log     *slog.Logger
	flags   *flags
	units   *supervisor.Supervisor
	board   *status.Board
	reaper  *command.Reaper
	out     *output.Pump
	err     *output.Pump // may be out
	metrics *telemetry.Metrics
	sampler *telemetry.Sampler
	server  *api.Server
	ready   *api.ReadinessFile
	beats   *api.Heartbeats
	profile *profile.Pusher
	outbox  *telemetry.Events // events for a metrics server; nil: none are sent
	sender  *datagram.Sender  // of the events
	counts  counts            // of the processes' streams
	merger  *prommerge.Merger
	pages   atomic.Pointer[[]page] // of the processes' metrics
	env     *environment
	builder *builder
	events  *api.Events
	rings   rings
	locks   *locks
	control *api.ControlServer // nil: none
	reloads chan string        // why
	turn    chan struct{}      // of one reload at a time
	seen    print              // of the config that was read first, for -config-watch

	reloading sync.Mutex // held during a reload; guards crew
	crew      crew

	broken atomic.Bool // something ended that must not

	eviction *eviction
	watcher  *preempt.Watcher // nil: preemption is not watched for
	kube     *kube.Config     // nil: the pod's status is not watched
}

// usage is what the API shows of what a process consumes.
func (p *pod) usage(name string) (api.Usage, bool) {
	u, ok := p.sampler.Usage(name)
	return api.Usage{
		Time: u.Time, CPU: u.CPU, CPUPercent: u.CPUPercent, Memory: u.Memory,
		Processes: u.Processes, Threads: u.Threads, FDs: u.FDs, MaxFDs: u.MaxFDs,
	}, ok
}

// history is what the page draws of it.
func (p *pod) history(name string) []api.Point {
	points := p.sampler.History(name)
	all := make([]api.Point, len(points))
	for i, u := range points {
		all[i] = api.Point(u)
	}
	return all
}

// streams yields what was counted of all output: of the processes, and of what
// the pumps themselves had to drop.
func (p *pod) streams(yield func(telemetry.LogCount) bool) {
	own := []streamCount{{"", "stderr", p.err.Counters()}}
	if p.out != p.err {
		own = append(own, streamCount{"", "stdout", p.out.Counters()})
	}
	p.counts.logs(yield, own...)
}

// run is process-wrapper without a subcommand.
func run(ctx context.Context, call *cli.Call, f *flags, env *environment, signals *signals) error {
	setGC(startGC)
	cfg, seen, err := read(call, f, env, signals)
	if cfg == nil {
		return err
	}
	format, err := output.ParseFormat(env.logFormat)
	if err != nil {
		return cli.Usagef("environment variable LOG_FORMAT: %w", err)
	}
	var room sync.WaitGroup
	defer room.Wait()
	room.Go(func() { makeRoom(len(cfg.Processes)) })
	var p *pod
	sig, err := signals.during(call.Log, env.files(), func() (err error) {
		p, err = newPod(call, f, env)
		return err
	})
	if sig != nil {
		call.Log.Info("ended before anything was started", "signal", signalName(sig))
		return nil
	}
	if err != nil {
		return err
	}
	p.seen = seen
	for _, w := range cfg.Warnings {
		p.log.Warn("config", "warning", w.Error())
	}
	p.listenControl()
	if p.control != nil {
		defer p.control.Close() // for the last time; an error says that it was closed before
	}
	var units []supervisor.Unit
	sig, err = signals.during(call.Log, keyFiles(cfg), func() (err error) {
		units, err = p.build(cfg, format)
		return err
	})
	if sig != nil {
		call.Log.Info("ended before anything was started", "signal", signalName(sig))
		return nil
	}
	if err != nil {
		return err
	}
	if err := p.open(len(cfg.Processes)); err != nil {
		return err
	}
	code := p.serve(ctx, signals, units)
	if code != 0 {
		p.fail(code)
		return &cli.ExitError{Code: code}
	}
	return nil
}

// read loads the config, and what it was read from as -config-watch sees it. Both
// are zero where a signal came first.
func read(call *cli.Call, f *flags, env *environment, signals *signals) (*spec.Config, print, error) {
	var cfg *spec.Config
	var seen print
	sig, err := signals.during(call.Log, []string{cmp.Or(f.Config, "CONFIG")}, func() (err error) { // which hangs with its file, or a person who types
		if f.ConfigWatch {
			seen = fingerprint(f.Config) // before it is read: no change is missed
		}
		cfg, err = load(f, env)
		return err
	})
	if sig != nil {
		call.Log.Info("ended before the config was read", "signal", signalName(sig))
		return nil, print{}, nil
	}
	return cfg, seen, err
}

// open gets what nothing can be run without.
func (p *pod) open(processes int) error {
	if err := p.server.Listen(p.env.healthSocket); errors.Is(err, api.ErrAddress) {
		return cli.Usagef("%w", err)
	} else if err != nil {
		return err
	}
	p.log.Info("listening", "addr", p.server.Addr().String(), "processes", processes, "pid", os.Getpid(), "version", cli.ReadBuild().Version)
	if err := p.startPumps(); err != nil {
		return err
	}
	if err := p.reaper.Impaired(); err != nil {
		p.log.Warn("not all can be done here that is promised", "err", err)
	}
	return nil
}

// load reads the config from where the user says it is; there may be none.
func load(f *flags, env *environment) (*spec.Config, error) {
	var cfg *spec.Config
	var err error
	switch {
	case f.Run.config != nil:
		cfg, err = spec.Parse("command line", f.Run.config, spec.Options{})
	case f.Config != "":
		cfg, err = spec.Load(f.Config, spec.Options{Stdin: os.Stdin})
	case env.config != "":
		cfg, err = spec.Parse("CONFIG", []byte(env.config), spec.Options{})
	default:
		return &spec.Config{Warnings: spec.Errors{{
			Msg: "no processes: neither -config nor the environment variable CONFIG is set", Hint: "give one of them",
		}}}, nil
	}
	if many := (spec.Errors)(nil); errors.As(err, &many) {
		return nil, cli.Usagef("the config is wrong, nothing was started:\n%w", err)
	}
	if err != nil {
		return nil, cli.Usagef("%w", err)
	}
	return cfg, nil
}

// newPod makes all parts; none of them runs yet.
func newPod(call *cli.Call, f *flags, env *environment) (*pod, error) {
	p := &pod{flags: f, units: supervisor.New(), reaper: command.NewReaper(), beats: new(api.Heartbeats), env: env, events: new(api.Events), reloads: make(chan string, 1), turn: make(chan struct{}, 1)}
	var err error
	if p.err, err = output.NewPump(os.Stderr, output.PumpOptions{}); err != nil {
		return nil, fmt.Errorf("open stderr: %w", err)
	}
	level := slog.LevelInfo
	if call.Debug {
		level = slog.LevelDebug
	}
	p.log = slog.New(output.NewHandler(p.err, level))
	p.out = p.err
	if !sameFile(os.Stdout, os.Stderr) {
		if p.out, err = output.NewPump(os.Stdout, output.PumpOptions{Failing: p.stdoutFails}); err != nil {
			return nil, fmt.Errorf("open stdout: %w", err)
		}
	}
	p.metrics = telemetry.NewMetrics()
	if p.outbox, p.sender, err = newEvents(env); err != nil {
		return nil, cli.Usagef("%v", err)
	}
	p.board = status.NewBoard(p.metrics, p.events, newJournal(p.log), p.outbox)
	p.sampler = telemetry.NewSampler(p.log)
	p.ready = &api.ReadinessFile{Path: f.ReadinessFile, Log: p.log}
	p.merger = newMerger(f, p.log)
	build := cli.ReadBuild()
	p.server = api.NewServer(api.Handler(p.board, api.Config{
		Metrics: metricsHandler(p.metrics.Gatherer(telemetry.Sources{
			Board: p.board, Usage: p.sampler.Usage, Beat: p.beats.Last, Logs: p.streams, Events: p.outbox, Lost: p.lost, Version: build.Version, Commit: build.Commit,
		}, func() prometheus.Collector { return p.evictionMetrics() }, func() prometheus.Collector { return lockCollector{p.locks} }), p.log),
		Prommerge:  p.merger.Handler(p.targets),
		Heartbeats: p.beats,
		Usage:      p.usage,
		History:    p.history,
		Events:     p.events,
		Lock:       p.lockOf,
	}), p.log)
	if p.locks, err = newLocks(f, env, p.log); err != nil {
		return nil, err
	}
	if p.profile, err = profile.New(f.PyroscopeURL, "process-wrapper", env.podName, p.log); err != nil {
		return nil, cli.Usagef("-pyroscope-url %v", err)
	}
	return p, errors.Join(p.evictable(f, env), p.terminable(f, env))
}

// stdoutFails tells on stderr what stdout did not take.
func (p *pod) stdoutFails(cause error, lost int) {
	p.log.Error("lines are lost because stdout cannot be written", "err", cause, "dropped", lost)
}

// sameFile reports whether two descriptors write to the same place.
func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	y, err2 := b.Stat()
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// build makes a unit of each process that is to run, and declares all.
func (p *pod) build(cfg *spec.Config, format output.Format) ([]supervisor.Unit, error) {
	p.builder = &builder{
		environ: spec.CleanEnv(os.Environ()), format: format, deadline: p.flags.GracefulShutdownDeadline,
		out: p.out, err: p.err, reaper: p.reaper, queue: newQueue(p.units.Halt(), maxStarts), pod: p.units,
		counters: p.counts.add, memory: p.sampler.Watch,
		ended: p.sampler.Ended, oom: telemetry.NewOOM(), beats: p.beats, outbox: p.outbox, log: p.log,
		locks: p.locks,
	}
	if p.control != nil {
		p.builder.ring = p.rings.of
	}
	skip := skipped(p.flags.SkipCommands, cfg, p.log)
	states := make([]status.State, 0, len(cfg.Processes))
	units := make([]supervisor.Unit, 0, len(cfg.Processes))
	p.crew = make(crew, len(cfg.Processes))
	for _, s := range cfg.Processes {
		m, err := p.builder.member(s, p.board)
		if err != nil {
			return nil, err
		}
		st := m.proc.State()
		if m.skipped = skip(s); m.skipped {
			st.Phase = status.Skipped
		} else {
			units = append(units, m.unit())
		}
		states = append(states, st)
		p.crew[s.Name] = m
	}
	pages := pagesOf(cfg.Processes, skip)
	p.pages.Store(&pages)
	p.board.Declare(states...)
	return units, nil
}

// skipped says which processes are not to run, and warns of names that are
// none.
func skipped(list string, cfg *spec.Config, log *slog.Logger) func(*spec.Process) bool {
	names := make(map[string]bool)
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names[name] = false
		}
	}
	if len(names) == 0 {
		return func(*spec.Process) bool { return false }
	}
	for _, p := range cfg.Processes {
		for name := range names {
			if p.Is(name) {
				names[name] = true
			}
		}
	}
	for _, name := range sortedKeys(names) {
		if !names[name] {
			var known []string
			for _, p := range cfg.Processes {
				known = append(known, p.Name)
			}
			log.Warn("-skip-commands names a process that is not configured", "unknown", name, "known", strings.Join(known, ", "))
		}
	}
	return func(p *spec.Process) bool { return names[p.Name] || names[p.Base] }
}

// serve runs the pod until it ends, and returns its exit code.
func (p *pod) serve(ctx context.Context, signals *signals, units []supervisor.Unit) int {
	// The helpers outlive the processes, and end in the reverse order.
	helpers, end := context.WithCancel(context.WithoutCancel(ctx))
	pumps, flush := context.WithCancel(context.WithoutCancel(ctx))
	var wg, pumping sync.WaitGroup
	wg.Go(func() {
		if err := p.reaper.Run(helpers); err != nil {
			p.log.Error("the wait loop ended", "err", err)
		}
	})
	wg.Go(func() { makeThreads(spareThreads) })
	pumping.Go(func() { p.pump(pumps, p.err, "stderr") })
	if p.out != p.err {
		pumping.Go(func() { p.pump(pumps, p.out, "stdout") })
	}
	wg.Go(func() { p.sampler.Run(helpers, p.board) })
	wg.Go(func() { p.ready.Run(helpers, p.board) })
	signals.early(p) // before anybody else takes them
	wg.Go(func() { signals.serve(helpers, p) })
	wg.Go(func() { p.serveReloads(helpers) })
	if p.control != nil {
		wg.Go(func() { p.serveControl(helpers) })
	}
	if p.flags.ConfigWatch {
		wg.Go(func() {
			if err := p.watchConfig(helpers); err != nil {
				p.log.Error("changes of the config will not be seen: SIGHUP reloads it", "err", err)
			}
		})
	}
	wg.Go(func() {
		if err := p.server.Serve(helpers); err != nil {
			p.log.Error("the health server ended", "err", err)
		}
	})
	wg.Go(func() { p.profile.Run(helpers) })
	wg.Go(func() { p.sendEvents(helpers) })
	wg.Go(func() { tidy(helpers, p.board, p.log) })
	wg.Go(func() { announce(helpers, p.board, p.log) })
	if p.watcher != nil {
		wg.Go(func() { p.watcher.Run(helpers) })
	}
	if p.kube != nil {
		wg.Go(func() { p.watchPod(helpers) })
	}

	code := p.units.Run(ctx, supervisor.Config{
		Units:      units,
		DrainDelay: p.flags.DrainDelay,
		Deadline:   p.flags.GracefulShutdownDeadline,
		Until:      p.eviction.deadline,
		OnDrain:    p.drain,
		Linger:     len(units) == 0,
	})
	p.reaper.Dismiss()
	p.locks.close(ctx)
	p.rest()
	p.approve()
	end()
	wg.Wait()
	p.merger.Close()
	if p.broken.Load() {
		code = max(code, 1)
	}
	p.eviction.close()
	p.log.Info("ended", "code", code)
	if p.units.Kill().Err() != nil {
		p.out.FlushWithin(lateFlush)
		p.err.FlushWithin(lateFlush)
	}
	flush()
	pumping.Wait()
	return code
}

// startPumps fails where the processes' output would not be carried.
func (p *pod) startPumps() error {
	if err := p.err.Start(); err != nil {
		return fmt.Errorf("stderr: %w", err)
	}
	if p.out == p.err {
		return nil
	}
	if err := p.out.Start(); err != nil {
		return fmt.Errorf("stdout: %w", err)
	}
	return nil
}

// pump carries output. Without it the processes would block in their writes.
func (p *pod) pump(ctx context.Context, pump *output.Pump, name string) {
	if err := pump.Run(ctx); err != nil {
		p.log.Error("the output pump ended", "out", name, "err", err)
		p.broken.Store(true)
		p.units.Stop(supervisor.Graceful, "the output pump ended")
	}
}

// drain takes the pod out of service, before any process is told to stop.
func (p *pod) drain(reason string, within time.Duration) {
	p.ready.Remove()
	why := reason
	p.board.UpdatePod(func(pod *status.Pod) {
		why = reasonOf(reason, *pod)
		pod.Draining, pod.Reason = true, why
		pod.Deadline = time.Now().Add(within).Round(time.Millisecond)
	})
	p.outbox.Terminating(reason)
	p.log.Info("leaving service", "reason", why, "deadline", within.Round(time.Millisecond))
}

// rest ends what no process could be found to have left behind, without grace
// where the time to stop is over.
func (p *pod) rest() {
	if n, err := p.reaper.KillRest(p.units.Kill(), restGrace); err != nil {
		p.log.Warn("some processes would not end", "err", err)
	} else if n > 0 {
		p.log.Info("ended processes that were left behind", "count", n)
	}
}

// fail writes where the pod's last words go why it failed.
func (p *pod) fail(code int) {
	snap, _ := p.board.Load()
	var why []string
	for st := range snap.All {
		if st.Phase == status.Failed {
			why = append(why, fmt.Sprintf("%s: %v", st.Name, st.Cause))
		}
	}
	if len(why) == 0 {
		why = append(why, snap.Pod().Reason)
	}
	terminationLog(terminationLogPath, fmt.Sprintf("exit code %d: %s", code, strings.Join(why, "; ")))
}
