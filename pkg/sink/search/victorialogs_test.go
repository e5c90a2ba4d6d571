//go:build backends

package search

import (
	"net/http"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/sink"
	"github.com/process-wrapper/process-wrapper/pkg/sink/sinktest"
)

const (
	vlPath  = "/insert/elasticsearch"
	vlQuery = "?_time_field=timestamp&_msg_field=name&_stream_fields=labels.namespace"
)

func TestVictoriaLogsHasEachEventWithAllLabels(t *testing.T) {
	v := sinktest.StartVictoriaLogs(t)
	s, stop := start(t, Config{URL: v.URL() + vlPath + vlQuery, Sink: sink.Config{SpoolDir: t.TempDir()}})
	for i := range 1000 {
		put(t, s, sinktest.Event("id", i))
	}
	eventually(t, "sent", func() bool { return settled(s) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	got := v.Values("*", "id")
	if lost := sinktest.Missing(got, "id", 1000); lost != "" || len(got) != 1000 {
		t.Errorf("lost %s, has %d", lost, len(got))
	}
	for _, l := range sinktest.Event("id", 0).Labels {
		if n := v.Values("*", "labels."+l.Name); len(n) == 0 || n[""] > 0 || n[l.Value] == 0 {
			t.Errorf("label %s: %v", l.Name, n)
		}
	}
}

// The store behind a proxy that fails, paused, ended and started while events come in.
func TestVictoriaLogsComesAndGoesAndNothingIsLost(t *testing.T) {
	v := sinktest.StartVictoriaLogs(t)
	p := sinktest.NewProxy(v.Handler(), 25)
	s, stop := start(t, Config{URL: serve(t, p) + vlPath + vlQuery, Timeout: 500 * time.Millisecond, Sink: sink.Config{SpoolDir: t.TempDir()}})
	n := 0
	burst := func() {
		for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			for range 20 {
				put(t, s, sinktest.Event("id", n))
				n++
			}
		}
	}
	burst()
	v.Pause()
	burst()
	v.Resume()
	burst()
	v.Stop()
	burst()
	v.Start()
	burst()
	p.Heal()
	eventually(t, "all sent", func() bool { return settled(s) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	got := v.Values("*", "id")
	if lost := sinktest.Missing(got, "id", n); lost != "" || len(got) != n {
		t.Errorf("lost %s; has %d of %d ids", lost, len(got), n)
	}
	t.Logf("%d events, %d spoilt requests, %d sent again", n, p.Spoilt.Load(), s.Stats().Retried)
}

func TestVictoriaLogsHasAllThatAKilledSinkAccepted(t *testing.T) {
	v := sinktest.StartVictoriaLogs(t)
	spool := t.TempDir()
	url := v.URL() + vlPath + vlQuery
	first := 0
	for i := range 3 {
		if i == 1 {
			v.Pause() // so that the second leaves much behind
		}
		first = sinktest.Murder(t, first, time.Second, "TEST_URL="+url, "TEST_SPOOL="+spool)
		if i == 1 {
			v.Resume()
		}
	}
	s, stop := start(t, Config{URL: url, Sink: sink.Config{SpoolDir: spool}})
	put(t, s, sinktest.Event("last", 0)) // what the victims left goes before it, if they left anything
	eventually(t, "spool is sent", func() bool { return s.Stats().Spooled == 1 && s.Stats().SpoolBytes == 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if lost := sinktest.Missing(v.Values("*", "id"), "id", first); lost != "" {
		t.Errorf("lost %s", lost)
	}
	t.Logf("%d events accepted by 3 victims", first)
}

// BenchmarkVictoriaLogs tells how fast it is.
func TestVictoriaLogsIsFastEnough(t *testing.T) {
	v := sinktest.StartVictoriaLogs(t)
	sinktest.FastEnough(t, func() float64 { return speed(t, v.URL(), 20_000) })
}

func BenchmarkVictoriaLogs(b *testing.B) {
	v := sinktest.StartVictoriaLogs(b)
	for b.Loop() {
		b.ReportMetric(speed(b, v.URL(), 400_000), "events/s")
	}
}

// speed puts n events as fast as they are taken and tells how many a second were acknowledged.
func speed(t testing.TB, url string, n int) float64 {
	t.Helper()
	s, err := New(Config{URL: url + vlPath + vlQuery, Sink: sink.Config{SpoolDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	rate, err := sinktest.Speed(s, n)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return rate
}
