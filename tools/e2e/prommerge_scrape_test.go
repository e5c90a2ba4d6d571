package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// answers returns a handler that answers 200 with a header, in pairs, and a body.
func answers(body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textPage)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		_, _ = io.WriteString(w, body)
	}
}

// sends returns a handler that writes bytes to the connection and closes it.
func sends(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err) // of the test's own server
		}
		_, _ = io.WriteString(connection, text)
		_ = connection.Close()
	}
}

// endless writes comments until the client has had enough, or for 1 GB.
func endless(w io.Writer) {
	comment := []byte("# " + strings.Repeat("x", 64<<10-3) + "\n")
	for range 1 << 14 {
		if _, err := w.Write(comment); err != nil {
			return
		}
	}
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// misbehaving are targets that would cost others their samples if they could.
func misbehaving() []struct {
	name string
	up   int
	do   http.HandlerFunc
} {
	return []struct {
		name string
		up   int
		do   http.HandlerFunc
	}{
		{"hangs", 0, hang},
		{"answers 500", 0, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
		{"dies in its page", 0, sends("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\nbad 1\nbad{a=\"")},
		{"is cut without anybody saying so", 0, sends("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nbad 1\nbad 2")},
		{"sends HTML", 0, answers("<html><body>Sign in</body></html>", "Content-Type", "text/html")},
		{"sends HTML as text", 0, answers("<html><body>Sign in</body></html>\n")},
		{"sends gzip garbage", 0, answers("\x1f\x8bgarbage", "Content-Encoding", "gzip")},
		{"sends 1 GB", 0, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", textPage); endless(w) }},
		{"sends a gzip bomb", 0, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", textPage)
			w.Header().Set("Content-Encoding", "gzip")
			z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
			endless(z)
		}},
		{"redirects to another host", 0, answersRedirect},
		{"has a negative timestamp", 0, answers("bad 1 -5\n")},
		{"has a label twice", 0, answers(`bad{a="1",a="2"} 1` + "\n")},
		{"has a label that is not UTF-8", 0, answers("bad{a=\"\xff\"} 1\n")},
		{"has a hexadecimal value", 0, answers("bad 0x1p3\n")},
		{"has an unknown type", 0, answers("# TYPE bad speed\nbad 1\n")},
		{"has an open quote", 0, answers("bad 1\nbad{a=\"1} 1\n")},
		{"sends OpenMetrics without its end", 0, answers("bad_total 1\n", "Content-Type", omPage)},
		{"says again that there is no end", 0, answers("bad 1\n# EOF\nbad 2\n# EOF\n", "Content-Type", omPage)},
		{"sends protobuf garbage", 0, answers("\x05\x01\x02", "Content-Type", protoPage)},
		{"has no final newline", 1, answers("bad 1")},
		{"says nothing", 1, answers("")},
		{"does not say what it sends", 1, answers("bad 1\n", "Content-Type", "")},
		{"contradicts a TYPE", 1, answers("# TYPE go_goroutines histogram\ngo_goroutines_bucket{le=\"+Inf\"} 1\ngo_goroutines_sum 1\n" +
			"go_goroutines_count 1\n# TYPE go_gc_duration_seconds counter\ngo_gc_duration_seconds 1\n# TYPE process_cpu_seconds summary\n")},
		{"is in the way of a histogram", 1, answers("# TYPE go_gc_duration_seconds_count gauge\ngo_gc_duration_seconds_count 7\n")},
		{"is called otherwise in its labels", 1, answers(`up{process_name="node",exported_process_name="etcd"} 1` + "\n" + `prommerge_target_up{process_name="node"} 0` + "\n")},
		{"speaks in our name", 1, answers("# TYPE prommerge_target_up counter\nprommerge_target_up 0\nprommerge_type_conflicts_total 5\n")},
		{"says things twice", 1, answers("bad 1\nbad 2\nbad 3\n")},
		{"lives in the future", 1, answers("bad 1 99999999999999\n")},
		{"has a name in quotes", 1, answers(`{"bad.name","a.b"="c"} 1`+"\n", "Content-Type", "text/plain; version=1.0.0; escaping=allow-utf-8")},
	}
}

func answersRedirect(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "http://localhost:1/metrics", http.StatusFound)
}

// One Prometheus scrapes one exporter for each kind of bad target. It must not see that there is one, but for
// prommerge_target_up.
func TestABadTargetCostsTheOthersNothing(t *testing.T) {
	good := []page{
		fetchPage(t, "node", "http://"+startNodeExporter(t).addr+"/metrics"),
		fetchPage(t, "etcd", "http://"+startEtcd(t).addr+"/metrics"),
		fetchPage(t, "prometheus", "http://"+startPrometheus(t, "scrape_configs: []\n").addr+"/metrics"),
	}
	var targets []mergeTarget
	for _, p := range good {
		targets = append(targets, mergeTarget{Name: p.name, URL: serveOn(t, p)})
	}
	var config strings.Builder
	config.WriteString("global: {scrape_interval: 6s, scrape_timeout: 6s}\nscrape_configs:\n- job_name: merged\n  honor_labels: true\n  static_configs:\n")
	want, pages := map[string]int{}, map[string]string{}
	scraped := func(name string, up int, bad mergeTarget) {
		want[name] = up
		e := startExporter(t, append(slices.Clone(targets), bad), "-suppress-errors")
		pages[name] = "http://" + e.addr + "/metrics"
		fmt.Fprintf(&config, "  - {targets: ['%s'], labels: {case: '%s'}}\n", e.addr, name)
	}
	for _, bad := range misbehaving() {
		target := mergeTarget{Name: "bad", URL: serveOn(t, bad.do)}
		if bad.up == 0 { // the others may take as long as Prometheus waits
			target.Timeout = "1s"
		}
		scraped(bad.name, bad.up, target)
	}
	scraped("is not there", 0, mergeTarget{Name: "bad", URL: "http://127.0.0.1:1/metrics"})
	p := prometheusAPI{t, startPrometheus(t, config.String()).addr}
	for _, times := range []int{1, 2} { // each has its time, for a busy machine
		eventually(t, fmt.Sprintf("every exporter is scraped, %d of 2 times", times), func() error {
			if got := p.query(fmt.Sprintf(`count_over_time(up[5m]) >= %d`, times)); len(got) < len(want) {
				return fmt.Errorf("%d of %d", len(got), len(want))
			}
			return nil
		})
	}
	for name, up := range want {
		page := fetchPage(t, name, pages[name])
		page.lines(t) // a newer Prometheus takes it too
		if up == 0 {
			checkLint(t, page, good)
		}
	}
	p.eachCase("min_over_time(up[5m])", func(string) string { return "1" }, want)
	p.eachCase(`prommerge_target_up{process_name="bad",exported_process_name=""}`, func(name string) string { return strconv.Itoa(want[name]) }, want)
	for _, in := range good {
		p.eachCase(fmt.Sprintf("prommerge_target_up{process_name=%q}", in.name), func(string) string { return "1" }, want)
		samples := in.samples(t, "-label", "process_name="+in.name)
		for i := range samples {
			samples[i] = plainBounds(samples[i])
		}
		for name := range want {
			var got []string
			for _, s := range p.query(fmt.Sprintf(`{process_name=%q,case=%q,__name__!~"prommerge_.*"}`, in.name, name)) {
				got = append(got, s.line())
			}
			t.Run(name+", samples of "+in.name, func(t *testing.T) { sameLines(t, got, samples) })
		}
	}
}

// prometheusAPI asks a Prometheus.
type prometheusAPI struct {
	t    *testing.T
	addr string
}

// series is one element of an instant vector.
type series struct {
	Metric map[string]string
	Value  [2]any
}

func (p prometheusAPI) query(q string) []series {
	p.t.Helper()
	answer := fetchPage(p.t, "query", "http://"+p.addr+"/api/v1/query?query="+url.QueryEscape(q))
	var all struct {
		Data struct{ Result []series }
	}
	if err := json.NewDecoder(bytes.NewReader(answer.body)).Decode(&all); err != nil {
		p.t.Fatalf("decode the answer to %s: %v", q, err)
	}
	return all.Data.Result
}

// eachCase checks one value for each exporter.
func (p prometheusAPI) eachCase(q string, value func(name string) string, cases map[string]int) {
	p.t.Helper()
	left := maps.Clone(cases)
	for _, s := range p.query(q) {
		name := s.Metric["case"]
		if got := s.Value[1]; got != value(name) {
			p.t.Errorf("a target that %s: %s is %v, not %s", name, q, got, value(name))
		}
		delete(left, name)
	}
	for name := range left {
		p.t.Errorf("a target that %s: no %s", name, q)
	}
}

// line returns the series as textparse writes it, without the labels of the scrape.
func (s series) line() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.Metric)) {
		if name != "case" && name != "job" && name != "instance" {
			fmt.Fprintf(&b, ", %s=%q", name, s.Metric[name])
		}
	}
	text, _ := s.Value[1].(string)
	if v, err := strconv.ParseFloat(text, 64); err == nil {
		text = strconv.FormatFloat(v, 'g', -1, 64)
	}
	return plainBounds(fmt.Sprintf("SAMPLE {%s} %s -", strings.TrimPrefix(b.String(), ", "), text))
}

var bound = regexp.MustCompile(`\b((?:le|quantile)="[-+0-9e]+)\.0"`)

// plainBounds writes the bounds of buckets as Prometheus 2 does. Prometheus 3 adds a .0 to whole numbers.
func plainBounds(line string) string { return bound.ReplaceAllString(line, `$1"`) }
