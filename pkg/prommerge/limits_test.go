package prommerge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

func TestATargetCannotCostMoreThanItsLimit(t *testing.T) {
	limits := prommerge.Limits{TargetBytes: 1 << 20}
	labels := map[string]string{"a_label": strings.Repeat("x", 100)}
	distinct := func(format string) string {
		var b strings.Builder
		for i := range 50_000 {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for _, tt := range []struct {
		name, page, reason string
		labels             map[string]string
	}{
		{"short lines that grow when labels are added", strings.Repeat("a 1\n", 200_000), "too_large", labels},
		{"as many short lines without labels", strings.Repeat("a 1\n", 50_000), "", nil},
		{"a name of its own for each line", distinct("a%d 1\n"), "too_large", nil},
		{"families by turns", strings.Repeat("a 1\nb 1\n", 100_000), "too_large", nil},
		{"a HELP over and over", strings.Repeat("# HELP a b\n# HELP a c\n", 47_500), "too_large", nil},
		{"5,000 labels on a line", "a{" + distinctLabels(5000) + "} 1\n", "too_large", nil},
		{"4,000 labels on a line", "a{" + distinctLabels(4000) + "} 1\n", "", nil},
		{"20 labels, one of them twice", "a{" + distinctLabels(20) + `,l3="x"} 1` + "\n", "syntax", nil},
		{"20 labels, one of them __name__", "a{" + distinctLabels(20) + `,__name__="x"} 1` + "\n", "syntax", nil},
	} {
		for _, ct := range []string{textType, protoType} {
			if ct == protoType && !strings.Contains(tt.name, "labels, ") && !strings.Contains(tt.name, "on a line") {
				continue
			}
			t.Run(tt.name+", "+ct, func(t *testing.T) {
				in := []byte(tt.page)
				if ct == protoType {
					in = protoLabels(tt.page)
				}
				bad := opened("bad", ct, in)
				bad.Labels = tt.labels
				_, _, rs := gather(t, prommerge.New(quiet(prommerge.Options{Limits: limits})), acceptText, bad, opened("good", textType, []byte("g 1\n")))
				if rs[0].Reason != tt.reason || rs[0].Up != (tt.reason == "") || !rs[1].Up {
					t.Errorf("up %v, reason %q, err %v; the other is up %v", rs[0].Up, rs[0].Reason, rs[0].Err, rs[1].Up)
				}
			})
		}
	}
}

func distinctLabels(n int) string {
	labels := make([]string, n)
	for i := range labels {
		labels[i] = fmt.Sprintf(`l%d="v"`, i)
	}
	return strings.Join(labels, ",")
}

// protoLabels turns a line of text into protobuf, right or wrong.
func protoLabels(line string) []byte {
	line = line[2:strings.IndexByte(line, '}')]
	var kv []string
	for pair := range strings.SplitSeq(line, ",") {
		name, value, _ := strings.Cut(pair, "=")
		kv = append(kv, name, strings.Trim(value, `"`))
	}
	return encodeProto(gaugeFamily("a", 1, kv...))
}

func TestFailingTargetsDoNotUseUpTheTotal(t *testing.T) {
	m := prommerge.New(quiet(prommerge.Options{Limits: prommerge.Limits{TargetBytes: 1 << 20, TotalBytes: 2 << 20}}))
	var ts []prommerge.Target
	for i := range 10 {
		ts = append(ts, opened(fmt.Sprint("bad", i), textType, []byte(strings.Repeat("a 1\n", 200_000)+"{")))
	}
	page := []byte(strings.Repeat("a{b=\"cdefghijklmnopqrstuvwxyz\"} 1\n", 20_000))
	for i := range 4 {
		ts = append(ts, opened(fmt.Sprint("good", i), textType, page))
	}
	_, _, rs := gather(t, m, acceptText, ts...)
	for i, up := range []bool{false, false, false, false, false, false, false, false, false, false, true, true, true, false} {
		if rs[i].Up != up {
			t.Errorf("%s: up %v, %v", rs[i].Name, rs[i].Up, rs[i].Err)
		}
	}
	if rs[13].Reason != "too_large" {
		t.Errorf("the fourth good page is over the total, but: %q, %v", rs[13].Reason, rs[13].Err)
	}
}

func TestAFloodOfHeadersIsCutOff(t *testing.T) {
	flood := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := range 1000 {
			w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 1000))
		}
		_, _ = io.WriteString(w, "a 1\n")
	})
	_, body := get(t, merging(t, prommerge.Options{}, prommerge.Target{Name: "flood", URL: flood}))
	if !strings.Contains(body, `prommerge_target_up{process_name="flood"} 0`) {
		t.Error(body)
	}
}

func TestOnlySoManyMergesRunAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := prommerge.New(quiet(prommerge.Options{Limits: prommerge.Limits{Merges: 2}}))
		var mu sync.Mutex // guards both
		running, most := 0, 0
		target := prommerge.Target{Name: "x", Open: func(ctx context.Context, _ string) (io.ReadCloser, string, error) {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			running--
			return nil, "", errors.New("late")
		}, Timeout: 3 * time.Second}
		h := m.Handler(func() []prommerge.Target { return []prommerge.Target{target} })
		done := make(chan *httptest.ResponseRecorder, 3)
		start := time.Now()
		var wg sync.WaitGroup
		defer wg.Wait()
		for i := range 3 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "1.25")
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				done <- w
			})
		}
		for range 3 {
			if w := <-done; w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `prommerge_target_up{process_name="x"} 0`) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		if took := time.Since(start); took > 1300*time.Millisecond {
			t.Errorf("the one that waited took until %v", took)
		}
		if most != 2 {
			t.Errorf("%d at the same time", most)
		}
	})
}

// deadlines records write deadlines.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

func TestAScraperMustTakeThePageInTime(t *testing.T) {
	m := prommerge.New(quiet(prommerge.Options{}))
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	start := time.Now()
	m.Handler(func() []prommerge.Target { return nil }).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if len(w.set) != 2 || w.set[0].Before(start) || w.set[0].After(time.Now().Add(2*time.Minute)) || !w.set[1].IsZero() {
		t.Errorf("write deadlines %v", w.set)
	}
}

func TestOnlySoManyTargetsAreAskedAtTheSameTime(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  prommerge.Options
		most int
		took time.Duration
	}{
		{"one by one", prommerge.Options{}, 1, 250 * time.Second},
		{"side by side", prommerge.Options{Async: true}, 100, 3 * time.Second},
		{"three at a time", prommerge.Options{Async: true, Limits: prommerge.Limits{Concurrency: 3}}, 3, 84 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex // guards both
				running, most := 0, 0
				var ts []prommerge.Target
				for i := range 250 {
					ts = append(ts, prommerge.Target{Name: fmt.Sprint(i), Open: func(context.Context, string) (io.ReadCloser, string, error) {
						mu.Lock()
						running++
						most = max(most, running)
						mu.Unlock()
						time.Sleep(time.Second)
						mu.Lock()
						defer mu.Unlock()
						running--
						return io.NopCloser(strings.NewReader("a 1\n")), textType, nil
					}})
				}
				m := prommerge.New(quiet(tt.opt))
				defer m.Close()
				start := time.Now()
				_, _, rs := gather(t, m, acceptText, ts...)
				if took := time.Since(start); most != tt.most || took != tt.took || !rs[249].Up {
					t.Errorf("%d at the same time, not %d; took %v, not %v", most, tt.most, took, tt.took)
				}
			})
		})
	}
}

func TestATargetHasTheShortestOfItsTimeouts(t *testing.T) {
	for _, tt := range []struct {
		name                string
		own, option, scrape time.Duration
		want                time.Duration
	}{
		{"nobody says anything", 0, 0, 0, prommerge.DefaultTimeout},
		{"the option", 0, 3 * time.Second, 0, 3 * time.Second},
		{"its own, which is shorter than the option", time.Second, 3 * time.Second, 0, time.Second},
		{"its own, which is longer than the option", 5 * time.Second, 3 * time.Second, 0, 5 * time.Second},
		{"the scraper's, less a quarter of a second", 5 * time.Second, 0, 2 * time.Second, 1750 * time.Millisecond},
		{"its own, which is shorter than the scraper's", time.Second, 0, 2 * time.Second, time.Second},
		{"half of the scraper's, where that is short", 0, 0, 200 * time.Millisecond, 100 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := prommerge.New(quiet(prommerge.Options{Timeout: tt.option}))
				target := prommerge.Target{Name: "x", Timeout: tt.own, Open: func(ctx context.Context, _ string) (io.ReadCloser, string, error) {
					<-ctx.Done()
					return nil, "", ctx.Err()
				}}
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				if tt.scrape > 0 {
					r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", fmt.Sprint(tt.scrape.Seconds()))
				}
				w := httptest.NewRecorder()
				start := time.Now()
				m.Handler(func() []prommerge.Target { return []prommerge.Target{target} }).ServeHTTP(w, r)
				if took := time.Since(start); took != tt.want || !strings.Contains(w.Body.String(), `reason="timeout"} 1`) {
					t.Errorf("took %v, want %v; %s", took, tt.want, w.Body)
				}
			})
		})
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	for _, tt := range []struct {
		name string
		h    http.HandlerFunc
	}{
		{"good page", page("a 1\n")},
		{"status 500", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) }},
		{"HTML", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opened := 0
			s := httptest.NewUnstartedServer(tt.h)
			s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					opened++ // in the server's accept loop
				}
			}
			s.Start()
			m := prommerge.New(quiet(prommerge.Options{Async: true}))
			for range 10 {
				gather(t, m, acceptText, prommerge.Target{Name: "x", URL: s.URL})
			}
			m.Close()
			s.Close()
			if opened != 1 {
				t.Errorf("%d connections for 10 merges", opened)
			}
		})
	}
}

// transport answers without a network.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestOtherHostsAreAskedForGzip(t *testing.T) {
	var asked []string
	client := &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.Host+" "+r.Header.Get("Accept-Encoding")+" "+r.Header.Get("X-A")+" "+r.Host)
		r.Header.Set("X-A", "changed, as no transport should")
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {textType}, "Content-Encoding": {"gzip"}},
			Body: io.NopCloser(strings.NewReader(gzipped([]byte("a 1\n")))), ContentLength: -1}, nil
	})}
	m := prommerge.New(quiet(prommerge.Options{Client: client}))
	page, _, rs := gather(t, m, acceptText, prommerge.Target{Name: "far", URL: "http://far.example/"}, prommerge.Target{Name: "six", URL: "http://[::1]:1/"},
		prommerge.Target{Name: "header", URL: "http://far.example/", Header: http.Header{"x-a": {"b"}, "accept-encoding": {"br"}, "host": {"other.example"}}})
	if want := []string{"far.example gzip  far.example", "[::1]:1 identity  [::1]:1", "far.example gzip b other.example"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	if strings.Count(page, "a{process_name") != 3 {
		t.Errorf("%v\n%s", rs, page)
	}
}

func TestAMergeThatIsPartOfItselfEndsAtOnce(t *testing.T) {
	for name, mergers := range map[string]int{"asks itself": 1, "asks one that asks it": 2, "asks one below two others": 3} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			good := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				_, _ = io.WriteString(w, "good 1\n")
			})
			urls := make([]string, mergers)
			for i := range urls {
				m := prommerge.New(quiet(prommerge.Options{Async: true}))
				t.Cleanup(m.Close)
				h := m.Handler(func() []prommerge.Target {
					return []prommerge.Target{{Name: "good", URL: good}, {Name: "loop", URL: urls[(i+1)%mergers]}}
				})
				urls[i] = upstream(t, h.ServeHTTP)
			}
			_, body := get(t, urls[0])
			if n := int(asked.Load()); n != mergers {
				t.Errorf("the good target was asked %d times by %d mergers", n, mergers)
			}
			if !strings.Contains(body, "good{process_name=\"good\"} 1\n") {
				t.Errorf("no good sample in\n%s", body)
			}
			if up := strings.Contains(body, "prommerge_target_up{process_name=\"loop\"} 1\n"); up != (mergers > 1) {
				t.Errorf("the other merger is up: %v, in\n%s", up, body)
			}
		})
	}
}
