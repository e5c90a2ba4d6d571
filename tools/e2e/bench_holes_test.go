//go:build bench

package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// measureHoles has both stores take connections and never answer, while 50,000 counters and as many events come in a
// second. Memory beyond that of a server without stores may be what the queues are allowed, and a tenth.
func measureHoles(t *testing.T, _ string) {
	const perSecond, queues, lasts = 50_000, 2 * 16 << 10, 12 * time.Second
	tab := newTable(fmt.Sprintf("%d counters/s and as many events, for %v; queues of 2 × 16 MiB", perSecond, lasts),
		"stores", "counted", "RSS at the end", "beyond none", "bar")
	base := 0
	for _, stores := range []string{"none", "both hang"} {
		var env, args []string
		if stores != "none" {
			env = []string{"METRICS_SERVER_SEARCH_URL=http://" + blackHole(t)}
			args = []string{"-loki-address", "http://" + blackHole(t), "-shutdown-deadline", "100ms"}
		}
		c := collect(t, env, args...)
		sent := paced(t, c.udp, perSecond, lasts)
		time.Sleep(time.Second) // what is in the socket
		counted := 100 * c.sum("count") / float64(sent)
		rss := residentKiB(t, c.cmd.Process.Pid)
		bar := ""
		if stores == "none" {
			base = rss
		} else {
			bar = fmt.Sprintf("100 %%: %s, %.1f MiB: %s", atLeast(counted, 100), 1.1*queues/1024, verdict(float64(rss-base), 1.1*queues))
		}
		tab.add(stores, fmt.Sprintf("%.2f %%", counted), fmt.Sprintf("%.1f MiB", float64(rss)/1024), fmt.Sprintf("%.1f MiB", float64(rss-base)/1024), bar)
		c.stop()
	}
	tab.print()
}

// measureStores has both sinks write what comes over UDP into a VictoriaLogs, with a spool: at a rate that they are to keep up with.
// It needs VICTORIALOGS, as make bench sets it.
func measureStores(t *testing.T, _ string) {
	path := os.Getenv("VICTORIALOGS")
	if path == "" {
		t.Skip("needs VICTORIALOGS: run make bench")
	}
	const perSecond, lasts = 50_000, 10 * time.Second
	base := "http://" + victoria(t, path)
	c := collect(t, []string{"METRICS_SERVER_SEARCH_URL=" + base + "/insert/elasticsearch?_time_field=timestamp&_msg_field=name"},
		"-loki-address", base+"/insert/loki/api/v1/push", "-spool-dir", t.TempDir(), "-opensearch-bulk-period", "100ms")
	sent := paced(t, c.udp, perSecond, lasts)
	ended := time.Now()
	tab := newTable(fmt.Sprintf("%d counters/s and as many events over UDP, for %v, into one VictoriaLogs through both sinks with a spool", perSecond, lasts),
		"sink", "events", "stored", "after the last was sent", "spool at most then", "bar")
	left := map[string]float64{}
	for _, sink := range []string{"loki", "search"} {
		left[sink] = c.sum("metrics_server_sink_spool_bytes", `sink="`+sink+`"`)
	}
	for _, sink := range []string{"loki", "search"} {
		var taken float64 // what the kernel drops on a busy machine nobody took
		eventually(t, "all is stored", func() error {
			taken = c.sum("metrics_server_sink_accepted_total", `sink="`+sink+`"`)
			if stored := c.sum("metrics_server_sink_sent_total", `sink="`+sink+`"`); stored < taken {
				return fmt.Errorf("%v of %v", stored, taken)
			}
			return nil
		})
		tab.add(sink, fmt.Sprint(sent), fmt.Sprintf("%.2f %%", 100*taken/float64(sent)), ms(time.Since(ended)), fmt.Sprintf("%.1f MiB", left[sink]/(1<<20)),
			"100 %: "+atLeast(taken, float64(sent))+", within 10 % of the time: "+verdict(time.Since(ended), lasts/10))
	}
	tab.print()
}
