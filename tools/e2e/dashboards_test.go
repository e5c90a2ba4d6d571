package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	alertRules = root + "/deployment/prometheus/rules.yaml"
	alertTests = root + "/deployment/prometheus/rules_test.yaml"
)

func TestTheAlertsDoWhatTheirUnitTestsSay(t *testing.T) {
	needs(t, "promtool")
	for _, args := range [][]string{{"check", "rules", alertRules}, {"test", "rules", alertTests}} {
		if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	rules, err := os.ReadFile(alertRules)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(alertTests)
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllSubmatch(rules, -1)
	if len(alerts) < 20 {
		t.Errorf("only %d alerts were found", len(alerts))
	}
	for _, m := range alerts {
		for _, expected := range []string{`\n        exp_alerts:\n          - exp_labels`, `\n        exp_alerts: \[\]`} {
			pattern := `alertname: ` + string(m[1]) + `\n        eval_time: \w+` + expected
			if !regexp.MustCompile(pattern).Match(tests) {
				t.Errorf("%s has no test with %q", m[1], expected)
			}
		}
	}
}

// Every expression of the dashboards and alerts is evaluated by a real Prometheus that scrapes all our
// programs, and every metric and label in it is one that they have.
func TestDashboardsAndAlertsUseWhatThereIs(t *testing.T) {
	needs(t, "prometheus", "etcd")
	expressions := map[string]string{} // name of a rule → expression
	for name, d := range dashboards(t) {
		for i, e := range d.expressions() {
			expressions[fmt.Sprintf("%s:%d", strings.ReplaceAll(name, "-", "_"), i)] = e
		}
	}
	p := startPrometheus(t, prometheusConfig(t, everyProgram(t), expressions))
	var rules []prometheusRule
	eventually(t, "Prometheus evaluates all rules", func() error {
		rules = p.rules(t)
		for _, r := range rules {
			if r.Health != "ok" {
				return fmt.Errorf("%s is %s: %s\n%s", r.Name, r.Health, r.LastError, r.Query)
			}
		}
		return nil
	})
	if want := len(expressions) + 20; len(rules) < want {
		t.Fatalf("Prometheus has %d rules, fewer than %d", len(rules), want)
	}
	for _, s := range selectors(rules) {
		eventually(t, "series for "+s.metric, func() error { return p.knows(t, s) })
	}
}

// dashboard is what counts of a dashboard of Grafana.
type dashboard struct {
	UID, Title string
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		ID          int
		Type, Title string
		GridPos     struct{ H, W, X, Y int }
		Targets     []struct{ Expr string }
		Datasource  struct{ UID string }
		FieldConfig struct{ Defaults struct{ Unit string } }
	}
}

func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(root + "/deployment/grafana/*.json")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	all := map[string]dashboard{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".json")] = d
	}
	return all
}

// expressions are those of panels and variables, with what Grafana puts in for its own.
func (d dashboard) expressions() []string {
	var all []string
	add := func(e string) {
		e = strings.NewReplacer("$__rate_interval", "1m", `=~"$`, `=~".*$`).Replace(e)
		all = append(all, regexp.MustCompile(`\$\w+`).ReplaceAllString(e, ""))
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			add(target.Expr)
		}
	}
	for _, v := range d.Templating.List {
		if m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(v.Definition); m != nil {
			add("count by (" + m[2] + ") (" + m[1] + ")")
		}
	}
	return all
}

func TestTheDashboardsAreWhole(t *testing.T) {
	for name, d := range dashboards(t) {
		t.Run(name, func(t *testing.T) {
			if d.UID != name || d.Title != name {
				t.Errorf("it has the uid %q and the title %q", d.UID, d.Title)
			}
			d.checkLayout(t)
			d.checkPanels(t)
		})
	}
}

// checkLayout fails where a panel lies on another one or outside.
func (d dashboard) checkLayout(t *testing.T) {
	t.Helper()
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies on %q or outside", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// checkPanels fails where a panel or variable lacks something or names a variable that is not there.
func (d dashboard) checkPanels(t *testing.T) {
	t.Helper()
	variables := []string{"__rate_interval"}
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
		if v.Type == "query" && !strings.HasPrefix(v.Definition, "label_values(") {
			t.Errorf("variable %s is %q", v.Name, v.Definition)
		}
	}
	for i, p := range d.Panels {
		if p.ID != i+1 {
			t.Errorf("panel %q has the id %d, not %d", p.Title, p.ID, i+1)
		}
		if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" || p.FieldConfig.Defaults.Unit == "") {
			t.Errorf("panel %q is not whole: %+v", p.Title, p)
		}
		for _, target := range p.Targets {
			for _, m := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
				if !slices.Contains(variables, m[1]) {
					t.Errorf("panel %q: there is no variable %s", p.Title, m[1])
				}
			}
		}
	}
}

// everyProgram starts all programs, and lets happen what makes their metrics. It returns the addresses of
// their pages.
func everyProgram(t *testing.T) (pages []string) {
	t.Helper()
	c := collect(t, nil, "-loki-address", "http://127.0.0.1:1")
	c.send("udp", `{"name":"jobs_done","op":"inc","value":1}{"name":"restart","op":"event"}nonsense`)

	etcd := startEtcd(t)
	locks := startLockServer(t, nil, program("shared-lock"), "-listen", "127.0.0.1:0", "-etcd-endpoints", etcd.addr)
	locks.url = "http://" + locks.stderr.waitFor(t, lockListens)[1]
	if status, _ := locks.ask(t, http.MethodPost, "/v1/locks/a/acquire", `{"owner":"me","ttl":"1m"}`); status != http.StatusCreated {
		t.Fatalf("acquire is %d", status)
	}
	w := start(t, options{
		config: script("web", forever, `readiness: {delay: 0s, period: 1s, failureThreshold: 1000, tcp: {socket: "127.0.0.1:1"}}`) +
			script("leader", forever, "readiness: {lock: {ttlDuration: 30s}}") +
			script("crash", "exit 3", "backoff: {initial: 100ms, max: 200ms}") +
			script("loud", "while :; do echo line; done", "log: {rate: {lines: 1}}", "nice: 19"),
		args: []string{"-shared-lock-url", locks.url},
		env:  newCloud(t).env("METRICS_SERVER_ADDRESS=" + c.udp),
	})
	w.until("crash", "has crashed", func(s state) bool { return s.Restarts > 0 })
	eventually(t, "the leader has its lock", func() error {
		if w.metric(`process_wrapper_lock_held{process_name="leader"}`) != 1 {
			return fmt.Errorf("it is %+v", w.states()["leader"])
		}
		return nil
	})

	kill(t, etcd.pid)
	if status, _ := locks.ask(t, http.MethodPost, "/v1/locks/b/acquire", `{"owner":"me","ttl":"1m"}`); status != http.StatusServiceUnavailable {
		t.Fatalf("acquire without etcd is %d", status)
	}

	merge := startExporter(t, []mergeTarget{{Name: "wrapper", URL: w.url("/metrics")}, {Name: "dead", URL: "http://127.0.0.1:1/metrics"}})
	return []string{
		w.url("/metrics"), "http://" + c.http + "/metrics", locks.url + "/metrics", "http://" + merge.addr + "/metrics", "http://" + merge.addr + "/self",
	}
}

// prometheusConfig scrapes pages, and evaluates our alerts and the given expressions.
func prometheusConfig(t *testing.T, pages []string, expressions map[string]string) string {
	t.Helper()
	var rules []map[string]string
	for name, e := range expressions {
		rules = append(rules, map[string]string{"record": name, "expr": e})
	}
	asYAML := func(v any) string { // JSON is YAML
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	recorded := write(t, "dashboards.yaml", asYAML(map[string]any{"groups": []any{map[string]any{"name": "dashboards", "rules": rules}}}))
	ours, err := filepath.Abs(alertRules)
	if err != nil {
		t.Fatal(err)
	}
	var jobs []any
	for i, page := range pages {
		u, err := url.Parse(page)
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, map[string]any{"job_name": fmt.Sprint("job", i), "metrics_path": u.Path, "static_configs": []any{map[string]any{"targets": []string{u.Host}}}})
	}
	return asYAML(map[string]any{
		"global":     map[string]string{"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
		"rule_files": []string{ours, recorded}, "scrape_configs": jobs,
	})
}

type prometheusRule struct{ Name, Query, Health, LastError string }

// ask asks the API of Prometheus.
func (s *server) ask(t *testing.T, path string, data any) {
	t.Helper()
	status, body := get(t, "http://"+s.addr+"/api/v1/"+path)
	answer := struct{ Data any }{data}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK {
		t.Fatalf("%s is %d: %v\n%s", path, status, err, body)
	}
}

func (s *server) rules(t *testing.T) (all []prometheusRule) {
	t.Helper()
	var data struct {
		Groups []struct{ Rules []prometheusRule }
	}
	s.ask(t, "rules", &data)
	for _, g := range data.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// selector is a metric with the labels that expressions name of it.
type selector struct {
	metric string
	labels []string
}

var (
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right) \([^)]*\)`)
	quoted   = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	chosen   = regexp.MustCompile(`([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)`)
	duration = regexp.MustCompile(`\[[^]]*\]|offset \w+`)
)

// selectors finds the metrics of expressions as Prometheus prints them: what is no function, no operator and no
// number.
func selectors(rules []prometheusRule) []selector {
	byMetric := map[string]map[string]bool{}
	for _, r := range rules {
		text := duration.ReplaceAllString(quoted.ReplaceAllString(grouping.ReplaceAllString(r.Query, ""), ""), "")
		for _, at := range chosen.FindAllStringSubmatchIndex(text, -1) {
			name := text[at[2]:at[3]]
			function := strings.HasPrefix(strings.TrimLeft(text[at[3]:], " "), "(")
			if function || slices.Contains([]string{"and", "or", "unless", "bool", "Inf", "e"}, name) {
				continue
			}
			if byMetric[name] == nil {
				byMetric[name] = map[string]bool{}
			}
			if at[4] >= 0 {
				for _, m := range matcher.FindAllStringSubmatch(text[at[4]:at[5]], -1) {
					byMetric[name][m[1]] = true
				}
			}
		}
	}
	var all []selector
	for name, labels := range byMetric {
		s := selector{metric: name}
		for l := range labels {
			s.labels = append(s.labels, l)
		}
		all = append(all, s)
	}
	return all
}

// knows says whether Prometheus has series of a metric, with all its labels.
func (s *server) knows(t *testing.T, sel selector) error {
	t.Helper()
	var labels []string
	s.ask(t, "labels?match[]="+url.QueryEscape(sel.metric), &labels)
	if len(labels) == 0 {
		return fmt.Errorf("no program has a metric %s", sel.metric)
	}
	for _, l := range sel.labels {
		if !slices.Contains(labels, l) {
			return fmt.Errorf("%s has no label %s, but %v", sel.metric, l, labels)
		}
	}
	return nil
}

func TestWhatIsNoMetricIsFound(t *testing.T) {
	got := selectors([]prometheusRule{{Query: `sum by (le) (rate(a_total{x="1",y=~"(b|c)"}[5m] offset 1m)) > 0.5 and time() - b{z!="by (x)"} or (c unless a_total offset 10m)`}})
	slices.SortFunc(got, func(a, b selector) int { return strings.Compare(a.metric, b.metric) })
	for i := range got {
		slices.Sort(got[i].labels)
	}
	if want := "[{a_total [x y]} {b [z]} {c []}]"; fmt.Sprint(got) != want {
		t.Errorf("it finds %v, not %s", got, want)
	}
}
