package lock

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	renewals map[string]prometheus.Counter // of requests, by result
	acquires map[string]prometheus.Counter
	acquire  prometheus.Histogram
	waited   prometheus.Histogram
	renew    prometheus.Histogram
	handover prometheus.Histogram
	forced   prometheus.Counter
}

// buckets are in seconds, from half a millisecond on.
var buckets = []float64{.0005, .001, .002, .003, .005, .0075, .01, .02, .03, .05, .075, .1, .2, .3, .5, .75, 1, 2, 5, 10, 30, 60}

func newMetrics(s *Server, reg prometheus.Registerer) *metrics {
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "shared_lock_requests_total",
			Help: "Acquisitions and renewals by result: ok, held, gone, unknown."}, []string{"op", "result"}),
		acquire:  histogram("shared_lock_acquire_duration_seconds", "Time of acquisitions that did not wait."),
		waited:   histogram("shared_lock_wait_duration_seconds", "Time of acquisitions that were told to wait and had success."),
		renew:    histogram("shared_lock_renew_duration_seconds", "Time of renewals."),
		handover: histogram("shared_lock_handover_duration_seconds", "Time from when a key was freed to when a waiter had it."),
		forced:   prometheus.NewCounter(prometheus.CounterOpts{Name: "shared_lock_forced_total", Help: "Holders that lost their lock by force."}),
	}
	m.renewals, m.acquires = byResult(m.requests, "renew"), byResult(m.requests, "acquire")
	if reg != nil {
		reg.MustRegister(m.requests, m.acquire, m.waited, m.renew, m.handover, m.forced,
			gauge("shared_lock_waiters", "Clients that wait for a lock at this replica.", s.queues.size),
			gauge("shared_lock_listeners", "Clients that listen to events.", s.hub.size))
	}
	return m
}

// byResult saves the search for a counter each time.
func byResult(all *prometheus.CounterVec, op string) map[string]prometheus.Counter {
	by := map[string]prometheus.Counter{}
	for _, r := range []string{"ok", "held", "gone", "unknown"} {
		by[r] = all.WithLabelValues(op, r)
	}
	return by
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrHeld), errors.Is(err, ErrSlots):
		return "held"
	case errors.Is(err, ErrGone):
		return "gone"
	}
	return "unknown"
}

func (m *metrics) acquired(err error, waited bool, took time.Duration) {
	m.acquires[result(err)].Inc()
	switch {
	case !waited:
		m.acquire.Observe(took.Seconds())
	case err == nil:
		m.waited.Observe(took.Seconds())
	}
}

func (m *metrics) renewed(err error, took time.Duration) {
	m.renewals[result(err)].Inc()
	m.renew.Observe(took.Seconds())
}

func (m *metrics) handedOver(freed time.Time) {
	if !freed.IsZero() {
		m.handover.Observe(time.Since(freed).Seconds())
	}
}
