package prommerge_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// mostAllocations is how many a merge may make beside the HTTP client's, no matter how many targets there are.
const mostAllocations = 64

func TestAMergeAllocatesLittle(t *testing.T) {
	if raced {
		t.Skip("the race detector lets pools forget")
	}
	pages := [][]byte{nodePage(1), nodePage(2)}
	for _, async := range []bool{false, true} {
		for _, n := range []int{10, 100, 1000} {
			t.Run(fmt.Sprintf("%d targets, side by side: %v", n, async), func(t *testing.T) {
				m := prommerge.New(quiet(prommerge.Options{Sort: true, Async: async}))
				defer m.Close()
				ts := pageSet{"", n, pages}.opened(textType)
				poolsStay(t)
				for range 3 {
					mergeInMemory(t, m, textType, ts)
				}
				got := allocations(mostAllocations, func() { mergeInMemory(t, m, textType, ts) })
				t.Logf("%v allocations", got)
				if got > mostAllocations {
					t.Errorf("%v allocations, not %d at most", got, mostAllocations)
				}
			})
		}
	}
}

// poolsStay keeps the garbage collector from emptying pools until the end of the test: on a busy machine it takes long, and what
// it empties while allocations are counted is allocated again.
func poolsStay(t *testing.T) {
	t.Helper()
	runtime.GC()
	was := debug.SetGCPercent(-1)
	t.Cleanup(func() { debug.SetGCPercent(was) })
}

// allocations returns how many a call makes in the steady state, which are to be at most so many. Where more run side by side than
// ever before, as the machine is busy, what they need is allocated once more: so it counts again, some times.
func allocations(most float64, f func()) float64 {
	fewest := testing.AllocsPerRun(5, f)
	for i := 0; i < 5 && fewest > most; i++ {
		fewest = min(fewest, testing.AllocsPerRun(5, f))
	}
	return fewest
}

// answering serves the same page again and again, and allocates nothing for it.
func answering(t testing.TB, page []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", textType, len(page), page)
	var wg sync.WaitGroup
	serve := func(c net.Conn) {
		defer func() { _ = c.Close() }()
		for r := bufio.NewReader(c); ; {
			line, err := r.ReadSlice('\n')
			if err == nil && len(line) == 2 { // the end of a request
				_, err = c.Write(answer)
			}
			if err != nil {
				return // the client closed it
			}
		}
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return "http://" + l.Addr().String() + "/metrics"
}

// The same requests are made with nothing but a client, and what that allocates does not count.
func TestAMergeOverHTTPAllocatesLittleBesideTheClient(t *testing.T) {
	if raced {
		t.Skip("the race detector lets pools forget")
	}
	at, err := url.Parse(answering(t, nodePage(1)))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
	defer client.CloseIdleConnections()
	header, buf := http.Header{"Accept": {acceptText}, "Accept-Encoding": {"identity"}, "User-Agent": {"test"}}, make([]byte, 64<<10)
	request := func(ctx context.Context) error {
		blank := http.Request{Method: http.MethodGet, URL: at, Host: at.Host, Header: header}
		resp, err := client.Do(blank.WithContext(ctx))
		if err != nil {
			return err
		}
		for err == nil {
			_, err = resp.Body.Read(buf)
		}
		if cerr := resp.Body.Close(); cerr != nil || errors.Is(err, io.EOF) {
			return cerr
		}
		return err
	}
	for _, async := range []bool{false, true} {
		for _, n := range []int{10, 100} {
			t.Run(fmt.Sprintf("%d targets, side by side: %v", n, async), func(t *testing.T) {
				m := prommerge.New(quiet(prommerge.Options{Sort: true, Async: async}))
				defer m.Close()
				ts := targetsAt(at.String(), n)
				poolsStay(t)
				for range 3 {
					mergeInMemory(t, m, textType, ts)
				}
				asking := testing.AllocsPerRun(5, func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					for range n {
						if err := request(ctx); err != nil {
							t.Fatal(err)
						}
					}
				})
				merging := allocations(asking+mostAllocations, func() { mergeInMemory(t, m, textType, ts) })
				t.Logf("%v allocations, of which %v are the client's", merging, asking)
				if merging-asking > mostAllocations {
					t.Errorf("%v allocations beside the client's, not %d at most", merging-asking, mostAllocations)
				}
			})
		}
	}
}

// meeting returns targets that answer once all of them have been asked.
func meeting(n int) []prommerge.Target {
	var mu sync.Mutex // guards asked
	asked, all := 0, make(chan struct{})
	var ts []prommerge.Target
	for i := range n {
		ts = append(ts, prommerge.Target{Name: fmt.Sprint("p", i), Open: func(ctx context.Context, _ string) (io.ReadCloser, string, error) {
			mu.Lock()
			if asked++; asked == n {
				close(all)
				asked, all = 0, make(chan struct{})
				mu.Unlock()
			} else {
				wait := all
				mu.Unlock()
				select {
				case <-wait:
				case <-ctx.Done():
					return nil, "", ctx.Err()
				}
			}
			return io.NopCloser(strings.NewReader("a 1\n")), textType, nil
		}})
	}
	return ts
}

// A bubble ends only when all goroutines in it have.
func TestWorkersDoNotOutlastTheirUse(t *testing.T) {
	merge := func(t *testing.T, m *prommerge.Merger, n int) {
		t.Helper()
		for i, r := range gatherAll(t, m, meeting(n)) {
			if !r.Up {
				t.Errorf("target %d of %d: %v", i, n, r.Err)
			}
		}
	}
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, m *prommerge.Merger)
	}{
		{"they end when no merge comes", func(t *testing.T, m *prommerge.Merger) {
			merge(t, m, 100)
			time.Sleep(time.Hour)
		}},
		{"some of them end when merges are smaller", func(t *testing.T, m *prommerge.Merger) {
			merge(t, m, 100)
			for range 200 {
				time.Sleep(time.Minute)
				merge(t, m, 3)
			}
			time.Sleep(time.Hour)
		}},
		{"they end when the merger is closed", func(t *testing.T, m *prommerge.Merger) {
			for n := range 10 {
				merge(t, m, n)
			}
			m.Close()
		}},
		{"they end when the merger is closed twice and used again", func(t *testing.T, m *prommerge.Merger) {
			merge(t, m, 10)
			m.Close()
			merge(t, m, 100)
			m.Close()
			merge(t, m, 10)
		}},
		{"they end when several merges ran at the same time", func(t *testing.T, m *prommerge.Merger) {
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() { merge(t, m, 20) })
			}
			wg.Wait()
			m.Close()
		}},
		{"closing waits for them", func(t *testing.T, m *prommerge.Merger) {
			start := time.Now()
			slow := prommerge.Target{Name: "slow", Open: func(context.Context, string) (io.ReadCloser, string, error) {
				time.Sleep(time.Second)
				return nil, "", errors.New("late")
			}}
			var wg sync.WaitGroup
			wg.Go(func() { gatherAll(t, m, []prommerge.Target{slow, slow, slow}) })
			synctest.Wait()
			m.Close()
			if took := time.Since(start); took != time.Second {
				t.Errorf("closed after %v", took)
			}
			wg.Wait()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { tt.do(t, prommerge.New(quiet(prommerge.Options{Async: true}))) })
		})
	}
}

func gatherAll(t *testing.T, m *prommerge.Merger, targets []prommerge.Target) []prommerge.Result {
	t.Helper()
	_, _, rs := gather(t, m, acceptText, targets...)
	return rs
}

// Merges one after the other use the same workers.
func TestWorkersAreUsedAgain(t *testing.T) {
	m := prommerge.New(quiet(prommerge.Options{Async: true}))
	defer m.Close()
	targets := meeting(50)
	gatherAll(t, m, targets)
	before := runtime.NumGoroutine()
	for i := range 100 {
		for _, r := range gatherAll(t, m, targets) {
			if !r.Up {
				t.Fatalf("merge %d: %s: %v", i, r.Name, r.Err)
			}
		}
	}
	if after := runtime.NumGoroutine(); after > before { // goroutines of other tests may end meanwhile
		t.Errorf("%d goroutines after 100 merges, %d before", after, before)
	}
}
