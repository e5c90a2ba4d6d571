package loki

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/grafana/loki-client-go/loki"
	"github.com/grafana/loki-client-go/pkg/backoff"
	"github.com/grafana/loki-client-go/pkg/urlutil"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
)

const (
	statusUnknown = 0  // nobody knows what became of the group
	statusNone    = -1 // no answer: what the client itself calls it

	// The client looks every 10 ms for batches that are this old.
	batchWait = 10 * time.Millisecond
	askEvery  = time.Millisecond
)

type entry struct {
	labels model.LabelSet
	time   time.Time
	line   string
}

// client gives loki-client-go, which sends on its own time and reports to nobody, an acknowledgement.
//
//	push: entries in ──> its batch ──> one try ──> its counters sent and dropped
//	                                       └────> its log line with the status, if it was no 2xx
//
// Both counters together grow by the size of the group once it is dealt with, in one request or,
// when handing the entries over took long, in two. If any was dropped, the whole group counts so.
type client struct {
	loki    *loki.Client
	host    string
	timeout time.Duration

	mu       sync.Mutex // guards failures
	failures []failure  // of the group in flight
}

type failure struct {
	status int
	err    string
}

func newClient(c Config) (*client, error) {
	u, err := c.url()
	if err != nil {
		return nil, err
	}
	if err := claim(u.Host); err != nil {
		return nil, err
	}
	k := &client{host: u.Host, timeout: c.Timeout}
	k.loki, err = loki.NewWithLogger(loki.Config{
		URL:       urlutil.URLValue{URL: u},
		BatchWait: batchWait,
		BatchSize: math.MaxInt, // a group is one batch
		Client:    c.http(),
		Timeout:   c.Timeout,
		TenantID:  c.Tenant,
		// One try, without a wait after it: retries are ours.
		BackoffConfig: backoff.BackoffConfig{MinBackoff: 1, MaxBackoff: 1, MaxRetries: 1},
	}, logFunc(k.logged))
	if err != nil {
		hosts.Delete(u.Host)
		return nil, fmt.Errorf("make loki client: %w", err)
	}
	return k, nil
}

// close waits for what is in flight, for at most the timeout.
func (k *client) close() {
	k.loki.Stop()
	hosts.Delete(k.host)
}

// push sends a group and returns nil when Loki has acknowledged it; else the status of the answer
// and an error.
func (k *client) push(ctx context.Context, group []entry) (int, error) {
	k.mu.Lock()
	k.failures = nil
	k.mu.Unlock()
	sent, dropped := count(counters().sent, k.host), count(counters().dropped, k.host)
	for _, e := range group {
		if err := k.loki.Handle(e.labels, e.time, e.line); err != nil {
			return statusUnknown, err
		}
	}
	ticker := time.NewTicker(askEvery)
	defer ticker.Stop()
	late := time.NewTimer(2*k.timeout + time.Second)
	defer late.Stop()
	for {
		select {
		case <-ticker.C:
		case <-late.C:
			return statusUnknown, errors.New("loki client does not report")
		case <-ctx.Done():
			return statusUnknown, context.Cause(ctx)
		}
		gone := count(counters().dropped, k.host) - dropped
		if done := count(counters().sent, k.host) - sent + gone; done >= len(group) {
			return k.result(gone)
		}
		if status, err := k.encoding(); err != nil {
			return status, err
		}
	}
}

func (k *client) result(dropped int) (int, error) {
	if dropped == 0 {
		return 0, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	worst := failure{status: statusNone, err: "no reason given"}
	for i, f := range k.failures {
		if i == 0 || retriable(f.status) {
			worst = f
		}
	}
	return worst.status, fmt.Errorf("push to loki: %s", worst.err)
}

// encoding tells whether the client could not make a request of the group: it neither sends nor
// counts it then.
func (k *client) encoding() (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range k.failures {
		if f.status == statusEncoding {
			return 400, fmt.Errorf("encode for loki: %s", f.err)
		}
	}
	return 0, nil
}

const statusEncoding = -2

// logged gets the client's log lines as keys and values.
func (k *client) logged(keyvals ...any) error {
	f := failure{status: statusNone}
	var msg string
	for i := 0; i+1 < len(keyvals); i += 2 {
		switch keyvals[i] {
		case "msg":
			msg = fmt.Sprint(keyvals[i+1])
		case "status":
			f.status, _ = keyvals[i+1].(int)
		case "error":
			f.err = fmt.Sprint(keyvals[i+1])
		}
	}
	switch msg {
	case "final error sending batch":
	case "error encoding batch":
		f.status = statusEncoding
	default:
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failures = append(k.failures, f)
	return nil
}

// logFunc is the client's logger interface by shape.
type logFunc func(keyvals ...any) error

func (f logFunc) Log(keyvals ...any) error { return f(keyvals...) }

type lokiCounters struct{ sent, dropped *prometheus.CounterVec }

// counters takes the client's counters out of the default registry, where its import has put them
// and where they would be in the way of our own metrics.
var counters = sync.OnceValue(func() lokiCounters {
	return lokiCounters{sent: adopt("sent_entries_total", "Number of log entries sent to the ingester."),
		dropped: adopt("dropped_entries_total", "Number of log entries dropped because failed to be sent to the ingester after all retries.")}
})

func adopt(name, help string) *prometheus.CounterVec {
	mine := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "promtail", Name: name, Help: help}, []string{loki.HostLabel})
	var there prometheus.AlreadyRegisteredError
	if err := prometheus.Register(mine); errors.As(err, &there) {
		if theirs, ok := there.ExistingCollector.(*prometheus.CounterVec); ok {
			prometheus.Unregister(theirs)
			return theirs
		}
	}
	return mine // another client than the one that this was written for: push will say that it does not report
}

func count(c *prometheus.CounterVec, host string) int {
	var m dto.Metric
	if err := c.WithLabelValues(host).Write(&m); err != nil {
		return 0
	}
	return int(m.GetCounter().GetValue())
}
