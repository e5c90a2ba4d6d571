package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// kubePage returns a page in the shape of kube-state-metrics': few families, thousands of series, long labels.
func kubePage() page {
	var b bytes.Buffer
	for _, family := range []string{"info", "owner", "labels", "created", "status_phase", "status_ready", "status_scheduled",
		"container_info", "container_status_ready", "container_status_restarts", "container_status_running", "restart_policy"} {
		name := "kube_pod_" + family
		fmt.Fprintf(&b, "# HELP %s [STABLE] Information about a pod: %s.\n# TYPE %s gauge\n", name, family, name)
		for i := range 2000 {
			fmt.Fprintf(&b, "%s{namespace=\"production-%02d\",pod=\"service-%03d-%08x-%05x\",uid=\"%08x-0123-4567-89ab-%012x\",container=\"main\","+
				"image=\"registry.example/team/service:1.2.%d\",image_id=\"sha256:%064x\",reason=\"\\\"quoted\\\", {and} C:\\\\n\"} %d.7e+09\n",
				name, i%20, i%200, i*7919, i, i*104729, i, i%9, i, i%10)
		}
	}
	return page{"kube", textPage, b.Bytes()}
}

// trapsText holds what breaks those who read pages too simply.
var trapsText = page{"traps", "text/plain; version=1.0.0; charset=utf-8", []byte(strings.Join([]string{
	"# a comment", "", "#", "# HELP empty ", "# TYPE empty gauge", "empty NaN", `empty{sign="+"} +Inf`, `empty{sign="-"} -Inf`,
	`# HELP escaped one\ntwo \\ "three"`, "# TYPE escaped untyped", `escaped{a="x,y",b="{}",c="\"q\"",d="one\ntwo",e="C:\\dir\\"} 1.5E+06`,
	"# TYPE big counter", "big 9223372036854775807", `big{of="int64"} 9007199254740993 1700000000000`, `big{at="zero"} 1 0`,
	"  \t", `blank  {  a = "b"  ,  c	=	"d" , }  	 7   1700000000001`, "a:colon:name 1", `given{process_name="mine",exported_process_name="too"} 4`,
	"# TYPE latency histogram", `latency_bucket{le="0.005"} 1`, `latency_bucket{le="+Inf"} 3`, "latency_sum 1e-7", "latency_count 3",
	"# TYPE rpc summary", `rpc{quantile="0.5"} NaN`, "rpc_sum 0", "rpc_count 0", `# TYPE "utf.8" gauge`, `# HELP "utf.8" dots`,
	`{"utf.8","a b"="c"} 1`, `{"utf.8"} 2`, `long{v="` + strings.Repeat("0123456789abcdef", 8<<10) + `"} 1`, "denormal 5e-324", "last 1",
}, "\n") + "\n")}

// trapsOM is the same for OpenMetrics.
var trapsOM = page{"traps", omPage, []byte(strings.Join([]string{
	"# HELP request_seconds Time of \\\"requests\\\".", "# TYPE request_seconds histogram", "# UNIT request_seconds seconds",
	`request_seconds_bucket{le="0.1"} 1 # {trace_id="a,b}\"c"} 0.05 1700000000.123`, `request_seconds_bucket{le="+Inf"} 2 # {} 3`,
	"request_seconds_sum 3.05", "request_seconds_count 2", "request_seconds_created 1600000000.5",
	"# TYPE jobs counter", `jobs_total{q="x"} 5 1700000000.25 # {t="y"} 1`, `jobs_created{q="x"} 1.6e9`,
	"# TYPE build info", `build_info{v="1"} 1`, "# TYPE mode stateset", `mode{mode="on"} 1`, `mode{mode="off"} 0`,
	"# TYPE sizes gaugehistogram", `sizes_bucket{le="+Inf"} 2`, "sizes_gsum 3", "sizes_gcount 2", "# TYPE odd unknown", "odd 1 -5.5", "# EOF",
}, "\n") + "\n")}

func TestMergedPagesSayWhatTheirInputsSay(t *testing.T) {
	const asText = "text/plain;version=0.0.4"
	prometheus := "http://" + startPrometheus(t, "scrape_configs: []\n").addr + "/metrics"
	all := map[string]string{
		"node":       "http://" + startNodeExporter(t).addr + "/metrics",
		"etcd":       "http://" + startEtcd(t).addr + "/metrics",
		"prometheus": prometheus, "twin": prometheus,
		"kube": serveOn(t, kubePage()), "traps": serveOn(t, trapsText), "om": serveOn(t, trapsOM), "same": serveOn(t, trapsOM),
	}
	for _, tt := range []struct {
		name    string
		targets string
		accept  string
		want    string // Content-Type
		strict  bool   // expfmt reads it too
		args    []string
	}{
		{"text", "node etcd prometheus twin kube", asText, textPage, true, nil},
		{"text, unsorted and one by one", "prometheus node etcd", asText, textPage, true, []string{"-sort=false", "-async=false"}},
		{"text with UTF-8 names", "traps node", "text/plain;version=1.0.0;escaping=allow-utf-8", "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8", false, nil},
		{"OpenMetrics", "om same", "application/openmetrics-text;version=1.0.0", omPage + "; escaping=underscores", false, nil},
		{"protobuf", "node etcd prometheus twin", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", protoPage, true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var targets []mergeTarget
			var records []*recorder
			for _, name := range strings.Fields(tt.targets) {
				r := &recorder{t: t, name: name, url: all[name]}
				records = append(records, r)
				targets = append(targets, mergeTarget{Name: name, URL: serveOn(t, r)})
			}
			url := "http://" + startExporter(t, targets, tt.args...).addr + "/metrics"
			merged := fetchPage(t, "prommerge", url, "Accept", tt.accept)
			if merged.contentType != tt.want {
				t.Errorf("Content-Type %q, want %q", merged.contentType, tt.want)
			}
			var inputs []page
			for _, r := range records {
				inputs = append(inputs, r.page())
			}
			checkMerged(t, merged, inputs)
			if tt.strict {
				checkMerged(t, merged, inputs, "-expfmt")
			}
			if tt.want == textPage {
				checkLint(t, merged, inputs)
			}
		})
	}
}

// checkLint fails when promtool complains about what it does not complain about in the inputs.
func checkLint(t *testing.T, merged page, inputs []page) {
	t.Helper()
	known := map[string]bool{"": true}
	for _, in := range inputs {
		for _, line := range lint(t, in) {
			known[line] = true
		}
	}
	complaints := lint(t, merged)
	for _, line := range complaints {
		if !known[line] {
			t.Errorf("promtool about the merged page only: %s", line)
		}
	}
	if len(known) > 1 && len(complaints) < 2 {
		t.Error("promtool found nothing in the merged page: has it read it?")
	}
}

func lint(t *testing.T, p page) []string {
	t.Helper()
	needs(t, "promtool")
	cmd := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	cmd.Stdin = bytes.NewReader(p.body)
	out, err := cmd.CombinedOutput()
	if got := code(t, err); got != 0 && got != 3 { // 3: there is something to improve
		t.Errorf("promtool cannot read the page of %s: exit code %d\n%s", p.name, got, out)
	}
	return slices.Compact(strings.Split(string(out), "\n"))
}
