//go:build bench

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

var httpClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1100}}

// ask sends a request to shared-lock.
func (b *lockBench) ask(method, path, body string) (status int, token int64) {
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.lock.url+path, strings.NewReader(body))
	if err != nil {
		return 0, 0
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return 0, 0
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	var got struct{ Token int64 }
	_ = json.Unmarshal(text, &got) // an error has no token
	return resp.StatusCode, got.Token
}

// waiters measures what 1,000 waiters cost, the hand-over between them, and how exact a TTL is.
func (b *lockBench) waiters() {
	const crowd, rounds = 1000, 200
	_, token := b.ask("POST", "/v1/locks/crowd/acquire", `{"ttl":"1h"}`)
	type turn struct {
		at    time.Time
		token int64
	}
	turns := make(chan turn, crowd)
	var wg sync.WaitGroup
	for range crowd {
		wg.Go(func() {
			if status, token := b.ask("POST", "/v1/locks/crowd/acquire", `{"ttl":"1h","wait":"10m"}`); status == http.StatusCreated {
				turns <- turn{time.Now(), token}
			}
		})
	}
	eventually(b.t, "all wait", func() error {
		_, text := get(b.t, b.lock.url+"/v1/locks/crowd")
		if !strings.Contains(text, fmt.Sprintf(`"waiters":%d`, crowd)) {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	cpu := func() time.Duration {
		return cpuTime(b.t, b.etcd.cmd.Process.Pid) + cpuTime(b.t, b.lock.cmd.Process.Pid)
	}
	<-time.After(time.Second) // what came with them is over
	before, begin := cpu(), time.Now()
	<-time.After(5 * time.Second)
	share := 100 * (cpu() - before).Seconds() / time.Since(begin).Seconds()
	var times []time.Duration
	for range rounds {
		begin := time.Now()
		b.ask("DELETE", fmt.Sprintf("/v1/locks/crowd?token=%d", token), "")
		next := <-turns
		times, token = append(times, next.at.Sub(begin)), next.token
	}
	b.releaseRest(token, crowd-rounds, func() int64 { return (<-turns).token })
	wg.Wait()
	slices.Sort(times)
	late := b.lateness()
	table := newTable("1,000 waiters on one key, 200 hand-overs; 100 locks of 300 ms", "", "measured", "bar", "")
	table.add("CPU of server and etcd", fmt.Sprintf("%.1f %%", share), "2 %", verdict(share, 2))
	p50, p99 := times[len(times)/2], times[len(times)*99/100]
	table.add("hand-over p50", ms(p50), "6 ms", verdict(p50, 6*time.Millisecond))
	table.add("hand-over p99", ms(p99), "60 ms", verdict(p99, 60*time.Millisecond))
	table.add("free after the TTL, least", ms(late[0]), "≥ 0 ms", atLeast(late[0], 0))
	table.add("free after the TTL, p99", ms(late[98]), "50 ms", verdict(late[98], 50*time.Millisecond))
	table.print()
}

func (b *lockBench) releaseRest(token int64, n int, next func() int64) {
	for range n {
		b.ask("DELETE", fmt.Sprintf("/v1/locks/crowd?token=%d", token), "")
		token = next()
	}
	b.ask("DELETE", fmt.Sprintf("/v1/locks/crowd?token=%d", token), "")
}

// lateness tells how long after their TTL keys are free, by one who waits for each.
func (b *lockBench) lateness() []time.Duration {
	const ttl = 300 * time.Millisecond
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			<-time.After(time.Duration(i) * 10 * time.Millisecond)
			path := fmt.Sprintf("/v1/locks/late%d/acquire", i)
			begin := time.Now()
			b.ask("POST", path, `{"ttl":"300ms"}`)
			b.ask("POST", path, `{"ttl":"1m","wait":"10s"}`)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, time.Since(begin)-ttl)
		})
	}
	wg.Wait()
	slices.Sort(all)
	return all
}
