package collect

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// stats counts what became of messages.
type stats struct {
	applied   [16]atomic.Uint64 // by op
	malformed [64]atomic.Uint64 // by datagram.Reason
	refused   [reasons]atomic.Uint64
}

func (s *stats) refuse(why reason, n int) { s.refused[why].Add(uint64(n)) }

type desc = prometheus.Desc

func describe(name, help string, labels ...string) *desc {
	return prometheus.NewDesc("metrics_server_"+name, help, labels, nil)
}

var (
	descReceived    = describe("received_total", "Datagrams received.", "listener")
	descBytes       = describe("received_bytes_total", "Bytes received.", "listener")
	descConnections = describe("connections", "Open connections.", "listener")
	descRefused     = describe("connections_refused_total", "Connections that were closed because too many were open.", "listener")
	descKernel      = describe("kernel_drops_total", "Datagrams that the kernel dropped because the receive buffer was full.", "listener")
	descBuffer      = describe("receive_buffer_bytes", "Receive buffer that the kernel granted.", "listener")
	descParsed      = describe("parsed_total", "Messages that were well formed.")
	descApplied     = describe("applied_total", "Messages that changed a series or were given to a sink.", "op")
	descDropped     = describe("dropped_total", "Messages that were malformed or rejected, and datagrams that the queue had no room for.", "kind", "reason")
	descQueue       = describe("queue_datagrams", "Datagrams that wait to be read.")
	descQueueBytes  = describe("queue_bytes", "Bytes that wait to be read.")
	descSeries      = describe("series", "Series that are kept.")
	descSeriesLimit = describe("series_limit", "How many series are kept at most.")
	descSeriesBytes = describe("series_bytes", "Memory of the series, as it is counted for its limit.")
	descExpired     = describe("series_expired_total", "Series that were removed because no message named them within their time to live.")
)

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*desc{
		descReceived, descBytes, descConnections, descRefused, descKernel, descBuffer, descParsed, descApplied, descDropped,
		descQueue, descQueueBytes, descSeries, descSeriesLimit, descSeriesBytes, descExpired,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	send := func(d *desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	var parsed uint64
	for op := datagram.Inc; op <= datagram.Add; op++ {
		n := s.stats.applied[op].Load()
		parsed += n
		send(descApplied, prometheus.CounterValue, float64(n), op.String())
	}
	for _, r := range datagram.Reasons() {
		send(descDropped, prometheus.CounterValue, float64(s.stats.malformed[r].Load()), "malformed", r.Error())
	}
	for r := reason(1); r < reasons; r++ {
		n, name := s.stats.refused[r].Load(), reasonNames[r]
		if r < queueFull {
			parsed += n
		}
		if r == cutOff {
			name = "datagram_too_long" // a message that is cut off has its own
		}
		send(descDropped, prometheus.CounterValue, float64(n), r.kind(), name)
	}
	send(descParsed, prometheus.CounterValue, float64(parsed))
	for _, l := range s.listeners {
		send(descReceived, prometheus.CounterValue, float64(l.received.Load()), l.name)
		send(descBytes, prometheus.CounterValue, float64(l.bytes.Load()), l.name)
		if l.packets() {
			drops, granted := l.kernel()
			send(descKernel, prometheus.CounterValue, float64(drops), l.name)
			send(descBuffer, prometheus.GaugeValue, float64(granted), l.name)
		} else {
			send(descConnections, prometheus.GaugeValue, float64(l.open.Load()), l.name)
			send(descRefused, prometheus.CounterValue, float64(l.turnedAway.Load()), l.name)
		}
	}
	n, size := s.queue.depth()
	send(descQueue, prometheus.GaugeValue, float64(n))
	send(descQueueBytes, prometheus.GaugeValue, float64(size))
	r := s.cfg.Registry
	r.mu.Lock()
	series, bytes, expired := len(r.series), r.bytes, r.expired
	r.mu.Unlock()
	send(descSeries, prometheus.GaugeValue, float64(series))
	send(descSeriesLimit, prometheus.GaugeValue, float64(r.limits.Series))
	send(descSeriesBytes, prometheus.GaugeValue, float64(bytes))
	send(descExpired, prometheus.CounterValue, float64(expired))
}
