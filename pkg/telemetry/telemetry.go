// Package telemetry measures processes and publishes what is known of them to
// Prometheus.
//
// A [Metrics] counts edges as an observer of the board, and reads levels from
// the board when it is scraped. A [Sampler] measures whole process trees. It
// reads /proc once for all of them, every 10 seconds, or every second while a
// memory limit is watched, and not at all while nothing runs:
//
//   - A process belongs to the nearest ancestor that the board knows. An orphan
//     stays with the tree in which it was last seen, else goes to the one whose
//     main process leads its group or session.
//   - Memory is the sum of the resident sets of a tree. Pages that processes
//     share count for each of them.
//   - CPU time is what a tree has ever used, over all incarnations, without
//     falling when a worker ends. What a main process uses after the last look
//     at it is in its exit status, which [Sampler.Ended] adds, so jobs shorter
//     than the interval count too. What another process uses between the last
//     look at it and its end counts only where its parent waits for it.
package telemetry

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// maxWords bounds how many reasons, and how many probes, one process may have.
const maxWords = 64

// Metrics counts what happens on a board: it is an observer of it. Make one
// with [NewMetrics], and publish it with [Metrics.Register].
type Metrics struct {
	mu      sync.RWMutex // guards records
	records map[string]*record
}

// NewMetrics returns metrics that have seen nothing.
func NewMetrics() *Metrics { return &Metrics{records: make(map[string]*record)} }

// Observe counts a transition.
func (m *Metrics) Observe(old, new status.State) {
	if old.Name != new.Name {
		return // it was declared, nothing happened
	}
	restarted := new.Restarts > old.Restarts
	ended := old.PID != 0 && new.PID == 0 && !new.Ended.Before(new.Started)
	if !restarted && !ended {
		return
	}
	r := m.record(new.Name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if restarted {
		r.restart(new.Reason, new.Restarts-old.Restarts)
	}
	if ended {
		r.runs.observe(runBounds, new.Ended.Sub(new.Started))
	}
}

// ObserveCheck counts the verdict of a probe.
func (m *Metrics) ObserveCheck(c status.Check) {
	r := m.record(c.Process)
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.probe(c.Probe)
	if i := slices.Index(results, c.Result); i >= 0 {
		p.results[i]++
	}
	p.took.observe(probeBounds, c.Duration)
}

// Forget drops what was counted of a process that is no more.
func (m *Metrics) Forget(process string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.records, process)
}

// record returns what is counted of a process.
func (m *Metrics) record(name string) *record {
	m.mu.RLock()
	r := m.records[name]
	m.mu.RUnlock()
	if r != nil {
		return r
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if r = m.records[name]; r == nil {
		r = &record{labels: []*dto.LabelPair{label("process_name", name)}}
		m.records[name] = r
	}
	return r
}

// record is what is counted of one process.
type record struct {
	labels []*dto.LabelPair // of the process alone, never changed

	mu       sync.Mutex // guards what follows
	restarts []restarts
	probes   []*probe
	runs     histogram
}

type restarts struct {
	reason string
	n      int
}

type probe struct {
	name    string
	results [3]uint64 // as in results
	took    histogram
}

var results = []status.Result{status.Fail, status.Pass, status.Unknown}

func (r *record) restart(reason string, n int) {
	i := slices.IndexFunc(r.restarts, func(x restarts) bool { return x.reason == reason })
	if i < 0 {
		if len(r.restarts) == maxWords-1 {
			reason = "other"
		}
		if len(r.restarts) == maxWords {
			i = maxWords - 1
		} else {
			i = len(r.restarts)
			r.restarts = append(r.restarts, restarts{reason: reason})
		}
	}
	r.restarts[i].n += n
}

func (r *record) probe(name string) *probe {
	for _, p := range r.probes {
		if p.name == name {
			return p
		}
	}
	if len(r.probes) == maxWords {
		return r.probes[maxWords-1]
	}
	if len(r.probes) == maxWords-1 {
		name = "other"
	}
	p := &probe{name: name}
	r.probes = append(r.probes, p)
	return p
}

var (
	runBounds   = []float64{0.1, 1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600}
	probeBounds = []float64{0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30}
)

// histogram takes no memory to speak of until it has seen something.
type histogram struct {
	counts []uint64 // by bound, and beyond the last one
	sum    float64
}

func (h *histogram) observe(bounds []float64, d time.Duration) {
	if h.counts == nil {
		h.counts = make([]uint64, len(bounds)+1)
	}
	v := d.Seconds()
	i, _ := slices.BinarySearch(bounds, v)
	h.counts[i]++
	h.sum += v
}

func (h *histogram) proto(bounds []float64) *dto.Histogram {
	out := &dto.Histogram{Bucket: make([]*dto.Bucket, len(bounds))}
	var n uint64
	for i, le := range bounds {
		n += h.counts[i]
		out.Bucket[i] = &dto.Bucket{UpperBound: proto.Float64(le), CumulativeCount: proto.Uint64(n)}
	}
	out.SampleSum = proto.Float64(h.sum)
	out.SampleCount = proto.Uint64(n + h.counts[len(bounds)])
	return out
}

// label makes a label that cannot make a scrape fail.
func label(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: &name, Value: proto.String(strings.ToValidUTF8(value, string('\uFFFD')))}
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
