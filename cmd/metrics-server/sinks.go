package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/collect"
	"github.com/process-wrapper/process-wrapper/pkg/sink"
	"github.com/process-wrapper/process-wrapper/pkg/sink/loki"
	"github.com/process-wrapper/process-wrapper/pkg/sink/search"
)

var _ collect.Sink = (*sink.Sink)(nil)

// sinkFlags are about where events go.
type sinkFlags struct {
	LokiAddress         string        `help:"Loki for events" placeholder:"URL"`
	LokiLabels          []string      `help:"labels of events that become labels of Loki's streams" default:"event_type,namespace,k8s_cluster"`
	LokiTenant          string        `help:"tenant, the header X-Scope-OrgID" placeholder:"NAME"`
	LokiCAPath          string        `help:"CA of Loki" name:"loki-ca-path" placeholder:"PATH"`
	LokiCertPath        string        `help:"client certificate for Loki" placeholder:"PATH"`
	LokiKeyPath         string        `help:"its key" placeholder:"PATH"`
	LokiInsecure        bool          `help:"do not verify the certificate of Loki"`
	LokiUser            string        `help:"user of Loki, its password is in -loki-password-file" placeholder:"NAME"`
	LokiPasswordFile    string        `help:"file with that password" placeholder:"PATH"`
	LokiBearerTokenFile string        `help:"file with a bearer token for Loki" placeholder:"PATH"`
	LokiTimeout         time.Duration `help:"of one request" default:"10s"`

	OpensearchBulkPeriod    time.Duration `help:"how long events wait for a request to be full" default:"5s"`
	OpensearchBulkSizeBytes int           `help:"when a request is full" default:"20000"`
	SearchIndex             string        `help:"index of events, and of op index without one" default:"metric-events"`
	SearchPattern           string        `help:"what indices may be called without their day, such as app-*; empty: any valid name" placeholder:"PATTERN"`
	SearchDataStream        bool          `help:"write to data streams: no day in the name, and a field @timestamp"`
	SearchNoTemplate        bool          `help:"do not install an index template"`
	SearchShards            int           `help:"shards of the template" default:"1"`
	SearchLabels            string        `help:"how the template maps labels: keyword, flattened (Elasticsearch) or flat_object (OpenSearch)" default:"keyword"`
	SearchCAPath            string        `help:"CA of the search server" name:"search-ca-path" placeholder:"PATH"`
	SearchInsecure          bool          `help:"do not verify its certificate"`
	SearchTimeout           time.Duration `help:"of one request" default:"30s"`

	SinkQueueBytes int    `help:"events of each sink that wait in memory" default:"16777216"`
	SpoolDir       string `help:"directory for events that are not sent yet; empty: memory only" placeholder:"PATH"`
	SpoolBytes     int64  `help:"of each sink's files there" default:"268435456"`
	SpoolFsync     string `help:"when files are synced: always, interval (each second) or never" default:"interval"`
}

func (f *flags) sinkConfig() sink.Config {
	return sink.Config{QueueBytes: f.SinkQueueBytes, SpoolDir: f.SpoolDir, SpoolBytes: f.SpoolBytes, Fsync: f.SpoolFsync, Deadline: f.ShutdownDeadline}
}

func (f *flags) lokiConfig() loki.Config {
	return loki.Config{
		Sink: f.sinkConfig(), Address: f.LokiAddress, Tenant: f.LokiTenant,
		CAFile: f.LokiCAPath, CertFile: f.LokiCertPath, KeyFile: f.LokiKeyPath, Insecure: f.LokiInsecure,
		User: f.LokiUser, PasswordFile: f.LokiPasswordFile, BearerTokenFile: f.LokiBearerTokenFile,
		Labels: f.LokiLabels, Timeout: f.LokiTimeout,
	}
}

func (f *flags) searchConfig(env *environment) search.Config {
	c := search.Config{
		Sink: f.sinkConfig(), URL: env.searchURL, User: env.searchUser, Password: env.searchPassword,
		CAFile: f.SearchCAPath, Insecure: f.SearchInsecure, Index: f.SearchIndex, Pattern: f.SearchPattern, DataStream: f.SearchDataStream,
		NoTemplate: f.SearchNoTemplate, Shards: f.SearchShards, Labels: f.SearchLabels, Timeout: f.SearchTimeout,
	}
	c.Sink.Period, c.Sink.BatchBytes = f.OpensearchBulkPeriod, f.OpensearchBulkSizeBytes
	return c
}

// addSinks makes the sinks that are configured.
func (s *server) addSinks(env *environment, cfg *collect.Config, reg prometheus.Registerer) error {
	f := s.flags
	if f.SpoolDir != "" {
		if err := os.MkdirAll(f.SpoolDir, 0o700); err != nil {
			return fmt.Errorf("make -spool-dir: %w", err)
		}
	}
	var all sinkMetrics
	add := func(k *sink.Sink, err error) (*sink.Sink, error) {
		if err != nil {
			return nil, cli.Usagef("%v", err)
		}
		all, s.sinks = append(all, k), append(s.sinks, k)
		return k, nil
	}
	if f.LokiAddress != "" {
		c := f.lokiConfig()
		c.Sink.Log = s.log
		k, err := add(loki.New(c))
		if err != nil {
			return err
		}
		cfg.Events = append(cfg.Events, k)
	}
	if env.searchURL != "" {
		c := f.searchConfig(env)
		c.Sink.Log = s.log
		k, err := add(search.New(c))
		if err != nil {
			return err
		}
		cfg.Events, cfg.Index = append(cfg.Events, k), append(cfg.Index, k)
	}
	return reg.Register(all)
}

// checkSinks refuses what the sinks do not check themselves.
func (f *flags) checkSinks() error {
	if f.SinkQueueBytes <= 0 || f.SpoolBytes <= 0 || f.OpensearchBulkPeriod <= 0 || f.OpensearchBulkSizeBytes <= 0 {
		return errors.New("-sink-queue-bytes, -spool-bytes, -opensearch-bulk-period and -opensearch-bulk-size-bytes must be above 0")
	}
	switch f.SpoolFsync {
	case sink.FsyncAlways, sink.FsyncInterval, sink.FsyncNever:
		return nil
	}
	return fmt.Errorf("-spool-fsync is %q: write %s", f.SpoolFsync, strings.Join([]string{sink.FsyncAlways, sink.FsyncInterval, sink.FsyncNever}, ", "))
}

// sinkMetrics is what sinks tell of themselves.
type sinkMetrics []*sink.Sink

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("metrics_server_sink_"+name, help, append([]string{"sink"}, labels...), nil)
}

var (
	descAccepted   = describe("accepted_total", "Events that the sink took.")
	descSent       = describe("sent_total", "Events that the store has acknowledged.")
	descRetried    = describe("retried_total", "Events that were sent once more.")
	descDead       = describe("dead_letter_total", "Events that the store refused for good, kept in the dead-letter file.")
	descSpooled    = describe("spooled_total", "Events written to the spool.")
	descDropped    = describe("dropped_total", "Events that were not taken, or lost.", "reason")
	descQueue      = describe("queue_events", "Events that wait in memory.")
	descQueueBytes = describe("queue_bytes", "Memory of events that wait.")
	descSpoolBytes = describe("spool_bytes", "Bytes in the spool that are not sent.")
	descUp         = describe("up", "Whether the last request was answered.")
	descFlush      = describe("flush_seconds", "How long requests to the store took.")
)

// Describe implements prometheus.Collector.
func (sinkMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descAccepted, descSent, descRetried, descDead, descSpooled, descDropped, descQueue, descQueueBytes, descSpoolBytes, descUp, descFlush} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (all sinkMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, k := range all {
		st, name := k.Stats(), k.Name()
		send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, t, v, append([]string{name}, labels...)...)
		}
		count, now := prometheus.CounterValue, prometheus.GaugeValue
		send(descAccepted, count, float64(st.Accepted))
		send(descSent, count, float64(st.Sent))
		send(descRetried, count, float64(st.Retried))
		send(descDead, count, float64(st.DeadLetter))
		send(descSpooled, count, float64(st.Spooled))
		for _, reason := range sink.Reasons {
			send(descDropped, count, float64(st.Dropped[reason]), reason)
		}
		send(descQueue, now, float64(st.QueueLen))
		send(descQueueBytes, now, float64(st.QueueBytes))
		send(descSpoolBytes, now, float64(st.SpoolBytes))
		up := 0.0
		if st.Up {
			up = 1
		}
		send(descUp, now, up)
		buckets := make(map[float64]uint64, len(sink.FlushBounds))
		for i, le := range sink.FlushBounds {
			buckets[le] = st.Flush.Counts[i]
		}
		ch <- prometheus.MustNewConstHistogram(descFlush, st.Flush.Count, st.Flush.Sum, buckets, name)
	}
}
