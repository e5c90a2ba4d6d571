package telemetry

import (
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// LogCount is how many lines of one kind a stream of a process had.
type LogCount struct {
	Process string // empty for our own lines
	Stream  string // stdout or stderr
	Level   string // of lines that were passed on; empty for dropped ones
	Reason  string // why lines were dropped; empty for others
	Lines   uint64
}

// Sources is where a scrape finds what [Metrics] does not count itself. Board
// is needed.
type Sources struct {
	Board   *status.Board
	Usage   func(process string) (Usage, bool)                // false while not known
	Beat    func(process string) (last time.Time, known bool) // its latest heartbeat, or nil
	Logs    iter.Seq[LogCount]                                // each kind at most once
	Events  *Events                                           // nil: none are sent
	Lost    func() uint64                                     // messages that the sender of events had to drop, or nil
	Version string
	Commit  string
}

// Register publishes the metrics, and those of this program itself.
func (m *Metrics) Register(reg prometheus.Registerer, src Sources) error {
	all := []prometheus.Collector{
		&collector{newDescs(), m, src},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	var errs []error
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			errs = append(errs, fmt.Errorf("register metrics: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Gatherer returns what gathers all that Register publishes. It registers when it
// is first asked, which takes a while, and what more makes then too, and then tells
// of errors. It gathers once at a time: each reads /proc on several threads, and a
// pod that has used up its processes gets no more of them.
func (m *Metrics) Gatherer(src Sources, more ...func() prometheus.Collector) prometheus.Gatherer {
	registry := sync.OnceValues(func() (*prometheus.Registry, error) {
		reg := prometheus.NewRegistry()
		errs := []error{m.Register(reg, src)}
		for _, c := range more {
			errs = append(errs, reg.Register(c()))
		}
		return reg, errors.Join(errs...)
	})
	var turn sync.Mutex
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		reg, err := registry()
		turn.Lock()
		defer turn.Unlock() // also where a collector panics
		families, gathering := reg.Gather()
		return families, errors.Join(err, gathering)
	})
}

type desc struct {
	*prometheus.Desc
	kind dto.MetricType
}

const (
	counter = dto.MetricType_COUNTER
	gauge   = dto.MetricType_GAUGE
	histo   = dto.MetricType_HISTOGRAM
)

func describe(kind dto.MetricType, name, help string, labels ...string) desc {
	return desc{prometheus.NewDesc("process_wrapper_"+name, help, labels, nil), kind}
}

// descs are all metrics.
type descs struct {
	up       desc
	ready    desc
	restarts desc
	runs     desc
	exit     desc
	start    desc
	cpu      desc
	memory   desc
	fds      desc
	maxFDs   desc
	threads  desc
	probes   desc
	probe    desc
	beat     desc
	lines    desc
	dropped  desc
	events   desc
	lost     desc
	build    desc
}

func newDescs() *descs {
	return &descs{
		up:       describe(gauge, "process_up", "Whether the process is alive.", "process_name"),
		ready:    describe(gauge, "process_ready", "Whether the process counts as ready.", "process_name"),
		restarts: describe(counter, "process_restarts_total", "How often the process was started again, by why its last incarnation ended.", "process_name", "reason"),
		runs:     describe(histo, "process_run_duration_seconds", "How long incarnations of the process ran.", "process_name"),
		exit:     describe(gauge, "process_last_exit_code", "Exit code of the last incarnation that ended, 128+n for a signal.", "process_name"),
		start:    describe(gauge, "process_start_time_seconds", "When the current incarnation was started, in Unix time.", "process_name"),
		cpu:      describe(counter, "process_cpu_seconds_total", "CPU time of the whole process tree, over all incarnations.", "process_name"),
		memory:   describe(gauge, "process_resident_memory_bytes", "Resident memory of the whole process tree; shared pages count for each of its processes.", "process_name"),
		fds:      describe(gauge, "process_open_fds", "Open file descriptors of the whole process tree.", "process_name"),
		maxFDs:   describe(gauge, "process_max_fds", "Soft limit of open file descriptors of the main process.", "process_name"),
		threads:  describe(gauge, "process_threads", "Threads of the whole process tree.", "process_name"),
		probes:   describe(counter, "probe_total", "Verdicts of a probe.", "probe", "process_name", "result"),
		probe:    describe(histo, "probe_duration_seconds", "How long checks of a probe took.", "probe", "process_name"),
		beat:     describe(gauge, "heartbeat_age_seconds", "Time since the latest heartbeat of the process.", "process_name"),
		lines:    describe(counter, "log_lines_total", "Lines of the process that were passed on.", "level", "process_name", "stream"),
		dropped:  describe(counter, "log_dropped_lines_total", "Lines of the process that were dropped.", "process_name", "reason", "stream"),
		events:   describe(counter, "events_sent_total", "Events given to the sender to the metrics server; what it has no room for is in events_dropped_total.", "type"),
		lost:     describe(counter, "events_dropped_total", "Events that could not be sent to the metrics server."),
		build:    describe(gauge, "build_info", "Always 1.", "commit", "goversion", "version"),
	}
}

type collector struct {
	*descs
	m   *Metrics
	src Sources
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []desc{
		c.up, c.ready, c.restarts, c.runs, c.exit, c.start, c.cpu, c.memory,
		c.fds, c.maxFDs, c.threads, c.probes, c.probe, c.beat, c.lines, c.dropped, c.events, c.lost, c.build,
	} {
		ch <- d.Desc
	}
}

// Collect sends everything that is known now. A process that is configured but
// not to be run has nothing to tell.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	out := output{c.descs, ch}
	snap, _ := c.src.Board.Load()
	states := slices.Collect(snap.All)
	sort.Slice(states, func(i, j int) bool { return states[i].Name < states[j].Name }) // so that the registry need not
	for _, st := range states {
		if st.Phase == status.Skipped {
			continue
		}
		r := c.m.record(st.Name)
		out.state(r, st)
		out.counted(r)
		if c.src.Usage != nil {
			if u, ok := c.src.Usage(st.Name); ok {
				out.usage(r, u, st.PID)
			}
		}
		if c.src.Beat != nil {
			if last, known := c.src.Beat(st.Name); known {
				out.send(out.beat, time.Since(last).Seconds(), r.labels...)
			}
		}
	}
	if c.src.Logs != nil {
		for l := range c.src.Logs {
			if _, known := snap.Get(l.Process); known || l.Process == "" {
				out.log(c.m.record(l.Process), l)
			}
		}
	}
	out.events(c.src)
	out.send(out.build, 1, label("commit", c.src.Commit), label("goversion", runtime.Version()), label("version", c.src.Version))
}

// output is where a scrape's series go. Labels are in order of their names.
type output struct {
	*descs
	ch chan<- prometheus.Metric
}

func (o output) send(d desc, v float64, labels ...*dto.LabelPair) {
	if finite(v) {
		o.ch <- &series{desc: d, labels: labels, value: v}
	}
}

func (o output) state(r *record, st status.State) {
	o.send(o.up, number(st.Phase.Alive()), r.labels...)
	o.send(o.ready, number(st.Phase.Ready()), r.labels...)
	if st.Phase.Alive() && !st.Started.IsZero() {
		o.send(o.start, float64(st.Started.UnixMilli())/1e3, r.labels...)
	}
	if !st.Ended.IsZero() && st.ExitCode >= 0 {
		o.send(o.exit, float64(st.ExitCode), r.labels...)
	}
}

func (o output) usage(r *record, u Usage, pid int) {
	o.send(o.cpu, u.CPU.Seconds(), r.labels...)
	if pid == 0 || pid != u.PID {
		return // it is of an incarnation that is gone
	}
	o.send(o.memory, float64(u.Memory), r.labels...)
	o.send(o.threads, float64(u.Threads), r.labels...)
	o.send(o.fds, float64(u.FDs), r.labels...)
	if u.MaxFDs > 0 {
		o.send(o.maxFDs, float64(u.MaxFDs), r.labels...)
	}
}

func (o output) events(src Sources) {
	if src.Events == nil {
		return
	}
	sent, dropped := src.Events.Counts()
	for _, c := range sent {
		o.send(o.descs.events, float64(c.N), label("type", c.Type))
	}
	if src.Lost != nil {
		dropped = src.Lost()
	}
	o.send(o.lost, float64(dropped))
}

func (o output) counted(r *record) {
	for _, s := range r.series(o.descs) {
		o.ch <- s
	}
}

func (o output) log(r *record, l LogCount) {
	process, stream := r.labels[0], label("stream", l.Stream)
	switch {
	case l.Reason != "":
		o.send(o.dropped, float64(l.Lines), process, label("reason", l.Reason), stream)
	case l.Lines > 0:
		o.send(o.lines, float64(l.Lines), label("level", l.Level), process, stream)
	}
}

// series copies what was counted: nobody who counts waits for a scrape.
func (r *record) series(d *descs) []prometheus.Metric {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []prometheus.Metric
	process := r.labels[0]
	for _, x := range r.restarts {
		out = append(out, &series{desc: d.restarts, value: float64(x.n), labels: []*dto.LabelPair{process, label("reason", x.reason)}})
	}
	if r.runs.counts != nil {
		out = append(out, &series{desc: d.runs, labels: r.labels, histogram: r.runs.proto(runBounds)})
	}
	for _, p := range r.probes {
		name := label("probe", p.name)
		for i, n := range p.results {
			out = append(out, &series{desc: d.probes, value: float64(n), labels: []*dto.LabelPair{name, process, label("result", string(results[i]))}})
		}
		out = append(out, &series{desc: d.probe, labels: []*dto.LabelPair{name, process}, histogram: p.took.proto(probeBounds)})
	}
	return out
}

// series is one sample of a scrape. The generic constant metric checks and
// sorts the labels of each anew; ours are made once for each process.
type series struct {
	desc      desc
	labels    []*dto.LabelPair
	value     float64
	histogram *dto.Histogram
}

func (s *series) Desc() *prometheus.Desc { return s.desc.Desc }

func (s *series) Write(out *dto.Metric) error {
	out.Label = s.labels
	switch s.desc.kind {
	case counter:
		out.Counter = &dto.Counter{Value: &s.value}
	case gauge:
		out.Gauge = &dto.Gauge{Value: &s.value}
	default:
		out.Histogram = s.histogram
	}
	return nil
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
