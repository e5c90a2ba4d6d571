package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// page returns /metrics as text.
func (c *collector) page() string {
	c.t.Helper()
	_, page := get(c.t, "http://"+c.http+"/metrics")
	return page
}

// everyKind is one message for each thing that the page can have, hostile ones among them.
var everyKind = strings.Join([]string{
	`{"name":"jobs_total","op":"inc","value":2,"help":"Jobs.\nAll of \\them","labels":{"job":"a\"b\\c\nd"}}`,
	`{"name":"jobs_total","op":"inc","value":3,"labels":{"job":"x","more":"y"}}`,
	`{"name":"temperature","op":"set","value":-1.5e-7}`,
	`{"name":"seconds","op":"obs","value":0.2,"bucket_custom":[0.1,0.5,1]}`,
	`{"name":"seconds","op":"obs","value":7}`,
	`{"name":"exact_seconds","op":"obs","value":0.2,"native":true}`,
	`{"name":"seconds_count","op":"inc","value":1}`, `{"name":"jobs_total","op":"obs","value":1}`,
	`{"name":"up","op":"set","value":0}`, `{"name":"9.bad-name é","op":"inc","value":1,"labels":{"a.b-c":"\u0000","é":"\u2028"}}`,
	`{"name":"go_goroutines","op":"inc","value":1}`, `{"name":"x","op":"inc","labels":{"__name__":"y"}}`,
	`{"name":"job","op":"set","value":1,"labels":{"instance":"forged","job":"forged"}}`,
}, "\n")

func TestPromtoolFindsThePageValid(t *testing.T) {
	needs(t, "promtool")
	c := collect(t, nil)
	c.send("udp", everyKind)
	c.until(5, "jobs_total")
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(c.page())
	out, err := check.CombinedOutput()
	// Exit code 3 is advice on names, which are the senders': counters without _total, names that are no words.
	if code := code(t, err); code != 0 && code != 3 {
		t.Errorf("exit code %d: %s", code, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "metrics_server_") {
			t.Errorf("of our own: %s", line)
		}
	}
}

// instant returns the value of a query that finds one series, or "".
func instant(t *testing.T, p *server, query string) string {
	t.Helper()
	found := prometheusAPI{t, p.addr}.query(query)
	if len(found) != 1 {
		return ""
	}
	return fmt.Sprint(found[0].Value[1])
}

func TestPrometheusScrapesIt(t *testing.T) {
	needs(t, "prometheus")
	for _, protocol := range []string{"text", "native histograms"} {
		t.Run(protocol, func(t *testing.T) {
			c := collect(t, nil)
			c.send("udp", everyKind)
			c.until(5, "jobs_total")
			config := fmt.Sprintf("scrape_configs:\n- {job_name: ms, scrape_interval: 100ms, scrape_timeout: 100ms, static_configs: [{targets: [%q]}]}\n", c.http)
			var p *server
			if protocol == "text" {
				p = startPrometheus(t, config)
			} else {
				p = startPrometheus(t, config, "--enable-feature=native-histograms")
			}
			for query, want := range map[string]string{
				`up{data_source=""}`:                "1",
				`sum(jobs_total)`:                   "5",
				`temperature`:                       "-1.5e-07",
				`seconds_bucket{le="0.5"}`:          "1",
				`_9_bad_name__{a_b_c="\x00"}`:       "1",
				`scrape_samples_scraped > bool 100`: "1",
				`job{exported_job="forged"}`:        "1",
			} {
				eventually(t, query, func() error {
					if got := instant(t, p, query); got != want {
						return fmt.Errorf("%s is %q, not %q", query, got, want)
					}
					return nil
				})
			}
			if protocol != "text" {
				eventually(t, "a native histogram", func() error {
					if got := instant(t, p, "histogram_count(exact_seconds)"); got != "1" {
						return fmt.Errorf("its count is %q", got)
					}
					return nil
				})
			}
		})
	}
}
