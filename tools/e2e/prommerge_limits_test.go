package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestAHungTargetDoesNotOutlastTheScraper(t *testing.T) {
	url := serveOn(t, answers("# TYPE good gauge\ngood 1\n"))
	var targets []mergeTarget
	for i := range 99 {
		targets = append(targets, mergeTarget{Name: fmt.Sprint("good", i), URL: url})
	}
	targets = append(targets, mergeTarget{Name: "hung", URL: serveOn(t, http.HandlerFunc(hang))})
	merged := "http://" + startExporter(t, targets, "-suppress-errors", "-timeout", "1m").addr + "/metrics"
	fetchPage(t, "prommerge", merged, "X-Prometheus-Scrape-Timeout-Seconds", "3") // connects
	began := time.Now()
	p := fetchPage(t, "prommerge", merged, "X-Prometheus-Scrape-Timeout-Seconds", "1")
	t.Logf("the answer took %v; the bar is 1 s", time.Since(began))
	within(t, began, 10*time.Second, "the answer")
	values := p.values(t)
	for _, target := range targets {
		up := 1.0
		if target.Name == "hung" {
			up = 0
		}
		if got := values["prommerge_target_up{process_name=\""+target.Name+"\"}"]; got != up {
			t.Errorf("prommerge_target_up of %s is %v", target.Name, got)
		}
		if got := values["good{process_name=\""+target.Name+"\"}"]; got != up {
			t.Errorf("good of %s is %v", target.Name, got)
		}
	}
}

// values returns the samples of a page in text that have no blank in a label.
func (p page) values(t *testing.T) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	for _, m := range sample.FindAllStringSubmatch(string(p.body), -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		values[m[1]] = v
	}
	return values
}

func TestAThousandBadScrapesLeaveNothingBehind(t *testing.T) {
	e := startExporter(t, []mergeTarget{
		{Name: "good", URL: serveOn(t, answers("good 1\n"))},
		{Name: "failing", URL: serveOn(t, answers("bad{\n"))},
		{Name: "refusing", URL: "http://127.0.0.1:1/metrics"},
		{Name: "hanging", URL: serveOn(t, http.HandlerFunc(hang)), Timeout: "5ms"},
		{Name: "dying", URL: serveOn(t, sends("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\nbad 1\nbad"))},
	}, "-suppress-errors")
	scrape := func(n int) {
		for range n {
			p := fetchPage(t, "prommerge", "http://"+e.addr+"/metrics")
			if !strings.Contains(string(p.body), `good{process_name="good"} 1`) {
				t.Fatalf("the good target is not there:\n%s", p.body)
			}
		}
	}
	held := func() (goroutines, files float64) {
		files = float64(openFiles(t, e.pid))
		return fetchPage(t, "prommerge", "http://"+e.addr+"/self").values(t)["go_goroutines"], files
	}
	scrape(50)
	goroutines, files := held()
	scrape(1000)
	eventually(t, "what 1,000 scrapes held is given back", func() error {
		g, f := held()
		if max(g-goroutines, f-files) > 5 { // fewer than before there may be: some were about to end then
			return fmt.Errorf("%v goroutines and %v descriptors, %v and %v before", g, f, goroutines, files)
		}
		return nil
	})
}
