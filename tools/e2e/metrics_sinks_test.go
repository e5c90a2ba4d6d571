package e2e

import (
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// blackHole returns the address of a listener that never answers.
func blackHole(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func TestStoresThatHangHoldUpNobody(t *testing.T) {
	hole := "http://" + blackHole(t)
	c := collect(t, []string{"METRICS_SERVER_SEARCH_URL=" + hole}, "-loki-address", hole, "-sink-queue-bytes", "1048576",
		"-shutdown-deadline", "1s", "-loki-timeout", "1s", "-search-timeout", "1s")
	conn, err := net.Dial("unix", c.unix) // which holds the sender up instead of dropping
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const n = 40_000
	for i := range n / 100 {
		var b strings.Builder
		for j := range 100 {
			fmt.Fprintf(&b, `{"name":"count","op":"inc","value":1}{"name":"e","op":"event","labels":{"n":"%d"}}`+"\n", 100*i+j)
		}
		if _, err := conn.Write([]byte(b.String())); err != nil {
			t.Fatal(err)
		}
	}
	c.until(n, "count")
	eventually(t, "every event is accounted for", func() error {
		if got := c.sum("metrics_server_applied_total", `op="event"`) + c.sum("metrics_server_dropped_total", "sink_full"); got != n {
			return fmt.Errorf("%v of %d", got, n)
		}
		return nil
	})
	if full := c.sum("metrics_server_dropped_total", "sink_full"); full == 0 {
		t.Error("the queues of 1 MiB held everything: they hold no bound")
	}
	if got := c.stop(); got != 1 { // what was accepted is lost, without a spool
		t.Errorf("exit code %d", got)
	}
}

// TestAKilledServerLosesNothingThatIsSpooled needs VICTORIALOGS, as make test-backends sets it.
func TestAKilledServerLosesNothingThatIsSpooled(t *testing.T) {
	store := os.Getenv("VICTORIALOGS")
	if store == "" {
		t.Skip("needs VICTORIALOGS: run make test-backends")
	}
	spool := t.TempDir()
	hole := "http://" + blackHole(t)
	c := collect(t, []string{"METRICS_SERVER_SEARCH_URL=" + hole}, "-loki-address", hole, "-spool-dir", spool)
	const n = 500
	for i := range n {
		c.send("unix", fmt.Sprintf(`{"name":"kept","op":"event","id":"id-%d","labels":{"seq":"%d"}}`, i, i))
	}
	c.until(n, "metrics_server_applied_total", `op="event"`)
	c.until(n, "metrics_server_sink_spooled_total", `sink="loki"`)
	c.until(n, "metrics_server_sink_spooled_total", `sink="search"`)
	_ = c.cmd.Process.Kill()
	<-c.exited

	base := "http://" + victoria(t, store)
	c = collect(t, []string{"METRICS_SERVER_SEARCH_URL=" + base + "/insert/elasticsearch?_time_field=timestamp&_msg_field=name"},
		"-loki-address", base+"/insert/loki/api/v1/push", "-spool-dir", spool, "-opensearch-bulk-period", "100ms")
	eventually(t, "all events are in both stores", func() error {
		seen := [2]map[string]bool{{}, {}}
		for _, r := range query(t, base) {
			all := fmt.Sprint(r)
			which := 1
			if strings.HasPrefix(r["_msg"], "{") {
				which = 0
			}
			for i := range n {
				if strings.Contains(all, "id-"+strconv.Itoa(i)+`"`) || r["id"] == "id-"+strconv.Itoa(i) {
					seen[which][strconv.Itoa(i)] = true
				}
			}
		}
		if len(seen[0]) != n || len(seen[1]) != n {
			return fmt.Errorf("%d and %d of %d", len(seen[0]), len(seen[1]), n)
		}
		return nil
	})
	if got := c.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}

// TestAFullDiskLosesNothing has a spool on a disk with room for few of the events, and a store that is away meanwhile.
func TestAFullDiskLosesNothing(t *testing.T) {
	needs(t, "unshare")
	needsRoot(t)
	seen := &arrivals{t: t, at: map[int]time.Time{}, refuse: true}
	store := httptest.NewServer(seen)
	defer store.Close()
	spool := t.TempDir()
	mount := []string{"unshare", "--mount", "/bin/sh", "-c", `mount -t tmpfs -o size=512k none "$0" && exec "$@"`, spool}
	c := collectUnder(t, mount, []string{"METRICS_SERVER_SEARCH_URL=" + store.URL}, "-spool-dir", spool, "-opensearch-bulk-period", "100ms")
	const n = 20_000 // of 200 bytes
	c.stream(n, func(i int) string {
		return fmt.Sprintf(`{"name":"kept","op":"event","value":%d,"labels":{"pad":"%s"}}`, i, strings.Repeat("x", 100))
	})
	c.until(n, "metrics_server_applied_total", `op="event"`)
	c.stderr.waitFor(t, regexp.MustCompile(`cannot write to the spool`))
	if files, held := c.sum("metrics_server_sink_spool_bytes"), c.sum("metrics_server_sink_queue_events"); files == 0 || files > 512<<10 || held == 0 {
		t.Errorf("%v bytes in the spool, %v events in memory", files, held)
	}
	c.send("udp", `{"name":"count","op":"inc","value":1}`)
	c.until(1, "count")
	seen.accept()
	eventually(t, "all are stored", func() error {
		if got := seen.count(); got != n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	})
	if code := c.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestSoak sends at a steady rate, and looks at memory and loss: for seconds, or with SOAK=1 for ten million events.
func TestSoak(t *testing.T) {
	rounds, each := 4, 5_000
	if os.Getenv("SOAK") != "" {
		rounds, each = 200, 50_000
	}
	c := collect(t, nil)
	conn, err := net.Dial("udp", c.udp)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent, rss := 0, []int(nil) // after each eighth
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for round := range rounds {
		for end := sent + each; sent < end; <-tick.C {
			for range 100 { // 10,000 datagrams a second, of 1 or more events
				var b strings.Builder
				for range max(1, each/5_000) {
					fmt.Fprintf(&b, `{"name":"soak","op":"inc","value":1,"labels":{"series":"%d"}}`, sent%1000)
					sent++
				}
				if _, err := conn.Write([]byte(b.String())); err != nil {
					t.Fatal(err)
				}
			}
		}
		if round%max(1, rounds/8) == 0 {
			rss = append(rss, residentKiB(t, c.cmd.Process.Pid))
		}
	}
	took := time.Since(began)
	c.until(float64(sent), "soak")
	t.Logf("%d events in %v, RSS in KiB %v", sent, took.Round(time.Second), rss)
	if half, last := rss[len(rss)/2], rss[len(rss)-1]; last > half+half/2 {
		t.Errorf("memory grew from %d to %d KiB", half, last)
	}
}
