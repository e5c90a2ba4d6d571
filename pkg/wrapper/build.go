package wrapper

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/api"
	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/command"
	"github.com/process-wrapper/process-wrapper/pkg/output"
	"github.com/process-wrapper/process-wrapper/pkg/probe"
	"github.com/process-wrapper/process-wrapper/pkg/process"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
	"github.com/process-wrapper/process-wrapper/pkg/supervisor"
	"github.com/process-wrapper/process-wrapper/pkg/telemetry"
)

// settle is how long a process without checks must run to count as ready.
const settle = 100 * time.Millisecond

var (
	_ process.Starter = (*starter)(nil)
	_ process.Guard   = (*lock)(nil)
)

// builder turns what the config says into what runs. It is the only place that
// knows every kind of probe and hook.
type builder struct {
	environ  []string // the wrapper's
	format   output.Format
	deadline time.Duration // of the pod, the bound of every stop timeout
	out, err *output.Pump
	reaper   *command.Reaper
	queue    *queue
	pod      *supervisor.Supervisor
	counters func(process, stream string) *output.Counters
	memory   func(limit int64) func(ctx context.Context, pid int) error
	ended    func(name string, pid int, cpu time.Duration)
	oom      *telemetry.OOM
	beats    *api.Heartbeats
	outbox   *telemetry.Events                 // may be nil
	ring     func(process string) *output.Ring // nil: nobody may look at lines
	locks    *locks
	log      *slog.Logger
}

// process builds one process, and what starts it.
func (b *builder) process(p *spec.Process) (process.Config, *starter, error) {
	s, err := b.starter(p)
	if err != nil {
		return process.Config{}, nil, err
	}
	cfg := process.Config{
		Name:            p.Name,
		Starter:         s,
		Restart:         restartPolicy(p.RestartPolicy),
		Backoff:         process.Backoff(p.Backoff),
		StopSignal:      p.StopSignal,
		StopTimeout:     b.deadline,
		Settle:          settle,
		StartupDeadline: p.Readiness.StartupDeadline,
		Halt:            b.pod.Halt(),
		Kill:            b.pod.Kill(),
	}
	if p.StopTimeout != nil {
		cfg.StopTimeout = min(*p.StopTimeout, b.deadline)
	}
	if p.MaxRestarts != nil {
		cfg.MaxRestarts = process.Limit(*p.MaxRestarts)
	}
	for _, d := range p.DependsOn {
		cfg.DependsOn = append(cfg.DependsOn, process.Dependency{Names: d.Processes, Condition: condition(d.Condition)})
	}
	if l := p.Readiness.Lock; l != nil {
		if s.lock, err = b.locks.of(p, b.environ); err != nil {
			return process.Config{}, nil, err
		}
		cfg.Guard, cfg.StandbyUnready = s.lock, !l.StandbyReady
	}
	if p.MemoryLimit > 0 {
		cfg.Watch = append(cfg.Watch, b.memory(p.MemoryLimit))
	}
	k := &checks{s: s}
	k.readiness(&p.Readiness)
	k.probe("startupProbe", p.StartupProbe, process.Check{Startup: true})
	k.probe("livenessProbe", p.LivenessProbe, process.Check{})
	k.probe("readinessProbe", p.ReadinessProbe, process.Check{Gate: true})
	cfg.Checks = k.all
	for i, c := range cfg.Checks {
		if c.StopTimeout != nil && *c.StopTimeout > b.deadline { // no grace is longer than that of the pod
			cfg.Checks[i].StopTimeout = &b.deadline
		}
	}
	if p.PostStart != nil {
		cfg.OnReady = k.postStart(p.PostStart)
	}
	cfg.PostStart = k.handler(p.Lifecycle.PostStart)
	cfg.PreStop = k.handler(p.Lifecycle.PreStop)
	cfg.Close = k.close
	return cfg, s, errors.Join(k.errs...)
}

func (b *builder) starter(p *spec.Process) (*starter, error) {
	format := b.format
	if p.LogFormat != "" {
		var err error
		if format, err = output.ParseFormat(p.LogFormat); err != nil {
			return nil, err
		}
	}
	s := &starter{p: p, reaper: b.reaper, environ: b.environ, attr: attr(p), ended: b.ended, oom: b.oom, beats: b.beats, queue: b.queue}
	var ring *output.Ring
	if b.ring != nil {
		ring = b.ring(p.Name)
	}
	for i, pump := range []*output.Pump{b.out, b.err} {
		name := []string{"stdout", "stderr"}[i]
		s.streams[i] = stream{pump, output.StreamConfig{
			Name: p.Name, Out: name, Labels: p.Labels, Format: format,
			MaxLineBytes: clampInt(p.Log.MaxLineBytes),
			RateLines:    clampInt(p.Log.Rate.Lines),
			RateBytes:    clampInt(p.Log.Rate.Bytes),
			Counters:     b.counters(p.Name, name),
			Ring:         ring,
		}}
	}
	return s, nil
}

func clampInt(n int64) int { return int(min(n, math.MaxInt)) }

// attr translates whom a process runs as, and with what.
func attr(p *spec.Process) command.Attr {
	a := command.Attr{
		User:        p.Identity.User,
		Group:       p.Identity.Group,
		NonRoot:     p.Identity.RunAsNonRoot,
		Chroot:      p.Sys.Chroot,
		Setsid:      p.Sys.Setsid,
		Pdeathsig:   p.Sys.Pdeathsig,
		NoNewPrivs:  p.Sys.NoNewPrivs,
		AmbientCaps: capNames(p.Sys.AmbientCaps),
		CapAdd:      capNames(p.Sys.AddCaps),
		CapDrop:     capNames(p.Sys.DropCaps),
		Umask:       p.Sys.Umask,
		Nice:        p.Sys.Nice,
		OOMScoreAdj: p.Sys.OOMScoreAdj,
	}
	for _, g := range p.Identity.Groups {
		a.Groups = append(a.Groups, uint32(g))
	}
	for _, l := range p.Sys.Rlimits {
		a.Rlimits = append(a.Rlimits, command.Rlimit{Name: strings.ToLower(l.Name), Soft: l.Soft, Hard: l.Hard})
	}
	return a
}

func capNames(caps []spec.Cap) []string {
	var names []string
	for _, c := range caps {
		names = append(names, c.String())
	}
	return names
}

func restartPolicy(p spec.RestartPolicy) process.RestartPolicy {
	switch p {
	case spec.RestartOnFailure:
		return process.OnFailure
	case spec.RestartNever:
		return process.Never
	}
	return process.Always
}

func condition(c spec.Condition) process.Condition {
	switch c {
	case spec.DependsStarted:
		return process.IsStarted
	case spec.DependsCompleted:
		return process.IsCompleted
	}
	return process.IsReady
}

// checks builds the checks and hooks of one process.
type checks struct {
	s       *starter
	all     []process.Check
	closers []io.Closer // connections that checks keep
	errs    []error
}

// close ends what checks keep. They make it anew when they are used again.
func (k *checks) close() {
	for _, c := range k.closers {
		_ = c.Close() // a connection that is not needed any more
	}
}

// readiness adds the checks of a readiness block: each un-readies the process
// when it fails once, and has it restarted when it fails too often.
func (k *checks) readiness(r *spec.Readiness) {
	add := func(name string, p probe.Probe, timeout time.Duration) {
		k.all = append(k.all, process.Check{
			Name: name, Probe: p, Timeout: timeout, Delay: r.Delay, Period: r.Period,
			Gate: true, RestartAfter: r.FailureThreshold,
		})
	}
	if c := r.HTTP; c != nil {
		add("http", k.http(probe.HTTPConfig{URL: c.URL, BodyMustEnd: true}), c.Timeout)
	}
	if c := r.TCP; c != nil {
		add("tcp", probe.TCP(c.Socket), c.Timeout)
	}
	if c := r.File; c != nil {
		add("file", probe.File(k.path(c.Path)), c.Timeout)
	}
	if c := r.Env; c != nil {
		k.s.keepEnv = true
		add("env", probe.Env(k.s.lookup, c.Name, c.Value), 0)
	}
	if c := r.Exec; c != nil {
		add("exec", k.exec(c), c.Timeout)
	}
	if c := r.SQL; c != nil {
		add("sql", k.sql(c), c.Timeout)
	}
	if c := r.AMQP; c != nil {
		add("amqp", k.amqp(c), c.Timeout)
	}
	if c := r.HeartBeat; c != nil {
		add("heartBeat", k.heartBeat(c), 0)
	}
	if c := r.FloatingPID; c != nil {
		add("floatingPid", k.floatingPID(c), 0)
	}
}

// probe adds a probe of Kubernetes, of which c says what it means.
func (k *checks) probe(name string, p *spec.Probe, c process.Check) {
	if p == nil {
		return
	}
	c.Name = name
	if g := p.GRPC; g != nil {
		c.Probe = k.grpc(g)
	} else {
		c.Probe = k.action(p.Exec, p.HTTPGet, p.TCPSocket)
	}
	c.Delay, c.Period, c.Timeout = p.InitialDelay, p.Period, p.Timeout
	c.ReadyAfter, c.UnreadyAfter = p.SuccessThreshold, p.FailureThreshold
	if !c.Gate {
		c.RestartAfter, c.StopTimeout = p.FailureThreshold, p.TerminationGracePeriod
	}
	k.all = append(k.all, c)
}

// action is what probes and hooks of Kubernetes have in common.
func (k *checks) action(exec *spec.Exec, get *spec.HTTPGet, tcp *spec.TCPSocket) probe.Probe {
	switch {
	case exec != nil:
		return k.exec(exec)
	case get != nil:
		h := make(http.Header)
		for _, kv := range get.Headers {
			h.Add(kv.Name, kv.Value)
		}
		return k.http(probe.HTTPConfig{Scheme: get.Scheme, Host: get.Host, Port: get.Port, Path: get.Path, Header: h})
	default:
		return probe.TCP(net.JoinHostPort(tcp.Host, strconv.Itoa(tcp.Port)))
	}
}

func (k *checks) http(c probe.HTTPConfig) probe.Probe {
	c.Version = cli.ReadBuild().Version
	p, err := probe.HTTP(c)
	if err != nil {
		k.errs = append(k.errs, err)
	}
	return p
}

func (k *checks) exec(e *spec.Exec) probe.Probe {
	k.s.keepEnv = true
	return probe.Exec(e.Command[0], func(ctx context.Context) (int, []byte, error) { return k.s.run(ctx, e, nil) })
}

// path is where a path of a process is for us.
func (k *checks) path(path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(k.s.p.Dir, path)
	}
	return filepath.Join(k.s.p.Sys.Chroot, path)
}

// postStart is the hook that runs once all checks are good: its command, then its
// queries.
func (k *checks) postStart(h *spec.PostStart) process.Hook {
	k.s.keepEnv = true
	var steps []process.Hook
	if h.Command != nil {
		p := probe.Exec(h.Command.Command[0], func(ctx context.Context) (int, []byte, error) { return k.s.run(ctx, h.Command, h.Envs) })
		steps = append(steps, p.Check)
	}
	if h.SQL != nil {
		steps = append(steps, k.queries(h.SQL, h.Envs))
	}
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeoutCause(ctx, h.Deadline, errDeadline)
		defer cancel()
		for _, step := range steps {
			if err := step(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

var errDeadline = errors.New("the deadline is over")

// handler is a hook of Kubernetes, or nil.
func (k *checks) handler(h *spec.Handler) process.Hook {
	switch {
	case h == nil:
		return nil
	case h.Sleep != nil:
		return func(ctx context.Context) error { return sleep(ctx, h.Sleep.Duration) }
	}
	p := k.action(h.Exec, h.HTTPGet, h.TCPSocket)
	return func(ctx context.Context) error {
		if err := p.Check(ctx); !probe.Passed(err) {
			return err
		}
		return nil
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
