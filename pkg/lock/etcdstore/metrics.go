package etcdstore

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	errors *prometheus.CounterVec
	lost   prometheus.Counter
	moved  prometheus.Counter
	split  prometheus.Counter
	batch  prometheus.Histogram
}

func newMetrics(s *Store, reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	m := &metrics{
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "shared_lock_etcd_errors_total",
			Help: "Calls to etcd that failed, by kind."}, []string{"call"}),
		lost:  counter("shared_lock_expired_total", "Locks that this replica ended because they were not renewed."),
		moved: counter("shared_lock_moved_total", "Locks whose time this replica took over from another."),
		split: counter("shared_lock_batches_split_total", "Batches that were written one by one because a lease was dead."),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "shared_lock_batch_size",
			Help: "Writes that were committed together.", Buckets: []float64{1, 2, 5, 10, 20, 50, 100}}),
	}
	if reg != nil {
		reg.MustRegister(m.errors, m.lost, m.moved, m.split, m.batch,
			gauge("shared_lock_held", "Locks that are held, as seen by this replica.", s.locks),
			gauge("shared_lock_kept", "Locks whose time this replica keeps.", s.timers.size),
			gauge("shared_lock_pool_leases", "Leases that this replica has granted ahead.", s.pool.size))
	}
	return m
}

// locks counts the holders in the table.
func (s *Store) locks() int { return s.table.size() - s.table.inside(s.prefix+internal) }
