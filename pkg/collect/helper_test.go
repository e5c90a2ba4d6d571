package collect

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// rig is a server with sockets of every kind.
type rig struct {
	*Server
	t              testing.TB
	udp, statsd    string
	unix, unixgram string
	reg            *Registry
	own            *prometheus.Registry
	stop           func()
	events, index  *keep
}

// keep is a sink that keeps everything, or refuses it.
type keep struct {
	mu   sync.Mutex
	got  []*datagram.Message
	fail error
}

func (k *keep) Put(m *datagram.Message) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	k.got = append(k.got, m)
	return nil
}

func (k *keep) all() []*datagram.Message {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]*datagram.Message(nil), k.got...)
}

func newRig(t testing.TB, limits Limits, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, reg: NewRegistry(limits, "taken", "own_*"), own: prometheus.NewRegistry(), events: &keep{}, index: &keep{}}
	cfg := Config{Registry: r.reg, Events: []Sink{r.events}, Index: []Sink{r.index}}
	if change != nil {
		change(&cfg)
	}
	r.Server = NewServer(cfg)
	dir := t.TempDir()
	r.unix, r.unixgram = filepath.Join(dir, "app.sock"), filepath.Join(dir, "gram.sock")
	err := r.Listen(Socket{Network: "udp", Address: "127.0.0.1:0"}, Socket{Network: "statsd", Address: "127.0.0.1:0"},
		Socket{Network: "unix", Address: r.unix}, Socket{Network: "unixgram", Address: r.unixgram})
	if err != nil {
		t.Fatal(err)
	}
	addrs := r.Addrs()
	r.udp, r.statsd = addrs[0].String(), addrs[1].String()
	r.own.MustRegister(r.Server)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() { r.reg.Run(ctx) })
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(r.stop)
	return r
}

func (r *rig) dial(network, address string) net.Conn {
	r.t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

func write(t testing.TB, c io.Writer, s string) {
	t.Helper()
	var err error
	if !soon(func() bool { // a full queue of unix datagrams says EAGAIN
		_, err = io.WriteString(c, s)
		return !errors.Is(err, syscall.EAGAIN)
	}) || err != nil {
		t.Fatal(err)
	}
}

// families reads the page, which must be valid.
func (r *rig) families() map[string]*dto.MetricFamily {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.reg.Handler(r.own).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		r.t.Fatalf("status %d", w.Code)
	}
	return parsePage(r.t, w.Body.String())
}

func parsePage(t testing.TB, page string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	all, err := p.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatalf("the page is not valid: %v\n%s", err, page)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(page) {
		if series, _, ok := strings.Cut(line, " "); ok && line[0] != '#' {
			if i := strings.LastIndexByte(line, '}'); i > 0 {
				series = line[:i]
			}
			if seen[series] {
				t.Fatalf("twice on the page: %s", series)
			}
			seen[series] = true
		}
	}
	return all
}

// value returns the sum of all series of a name that have the labels, given as name, value.
func value(all map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	var sum float64
	for _, m := range all[name].GetMetric() {
		have := map[string]string{}
		for _, l := range m.GetLabel() {
			have[l.GetName()] = l.GetValue()
		}
		ok := true
		for i := 0; i < len(labels); i += 2 {
			ok = ok && have[labels[i]] == labels[i+1]
		}
		if ok {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// until waits until a sum on the page is what it should be.
func (r *rig) until(want float64, name string, labels ...string) {
	r.t.Helper()
	var got float64
	if !soon(func() bool { got = value(r.families(), name, labels...); return got == want }) {
		r.t.Fatalf("%s%v is %v, want %v", name, labels, got, want)
	}
}

func soon(is func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if is() {
			return true
		}
	}
	return is()
}

var errNo = errors.New("no")
