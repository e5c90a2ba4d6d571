package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/process-wrapper/process-wrapper/pkg/collect"
	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// router passes messages on with the label instance, unless they have one.
type router struct {
	sender   collect.Sink
	instance string
}

// Put implements collect.Sink.
func (r *router) Put(m *datagram.Message) error {
	if m.Label("instance") == "" && r.instance != "" {
		c := *m
		c.Labels = make([]datagram.Label, 0, len(m.Labels)+1)
		added := false
		for _, l := range m.Labels {
			if !added && l.Name >= "instance" {
				c.Labels, added = append(c.Labels, datagram.Label{Name: "instance", Value: r.instance}), true
			}
			if l.Name != "instance" {
				c.Labels = append(c.Labels, l)
			}
		}
		if !added {
			c.Labels = append(c.Labels, datagram.Label{Name: "instance", Value: r.instance})
		}
		m = &c
	}
	return r.sender.Put(m)
}

type forwarded struct{ sender *datagram.Sender }

var (
	descForwarded = prometheus.NewDesc("metrics_server_forwarded_total", "Messages passed on to -remote.", nil, nil)
	descLost      = prometheus.NewDesc("metrics_server_forward_dropped_total", "Messages that could not be passed on.", nil, nil)
)

func forwardMetrics(s *datagram.Sender) prometheus.Collector { return forwarded{s} }

// Describe implements prometheus.Collector.
func (forwarded) Describe(ch chan<- *prometheus.Desc) {
	ch <- descForwarded
	ch <- descLost
}

// Collect implements prometheus.Collector.
func (f forwarded) Collect(ch chan<- prometheus.Metric) {
	sent, dropped := f.sender.Counts()
	ch <- prometheus.MustNewConstMetric(descForwarded, prometheus.CounterValue, float64(sent))
	ch <- prometheus.MustNewConstMetric(descLost, prometheus.CounterValue, float64(dropped))
}
