package sinktest

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/sink"
)

// Suite tests a kind of sink against a real VictoriaLogs.
type Suite struct {
	// Open makes a sink to the store at url. timeout is of one request.
	Open    func(url string, c sink.Config, timeout time.Duration) (*sink.Sink, error)
	Query   string  // that finds all events, with their labels as fields labels.NAME
	Without []Fault // which the sink cannot notice
}

const usual = 10 * time.Second

func (x Suite) start(t testing.TB, url, spool string, timeout time.Duration) (*sink.Sink, func() error) {
	t.Helper()
	s, err := x.Open(url, Hurry(sink.Config{SpoolDir: spool}), timeout)
	if err != nil {
		t.Fatal(err)
	}
	return s, Run(t, s)
}

// HasEachEventWithAllLabels puts a thousand events.
func (x Suite) HasEachEventWithAllLabels(t *testing.T) {
	v := StartVictoriaLogs(t)
	s, stop := x.start(t, v.URL(), t.TempDir(), usual)
	for i := range 1000 {
		Put(t, s, Event("id", i))
	}
	Eventually(t, "sent", func() bool { return Settled(s) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	x.each(t, v, 1000)
	for _, l := range Event("id", 0).Labels {
		if n := v.Values(x.Query, "labels."+l.Name); len(n) == 0 || n[""] > 0 || n[l.Value] == 0 {
			t.Errorf("label %s: %v", l.Name, n)
		}
	}
}

// each fails t unless v has each of n events, and no other.
func (x Suite) each(t *testing.T, v *VictoriaLogs, n int) {
	t.Helper()
	got := v.Values(x.Query, "id")
	if lost := Missing(got, "id", n); lost != "" || len(got) != n {
		t.Errorf("lost %s; has %d of %d ids", lost, len(got), n)
	}
}

// ComesAndGoes has the store behind a proxy that fails, and pauses, ends and starts it while events come in.
func (x Suite) ComesAndGoes(t *testing.T) {
	v := StartVictoriaLogs(t)
	p := NewProxy(v.Handler(), 25, x.Without...)
	s, stop := x.start(t, Serve(t, p), t.TempDir(), 500*time.Millisecond)
	n := 0
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, then := range []func(){v.Pause, v.Resume, v.Stop, v.Start, p.Heal} {
		for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); <-tick.C {
			for range 20 {
				Put(t, s, Event("id", n))
				n++
			}
		}
		then()
	}
	Eventually(t, "all sent", func() bool { return Settled(s) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	x.each(t, v, n)
	t.Logf("%d events, %d spoilt requests, %d sent again", n, p.Spoilt.Load(), s.Stats().Retried)
}

// HasAllThatAKilledSinkAccepted kills three sinks one after another, of which the second had a store that hung, so that it left
// much behind. path is what follows the address of the store for TEST_URL.
func (x Suite) HasAllThatAKilledSinkAccepted(t *testing.T, path string) {
	v, spool, first := StartVictoriaLogs(t), t.TempDir(), 0
	for i := range 3 {
		if i == 1 {
			v.Pause()
		}
		first = Murder(t, first, time.Second, "TEST_URL="+v.URL()+path, "TEST_SPOOL="+spool)
		if i == 1 {
			v.Resume()
		}
	}
	s, stop := x.start(t, v.URL(), spool, usual)
	Put(t, s, Event("last", 0)) // what the victims left goes before it, if they left anything
	Eventually(t, "spool is sent", func() bool { return s.Stats().Spooled == 1 && s.Stats().SpoolBytes == 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if lost := Missing(v.Values(x.Query, "id"), "id", first); lost != "" {
		t.Errorf("lost %s", lost)
	}
	t.Logf("%d events accepted by 3 victims", first)
}

// IsFastEnough fails t when it is ten times slower than it should be.
func (x Suite) IsFastEnough(t *testing.T) {
	v := StartVictoriaLogs(t)
	FastEnough(t, func() float64 { return x.speed(t, v.URL(), 20_000) })
}

// Bench tells how fast it is, in the worst and in the best round.
func (x Suite) Bench(b *testing.B) {
	v := StartVictoriaLogs(b)
	var rates []float64
	for b.Loop() {
		rates = append(rates, x.speed(b, v.URL(), 400_000))
	}
	b.ReportMetric(slices.Min(rates), "events/s-least")
	b.ReportMetric(slices.Max(rates), "events/s-most")
}

// speed puts n events as fast as they are taken and tells how many a second were acknowledged.
func (x Suite) speed(t testing.TB, url string, n int) float64 {
	t.Helper()
	s, err := x.Open(url, sink.Config{SpoolDir: t.TempDir()}, usual)
	if err != nil {
		t.Fatal(err)
	}
	rate, err := Speed(s, n)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return rate
}
