package wrapper

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/process-wrapper/process-wrapper/pkg/preempt"
)

// evictionCollector shows what is known of a preemption.
type evictionCollector struct {
	state func() preempt.Notice
	stats func() preempt.Stats // nil: nobody watches
}

func evictionDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("process_wrapper_"+name, help, labels, nil)
}

var (
	preemptedDesc = evictionDesc("preempted", "Whether the pod is about to be taken away.")
	deadlineDesc  = evictionDesc("preemption_deadline_seconds", "When the pod will be gone, in Unix time, where that is known.")
	sourceDesc    = evictionDesc("preemption_source_up", "Whether the metadata server gave a good answer the last time.")
	successDesc   = evictionDesc("preemption_last_success_timestamp_seconds", "When the metadata server gave its last good answer, in Unix time.")
	requestsDesc  = evictionDesc("preemption_requests_total", "Requests to the metadata server, by status code or by what came instead.", "code")
)

func (evictionCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{preemptedDesc, deadlineDesc, sourceDesc, successDesc, requestsDesc} {
		ch <- d
	}
}

func (c evictionCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	n := c.state()
	gauge(preemptedDesc, number(n.Active))
	if !n.Deadline.IsZero() {
		gauge(deadlineDesc, float64(n.Deadline.UnixMilli())/1e3)
	}
	if c.stats == nil {
		return
	}
	s := c.stats()
	gauge(sourceDesc, number(s.Up))
	if !s.LastSuccess.IsZero() {
		gauge(successDesc, float64(s.LastSuccess.UnixMilli())/1e3)
	}
	for code, count := range s.Requests {
		ch <- prometheus.MustNewConstMetric(requestsDesc, prometheus.CounterValue, float64(count), code)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
