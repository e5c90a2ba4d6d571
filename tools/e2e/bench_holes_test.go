//go:build bench

package e2e

import (
	"fmt"
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
