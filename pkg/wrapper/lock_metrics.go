package wrapper

import (
	"github.com/prometheus/client_golang/prometheus"
)

var (
	lockHeldDesc     = evictionDesc("lock_held", "Whether the process holds its lock.", "process_name")
	lockAcquiredDesc = evictionDesc("lock_acquisitions_total", "Times that the lock was acquired, and requests for it that failed.", "process_name", "result")
	lockLostDesc     = evictionDesc("lock_lost_total", "Times that the lock was lost: gone, says the server, or not renewed in time.", "process_name", "reason")
)

// lockCollector shows the locks of the processes.
type lockCollector struct{ locks *locks }

func (lockCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{lockHeldDesc, lockAcquiredDesc, lockLostDesc} {
		ch <- d
	}
}

func (c lockCollector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	all := c.locks.stats()
	for _, name := range sortedKeys(all) {
		st := all[name]
		ch <- prometheus.MustNewConstMetric(lockHeldDesc, prometheus.GaugeValue, number(st.Held), name)
		count(lockAcquiredDesc, st.Acquired, name, "acquired")
		count(lockAcquiredDesc, st.Failed, name, "failed")
		count(lockLostDesc, st.Gone, name, "gone")
		count(lockLostDesc, st.Late, name, "late")
	}
}
