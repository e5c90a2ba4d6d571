// Package loki is the sink that pushes events to Grafana Loki, or to what takes Loki's pushes.
//
// A line is the event as JSON in the wire format, all its labels included. Only the labels of
// Config.Labels become stream labels, where an event has them; an event with none of them goes to
// the stream {job="metrics-server"}. The entry's time is the event's own.
//
// # The client
//
// Requests are made by github.com/grafana/loki-client-go. That client is archived, calls itself
// experimental, and tells nobody whether an entry arrived, so it is kept behind one type here: it
// gets one batch at a time, never retries, and its own counters and log lines tell what became of it
// (see client.go). Nothing else in the program knows it. Its encoding as JSON loses every entry
// without a sign; it is not used.
//
// govulncheck reports for it advisories in github.com/prometheus/prometheus v0.35.0, the last
// version that it compiles with. They are in the server and its web pages: the client uses the
// package promql/parser alone, to parse the label string that it has just written itself.
//
// # Answers
//
// 2xx: sent. 429, 5xx, 408, 3xx, no answer within Config.Timeout: sent again, with back-off. 401, 403, 404:
// all events of the request are dead letters. 400, 413, 422: the halves are sent on their own until
// those are found that Loki does not take (too old, too far ahead, too long); these are dead letters,
// the others arrive. Loki has stored the good part of a refused request already and drops what it
// gets twice.
package loki

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/sink"
)

// New checks c. It touches neither network nor files.
func New(c Config) (*sink.Sink, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	u, err := c.url()
	if err != nil {
		return nil, err
	}
	return sink.New(c.Sink, &backend{config: c, host: u.Host, labels: map[string]model.LabelSet{}})
}

type backend struct {
	config Config
	host   string
	client *client
	labels map[string]model.LabelSet // by key, up to maxCached
}

// Encode makes the key `{name="value",...}`, in the order of Config.Labels.
func (b *backend) Encode(m *datagram.Message, r *sink.Record) error {
	r.Time = m.Time
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	r.Key = append(r.Key, '{')
	for _, name := range b.config.Labels {
		for _, l := range m.Labels {
			if l.Name == name && l.Value != "" {
				r.Key = appendLabel(r.Key, l)
			}
		}
	}
	if len(r.Key) == 1 {
		r.Key = append(r.Key, `job="metrics-server"`...)
	}
	r.Key = append(r.Key, '}')
	r.ID = append(r.ID, m.ID...)
	r.Body = append(sink.AppendEvent(r.Body, m, r.Time), '}')
	return nil
}

func appendLabel(key []byte, l datagram.Label) []byte {
	if len(key) > 1 {
		key = append(key, ',')
	}
	key = append(append(key, l.Name...), '=')
	value := strings.ToValidUTF8(l.Value[:min(len(l.Value), maxLabelValue)], "")
	return sink.AppendString(key, value)
}

// Open starts the client.
func (b *backend) Open() (err error) {
	b.client, err = newClient(b.config)
	return err
}

// Close waits for the client, for at most Config.Timeout.
func (b *backend) Close() error {
	if b.client != nil {
		b.client.close()
	}
	return nil
}

// Send pushes records as one request.
func (b *backend) Send(ctx context.Context, records []sink.Record, answers []sink.Answer) sink.Outcome {
	if b.client == nil {
		if err := b.Open(); err != nil {
			return retry(answers, err)
		}
	}
	group := make([]entry, len(records))
	for i, r := range records {
		group[i] = entry{labels: b.labelSet(r.Key), time: r.Time, line: string(r.Body)}
	}
	status, err := b.client.push(ctx, group)
	switch {
	case err == nil:
		return sink.Outcome{}
	case status == statusUnknown:
		// What this client still holds would be counted to the next group.
		b.client.close()
		b.client = nil
		return retry(answers, err)
	case retriable(status):
		return retry(answers, err)
	case len(records) > 1 && splittable(status):
		return sink.Outcome{Err: err, Split: true}
	}
	for i := range answers {
		answers[i] = sink.Answer{Verdict: sink.Dead, Reason: err.Error()}
	}
	return sink.Outcome{}
}

func retry(answers []sink.Answer, err error) sink.Outcome {
	for i := range answers {
		answers[i].Verdict = sink.Retry
	}
	return sink.Outcome{Err: err, Down: true}
}

func retriable(status int) bool {
	return status < 400 || status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

func splittable(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status == http.StatusUnprocessableEntity
}

const maxCached = 10_000

// labelSet parses what Encode wrote. Streams are few, so their label sets are kept.
func (b *backend) labelSet(key []byte) model.LabelSet {
	if set, ok := b.labels[string(key)]; ok {
		return set
	}
	set, err := parseLabels(string(key))
	if err != nil {
		set = model.LabelSet{"job": "metrics-server"} // a spool of another version; the line has it all
	}
	if len(b.labels) >= maxCached {
		clear(b.labels)
	}
	b.labels[string(key)] = set
	return set
}

// hosts holds the host of each open client: they share counters by host.
var hosts sync.Map

func claim(host string) error {
	if _, taken := hosts.LoadOrStore(host, true); taken {
		return fmt.Errorf("loki at %s: this process pushes there already", host)
	}
	return nil
}
