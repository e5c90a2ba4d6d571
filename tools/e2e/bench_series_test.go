//go:build bench

package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// measureSeries looks at what many series cost: memory, the time of a page, and what others meet while they expire.
func measureSeries(t *testing.T, _ string) {
	const most, offered = 100_000, 1_000_000
	tab := newTable(fmt.Sprintf("%d counter series of three labels, default flags", most), "what", "measured", "bar")
	c := collect(t, nil)
	empty := residentKiB(t, c.cmd.Process.Pid)
	c.offer("http_requests_total", most, "")
	c.until(most, "metrics_server_series")
	rss := residentKiB(t, c.cmd.Process.Pid)
	tab.add("RSS beyond that of an empty server", fmt.Sprintf("%.1f MiB, %d B a series", float64(rss-empty)/1024, (rss-empty)<<10/most), "")
	var pages []time.Duration
	for range 5 {
		began := time.Now()
		if status, _ := get(t, "http://"+c.http+"/metrics"); status != http.StatusOK {
			t.Fatalf("/metrics is %d", status)
		}
		pages = append(pages, time.Since(began))
	}
	tab.add("a page of all of them, as text", spread(pages), "1 s: "+verdict(pages[0], time.Second))
	c.stop()

	c = collect(t, nil)
	c.offer("http_requests_total", offered, "")
	c.until(offered-most, "metrics_server_dropped_total", `reason="series_limit"`)
	rss = residentKiB(t, c.cmd.Process.Pid)
	tab.add(fmt.Sprintf("RSS when %d were offered, %d refused and counted", offered, offered-most), fmt.Sprintf("%.1f MB", float64(rss)*1024/1e6), "150 MB: "+verdict(rss<<10, 150_000_000))
	c.stop()

	for _, n := range []int{0, most} {
		var worst expiry
		for range 3 {
			if e := expire(t, n, 3*time.Second); e.gap >= worst.gap {
				worst = e
			}
		}
		tab.add(fmt.Sprintf("longest gap between two of 1,000 datagrams a second while %d series expire, worst of 3 rounds", n),
			fmt.Sprintf("%s (sender %s, delay %s, %v lost)", ms(worst.gap), ms(worst.sender), ms(worst.delay), worst.drops), "50 ms: "+verdict(worst.gap, 50*time.Millisecond))
	}
	tab.print()
}
