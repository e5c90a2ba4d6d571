//go:build backends

package loki

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/sink"
	"github.com/process-wrapper/process-wrapper/pkg/sink/sinktest"
)

// ids counts how often the lines of Loki have each id, and checks that the lines are events.
func ids(t *testing.T, l *sinktest.Loki) map[string]int {
	t.Helper()
	got := map[string]int{}
	for _, line := range l.Lines(`{event_type="restart",namespace="shop"}`) {
		var event struct {
			ID     string
			Labels map[string]string
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if event.Labels["process_name"] != "php-fpm" || event.Labels["node"] != "node-7" {
			t.Fatalf("labels are gone: %s", line)
		}
		got[event.ID]++
	}
	return got
}

// once fails t unless Loki has each of n events, and once.
func once(t *testing.T, l *sinktest.Loki, n int) {
	t.Helper()
	got := ids(t, l)
	if lost := sinktest.Missing(got, "id", n); lost != "" {
		t.Errorf("lost %s", lost)
	}
	for id, times := range got {
		if times != 1 {
			t.Errorf("%s is there %d times", id, times)
			return
		}
	}
}

func TestLokiHasEachEventOnceWhateverHappensToIt(t *testing.T) {
	l := sinktest.StartLoki(t)
	p := sinktest.NewProxy(l.Handler(), 30, sinktest.Empty200, sinktest.CutAnswer) // a 2xx is all that the client looks at
	s, stop := start(t, Config{Address: sinktest.Serve(t, p), Timeout: time.Second, Sink: sink.Config{SpoolDir: t.TempDir()}})
	n := 0
	burst := func() {
		for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			for range 20 {
				sinktest.Put(t, s, sinktest.Event("id", n))
				n++
			}
		}
	}
	burst()
	l.Pause()
	burst()
	l.Resume()
	burst()
	l.Kill()
	burst()
	l.Start()
	burst()
	p.Heal()
	for end := time.Now().Add(time.Minute); !sinktest.Settled(s) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	once(t, l, n)
	if st := s.Stats(); st.DeadLetter != 0 {
		t.Errorf("%d dead letters", st.DeadLetter)
	}
	t.Logf("%d events, %d spoilt requests, %d sent again", n, p.Spoilt.Load(), s.Stats().Retried)
}

func TestLokiHasAllThatAKilledSinkAccepted(t *testing.T) {
	l := sinktest.StartLoki(t)
	spool := t.TempDir()
	first := 0
	for i := range 3 {
		if i == 1 {
			l.Pause()
		}
		first = sinktest.Murder(t, first, time.Second, "TEST_URL="+l.URL(), "TEST_SPOOL="+spool)
		if i == 1 {
			l.Resume()
		}
	}
	s, stop := start(t, Config{Address: l.URL(), Sink: sink.Config{SpoolDir: spool}})
	sinktest.Put(t, s, sinktest.Event("last", 0))
	for end := time.Now().Add(time.Minute); s.Stats().SpoolBytes > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// A victim has spooled more than it told, with numbers that the next one uses again.
	if lost := sinktest.Missing(ids(t, l), "id", first); lost != "" {
		t.Errorf("lost %s", lost)
	}
	t.Logf("%d events accepted by 3 victims", first)
}

// What Loki refuses is a dead letter, and costs the others nothing.
func TestLokiRefusesWhatItsRulesSay(t *testing.T) {
	l := sinktest.StartLoki(t)
	s, stop := start(t, Config{Address: l.URL(), Sink: sink.Config{SpoolDir: t.TempDir()}})
	for i := range 100 {
		m := sinktest.Event("id", i)
		sinktest.Put(t, s, m)
		if i%25 != 24 {
			continue
		}
		bad := *m
		bad.Labels = append([]datagram.Label{{Name: "big", Value: strings.Repeat("x", 300_000)}}, m.Labels...)
		if i == 49 {
			bad.Labels, bad.Time = m.Labels, time.Now().Add(-30*24*time.Hour)
		}
		bad.ID = "bad"
		sinktest.Put(t, s, &bad)
	}
	sinktest.Eventually(t, "settled", func() bool { return sinktest.Settled(s) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	once(t, l, 100)
	if st := s.Stats(); st.DeadLetter != 4 {
		t.Errorf("%d dead letters", st.DeadLetter)
	}
	http.DefaultClient.CloseIdleConnections()
}
