package prommerge_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// upstream starts a server whose answers h gives.
func upstream(tb testing.TB, h http.HandlerFunc) string {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s.URL
}

func page(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textType)
		_, _ = io.WriteString(w, body)
	}
}

// raw answers every connection with bytes and closes it.
func raw(tb testing.TB, answer string) string {
	tb.Helper()
	return upstream(tb, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(c, answer)
		_ = c.Close()
	})
}

func gzipped(body []byte) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(body)
	_ = z.Close()
	return b.String()
}

// merging starts a merger in front of targets.
func merging(tb testing.TB, opt prommerge.Options, targets ...prommerge.Target) string {
	tb.Helper()
	m := prommerge.New(quiet(opt))
	tb.Cleanup(m.Close)
	s := httptest.NewServer(m.Handler(func() []prommerge.Target { return targets }))
	tb.Cleanup(s.Close)
	return s.URL
}

// answer is what a test wants to know of a response, whose body is closed.
type answer struct {
	Status     string
	StatusCode int
	Header     http.Header
}

func get(tb testing.TB, url string, header ...string) (answer, string) {
	tb.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return answer{resp.Status, resp.StatusCode, resp.Header}, string(b)
}

func TestTargetsThatFailOverHTTP(t *testing.T) {
	good := upstream(t, page("g{b=\"c\"} 1\n"))
	other := upstream(t, page("secret 1\n"))
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	for _, tt := range []struct {
		name, url, reason string
	}{
		{"connection refused", refused(t), "connect"},
		{"not a URL", "::", "connect"},
		{"status 500", upstream(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) }), "status"},
		{"status 204", upstream(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }), "status"},
		{"a redirect to another host", upstream(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, http.StatusFound) }), "status"},
		{"redirects without end", upstream(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }), "status"},
		{"HTML with 200", upstream(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }), "content_type"},
		{"JSON", upstream(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "application/json") }), "content_type"},
		{"a body cut by the end of the connection", raw(t, head+"\r\na 1\na 12"), "truncated"},
		{"a body shorter than its Content-Length", raw(t, head+"Content-Length: 100\r\n\r\na 1\n"), "truncated"},
		{"a body cut within a chunk", raw(t, head+"Transfer-Encoding: chunked\r\n\r\nff\r\na 1\n"), "truncated"},
		{"gzip that is none", raw(t, head+"Content-Encoding: gzip\r\nContent-Length: 30\r\n\r\na 1\nb 1\nc 1\nd 1\ne 1\nf 1\ng 1\nhi"), "encoding"},
		{"gzip cut short", raw(t, head+"Content-Encoding: gzip\r\n\r\n"+gzipped(bytes.Repeat([]byte("a 1\n"), 1000))[:20]), "truncated"},
		{"gzip that is long and holds nothing", raw(t, head+"Content-Encoding: gzip\r\n\r\n"+strings.Repeat(gzipped(nil), 60_000)), "too_large"},
		{"an unknown encoding", raw(t, head+"Content-Encoding: br\r\nContent-Length: 4\r\n\r\na 1\n"), "encoding"},
		{"a gzip bomb", raw(t, head+"Content-Encoding: gzip\r\n\r\n"+gzipped(bytes.Repeat([]byte("a{b=\"c\"} 1\n"), 200000))), "too_large"},
		{"a page without end", upstream(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", textType)
			for r.Context().Err() == nil {
				_, _ = w.Write(bytes.Repeat([]byte("a 1\n"), 10000))
			}
		}), "too_large"},
		{"a line without end", upstream(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", textType)
			for r.Context().Err() == nil {
				_, _ = w.Write(bytes.Repeat([]byte("a"), 100000))
			}
		}), "too_large"},
		{"a target that hangs", upstream(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "timeout"},
		{"a target that hangs within its page", upstream(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", textType)
			_, _ = io.WriteString(w, "a 1\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}), "timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			timeout := 30 * time.Second
			if tt.reason == "timeout" {
				timeout = time.Second
			}
			url := merging(t, prommerge.Options{Async: true, Limits: prommerge.Limits{TargetBytes: 1 << 20}},
				prommerge.Target{Name: "good", URL: good}, prommerge.Target{Name: "bad", URL: tt.url, Timeout: timeout})
			resp, body := get(t, url)
			if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != textType {
				t.Errorf("%s, %q", resp.Status, resp.Header.Get("Content-Type"))
			}
			p, err := checkPage(body, false)
			if err != nil || len(p.with("good")) != 1 || len(p.with("bad")) != 0 {
				t.Errorf("%v in\n%s", err, body)
			}
			for _, want := range []string{`prommerge_target_up{process_name="bad"} 0`, `prommerge_target_errors_total{process_name="bad",reason="` + tt.reason + `"} 1`} {
				if !strings.Contains(body, want) {
					t.Errorf("no %s in\n%s", want, body)
				}
			}
		})
	}
}

// refused returns a URL on which nobody listens.
func refused(tb testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return "http://" + l.Addr().String()
}

func TestAPageIsThereWithoutTargets(t *testing.T) {
	resp, body := get(t, merging(t, prommerge.Options{}))
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "prommerge_merge_duration_seconds ") {
		t.Errorf("%s: %s", resp.Status, body)
	}
}

func TestAHungTargetDoesNotHoldUpTheOthers(t *testing.T) {
	var targets []prommerge.Target
	good := upstream(t, page("g 1\n"))
	for i := range 99 {
		targets = append(targets, prommerge.Target{Name: fmt.Sprint("p", i), URL: good})
	}
	targets = append(targets, prommerge.Target{Name: "hung", URL: upstream(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), Timeout: time.Second})
	url := merging(t, prommerge.Options{Async: true}, targets...)
	start := time.Now()
	_, body := get(t, url, "X-Prometheus-Scrape-Timeout-Seconds", "60") // a busy machine needs longer than a second for the others
	if n := strings.Count(body, "g{process_name"); n != 99 {
		t.Errorf("%d of 99 targets", n)
	}
	if d := time.Since(start); d > 10*time.Second { // promised within 1 s
		t.Errorf("took %v", d)
	}
}

func TestUpstreamRequestsEndWhenTheScraperLeaves(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	hung := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	})
	url := merging(t, prommerge.Options{}, prommerge.Target{Name: "hung", URL: hung, Timeout: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
			t.Error("an answer")
		}
	})
	<-began
	start := time.Now()
	cancel()
	<-ended                                               // else the test never ends
	if d := time.Since(start); d > 500*time.Millisecond { // promised within 50 ms
		t.Errorf("the request to the target ended %v after the scraper's", d)
	}
	wg.Wait()
}

func TestTargetsAreAskedForWhatTheScraperLikes(t *testing.T) {
	for _, tt := range []struct{ accept, want string }{
		{"", "text/plain;version=1.0.0;escaping=underscores;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"},
		{"*/*", "text/plain;version=1.0.0;escaping=underscores;q=0.3,"},
		{"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.8,"},
		{"application/openmetrics-text;version=0.0.1;q=0.3,text/plain;version=0.0.4;q=0.6", "text/plain"},
		{protoType + ";q=0.6,text/plain;q=0.5", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"},
		{"application/openmetrics-text;version=2.0.0,application/json;q=0.9", "text/plain"},
		{"application/openmetrics-text;q=0", "text/plain"},
	} {
		t.Run(tt.accept, func(t *testing.T) {
			var got, encoding, timeout string
			target := upstream(t, func(w http.ResponseWriter, r *http.Request) {
				got, encoding, timeout = r.Header.Get("Accept"), r.Header.Get("Accept-Encoding"), r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds")
				page("g 1\n")(w, r)
			})
			get(t, merging(t, prommerge.Options{}, prommerge.Target{Name: "x", URL: target}), "Accept", tt.accept)
			if !strings.HasPrefix(got, tt.want) || encoding != "identity" || timeout == "" {
				t.Errorf("Accept %q, Accept-Encoding %q, timeout %q", got, encoding, timeout)
			}
		})
	}
}

// suffixed marks its output, to tell encodings apart.
type suffixed struct {
	io.Writer
	mark string
}

func (s suffixed) Close() error {
	_, err := io.WriteString(s.Writer, s.mark)
	return err
}

func TestAnswersAreCompressedOnlyWhenAsked(t *testing.T) {
	marked := func(name string) prommerge.Encoding {
		return prommerge.Encoding{Name: name, New: func(w io.Writer) io.WriteCloser { return suffixed{w, "end of " + name} }}
	}
	url := merging(t, prommerge.Options{Encodings: []prommerge.Encoding{marked("zstd"), marked("gzip")}})
	for _, tt := range []struct{ accept, want string }{
		{"", ""}, {"identity", ""}, {"gzip", "gzip"}, {"gzip, zstd", "zstd"}, {"zstd;q=0.1, gzip;q=0.5", "gzip"}, {"gzip;q=0", ""}, {"br", ""},
	} {
		resp, body := get(t, url, "Accept-Encoding", tt.accept)
		if got := resp.Header.Get("Content-Encoding"); got != tt.want || strings.HasSuffix(body, "end of "+tt.want) != (tt.want != "") {
			t.Errorf("Accept-Encoding %q: %q, want %q", tt.accept, got, tt.want)
		}
		if n := resp.Header.Get("Content-Length"); tt.want == "" && n != strconv.Itoa(len(body)) {
			t.Errorf("Content-Length %s of %d", n, len(body))
		}
	}
}

func TestManyScrapesLeaveNothingBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("1,000 scrapes")
	}
	var targets []prommerge.Target
	for i, h := range []string{upstream(t, page("g 1\n")), refused(t), raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na 1\n"),
		upstream(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })} {
		targets = append(targets, prommerge.Target{Name: fmt.Sprint("p", i), URL: h, Timeout: 5 * time.Millisecond})
	}
	targets[0].Timeout = 10 * time.Second
	m := prommerge.New(quiet(prommerge.Options{Async: true}))
	scrape := func(n int) {
		for range n {
			m.Gather(context.Background(), acceptText, targets).Close()
		}
	}
	scrape(20)
	before := runtime.NumGoroutine()
	scrape(1000)
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+5; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
	m.Close()
}

func TestAMergerIsSafeToUseConcurrently(t *testing.T) {
	m := prommerge.New(quiet(prommerge.Options{Async: true, Sort: true}))
	defer m.Close()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			accept, label := acceptText, `x_y="1"`
			if i%2 == 0 {
				accept, label = acceptUTF8, `"x.y"="1"`
			}
			for k := range 8 {
				in := fmt.Sprintf("# TYPE m%d gauge\nm%d{a=\"b\"} 1\nshared{c=\"%d\"} %d\n", k%5, k%5, i, k)
				x := opened("x", textType, []byte(in))
				x.Labels = map[string]string{"x.y": "1"}
				page, _, rs := gather(t, m, accept, x, opened("y", textType, nodePage(uint64(k%3))))
				if p, err := checkPage(page, false); err != nil || len(p.with("x")) != 2 || rs[1].Err != nil || strings.Count(page, label) != 2 {
					t.Errorf("%v, %v, %s", err, rs[1].Err, p.with("x"))
				}
			}
		})
	}
	wg.Wait()
}

func TestAFailureIsLoggedUnlessThatIsSuppressed(t *testing.T) {
	for _, tt := range []struct {
		suppress bool
		want     int
	}{{false, 1}, {true, 0}} {
		var logged bytes.Buffer
		m := prommerge.New(prommerge.Options{SuppressErrors: tt.suppress, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		gather(t, m, acceptText, prommerge.Target{Name: "away", URL: refused(t)}, prommerge.Target{Name: "good", URL: upstream(t, page("g 1\n"))})
		m.Close()
		if got := logged.String(); strings.Count(got, "\n") != tt.want || tt.want > 0 && !strings.Contains(got, "name=away") {
			t.Errorf("suppressed %v: %q", tt.suppress, got)
		}
	}
}
