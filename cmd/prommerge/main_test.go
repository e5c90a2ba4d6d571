package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// file writes a file into a new directory and returns its path.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// exporter starts prommerge and returns its URL.
func exporter(t *testing.T, config string, targets ...string) string {
	t.Helper()
	src, err := newSource(config, targets, quiet())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &flags{Async: true, Sort: true, HonorLabels: "rename", EnableReload: true, SuppressErrors: true}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := serve(ctx, f, src, l, quiet()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return "http://" + l.Addr().String()
}

// answer is what a test wants to know of a response, whose body is closed.
type answer struct {
	Status     string
	StatusCode int
	Header     http.Header
}

func get(t *testing.T, url string, header ...string) (answer, []byte) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.Status, resp.StatusCode, resp.Header}, b
}

func metrics(t *testing.T, check func(r *http.Request) bool) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if check != nil && !check(r) {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, "m 1\n")
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestBadConfigsAreRefusedWithTheirReason(t *testing.T) {
	for _, tt := range []struct{ name, config, want string }{
		{"an unknown key", "targets: [{name: a, url: http://x/, tiemout: 1s}]", `c.yaml: line 1: unknown field "tiemout"; known here: name, url, labels, timeout, headers, basicAuth, bearerTokenFile, tls`},
		{"a bad duration", "targets: [{name: a, url: http://x/, timeout: 5}]", `line 1: "5" is not a duration: write 500ms, 5s or 1m`},
		{"no name", "targets: [{url: http://x/}]", `target with url "http://x/" has no name`},
		{"no URL", "targets: [{name: a}]", `target a: url "" is not complete: write http://host:port/metrics`},
		{"a URL without a scheme", "targets: [{name: a, url: localhost:80}]", `target a: url "localhost:80" is not complete`},
		{"a name twice", "targets: [{name: a, url: http://x/}, {name: a, url: http://y/}]", `two targets are called "a"`},
		{"two kinds of credentials", "targets: [{name: a, url: http://x/, basicAuth: {username: u}, bearerTokenFile: f}]", "basicAuth and bearerTokenFile exclude each other"},
		{"two passwords", "targets: [{name: a, url: http://x/, basicAuth: {username: u, password: p, passwordFile: f}}]", "target a: password and passwordFile exclude each other"},
		{"a label that is the target's name", "targets: [{name: a, url: http://x/, labels: {process_name: b}}]", `target a: label "process_name" cannot be set: process_name is the name of the target`},
		{"a label that is the metric's name", "targets: [{name: a, url: http://x/, labels: {__name__: b}}]", `label "__name__" cannot be set`},
		{"a CA file that is not there", "targets: [{name: a, url: http://x/, tls: {caFile: /nonexistent}}]", "target a: read CA: open /nonexistent"},
		{"a bad pattern", "fileSD: ['[']", `fileSD "[": syntax error in pattern`},
		{"no YAML", "targets: [", "did not find"},
		{"text where a list should be", "targets: node", `line 1: text "node" stands where something else is expected`},
		{"a list where a mapping should be", "targets: [{name: a, url: http://x/, labels: [b]}]", "line 1: list stands where something else is expected"},
		{"an unknown key of basicAuth", "targets: [{name: a, url: http://x/, basicAuth: {user: u}}]", "known here: username, password, passwordFile"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newSource(file(t, "c.yaml", tt.config), nil, quiet())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	for _, tt := range []struct {
		targets []string
		want    string
	}{
		{nil, "no targets: give -config FILE or -target NAME=URL"},
		{[]string{"x"}, `-target "x": write name=url`},
		{[]string{"x=y"}, `-target x: url "y" is not complete`},
		{[]string{"x=http://a/", "x=http://b/"}, `two targets are called "x"`},
	} {
		if _, err := newSource("", tt.targets, quiet()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q", tt.targets, err, tt.want)
		}
	}
}

func TestCredentialsAndHeadersReachTheTarget(t *testing.T) {
	token := file(t, "token", "secret-token\n")
	config := filepath.Join(filepath.Dir(token), "c.yaml")
	bearer := metrics(t, func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer secret-token" })
	basic := metrics(t, func(r *http.Request) bool { u, p, _ := r.BasicAuth(); return u == "me" && p == "secret-token" })
	header := metrics(t, func(r *http.Request) bool { return r.Header.Get("X-Scope-Orgid") == "team" })
	if err := os.WriteFile(config, []byte(`
targets:
  - {name: bearer, url: `+bearer+`, bearerTokenFile: `+token+`}
  - {name: basic, url: `+basic+`, basicAuth: {username: me, passwordFile: token}} # beside the config
  - {name: header, url: `+header+`, headers: {x-scope-orgid: team}, labels: {zone: b}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	url := exporter(t, config)
	_, page := get(t, url+"/metrics")
	for _, want := range []string{`m{process_name="bearer"} 1`, `m{process_name="basic"} 1`, `m{process_name="header",zone="b"} 1`} {
		if !strings.Contains(string(page), want+"\n") {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	_, list := get(t, url+"/targets", "Accept", "application/json")
	var got []targetStatus
	if err := json.Unmarshal(list, &got); err != nil || len(got) != 3 || got[0].Name != "basic" || got[0].Up == nil || !*got[0].Up || got[0].Samples != 1 {
		t.Errorf("%v in %s", err, list)
	}
	if strings.Contains(string(list), "secret") {
		t.Errorf("a secret in %s", list)
	}
}

func TestEndpoints(t *testing.T) {
	url := exporter(t, "", "a="+metrics(t, nil), "<b>=http://127.0.0.1:1/")
	for _, tt := range []struct{ path, contentType, want string }{
		{"/health", "text/plain", "ok\n"},
		{"/metrics", "text/plain; version=0.0.4", `prommerge_target_up{process_name="a"} 1`},
		{"/self", "text/plain", "prommerge_config_last_reload_successful 1"},
		{"/targets", "text/html", "<td>&lt;b&gt;<td>"},
		{"/targets?format=json", "application/json", `"reason": "connect"`},
	} {
		resp, body := get(t, url+tt.path)
		if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), tt.contentType) || !strings.Contains(string(body), tt.want) {
			t.Errorf("%s: %s, %s\n%s", tt.path, resp.Status, resp.Header.Get("Content-Type"), body)
		}
	}
}

func TestAnswersAreCompressedWhenAsked(t *testing.T) {
	url := exporter(t, "", "a="+metrics(t, nil))
	for range 3 { // compressors are used again
		resp, b := get(t, url+"/metrics", "Accept-Encoding", "gzip")
		z, err := gzip.NewReader(strings.NewReader(string(b)))
		if err != nil || resp.Header.Get("Content-Encoding") != "gzip" {
			t.Fatal(err, resp.Header)
		}
		if page, err := io.ReadAll(z); err != nil || !strings.Contains(string(page), `m{process_name="a"} 1`) {
			t.Errorf("gzip: %v\n%s", err, page)
		}
		resp, b = get(t, url+"/metrics", "Accept-Encoding", "zstd,gzip")
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil || resp.Header.Get("Content-Encoding") != "zstd" {
			t.Fatal(err, resp.Header)
		}
		if page, err := d.DecodeAll(b, nil); err != nil || !strings.Contains(string(page), `m{process_name="a"} 1`) {
			t.Errorf("zstd: %v\n%s", err, page)
		}
		d.Close()
	}
}

func TestABadReloadKeepsWhatWasGood(t *testing.T) {
	path := file(t, "c.yaml", "targets: [{name: a, url: http://127.0.0.1:1/}]")
	url := exporter(t, path)
	reload := func() int {
		resp, err := http.Post(url+"/-/reload", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode
	}
	defer http.DefaultClient.CloseIdleConnections()
	for _, tt := range []struct {
		config string
		status int
		want   string
		self   string
	}{
		{"targets: [{name: b, url: http://127.0.0.1:1/}]", 200, `"name": "b"`, "successful 1"},
		{"targets: [{name: c}]", 500, `"name": "b"`, "successful 0"},
		{"targets: [{name: d, url: http://127.0.0.1:1/}]", 200, `"name": "d"`, "successful 1"},
	} {
		if err := os.WriteFile(path, []byte(tt.config), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := reload(); got != tt.status {
			t.Errorf("%s: status %d", tt.config, got)
		}
		if _, list := get(t, url+"/targets?format=json"); !strings.Contains(string(list), tt.want) {
			t.Errorf("%s: %s", tt.config, list)
		}
		if _, self := get(t, url+"/self"); !strings.Contains(string(self), "prommerge_config_last_reload_"+tt.self+"\n") {
			t.Errorf("%s:\n%s", tt.config, self)
		}
	}
}

func TestFilesOfTargetsAreReadAgainWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, age time.Duration) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	write("c.yaml", "fileSD: ['sd/*.json', 'sd/*.yaml']\ntargets: [{name: fixed, url: http://x/}]", 0)
	if err := os.Mkdir(filepath.Join(dir, "sd"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("sd/a.json", `[{"targets": ["a:1", "a:2"], "labels": {"zone": "z", "__scheme__": "https", "__metrics_path__": "/m", "__meta_x": "y"}}]`, time.Hour)
	write("sd/b.yaml", "- targets: [b:1]\n  labels: {process_name: bee}\n- targets: ['a:1']\n", time.Hour)
	src, err := newSource(filepath.Join(dir, "c.yaml"), nil, quiet())
	if err != nil {
		t.Fatal(err)
	}
	names := func() string {
		src.mu.Lock()
		src.looked = time.Time{} // as if refresh had passed
		src.mu.Unlock()
		var all []string
		for _, tg := range src.Targets() {
			all = append(all, tg.Name+" "+tg.URL)
		}
		return strings.Join(all, "\n")
	}
	a, b := "fixed http://x/\na:1 https://a:1/m\na:2 https://a:2/m\n", "bee http://b:1/metrics"
	if got := names(); got != a+b {
		t.Errorf("at first:\n%s", got)
	}
	if tg := src.Targets()[1]; len(tg.Labels) != 1 || tg.Labels["zone"] != "z" {
		t.Errorf("labels %v", tg.Labels)
	}
	write("sd/b.yaml", "- targets: [c:1]\n", time.Minute)
	if got := names(); got != a+"c:1 http://c:1/metrics" {
		t.Errorf("after a change:\n%s", got)
	}
	write("sd/b.yaml", "broken: [", 0)
	if got := names(); got != a+"c:1 http://c:1/metrics" {
		t.Errorf("after a bad change:\n%s", got)
	}
	write("c.yaml", "fileSD: ['sd/*.json', 'sd/*.yaml']\ntargets: [{name: moved, url: http://x/}]", 0)
	if err := src.Reload(); err != nil {
		t.Error(err)
	}
	a = strings.Replace(a, "fixed", "moved", 1)
	if got := names(); got != a+"c:1 http://c:1/metrics" {
		t.Errorf("after a reload with a file that is still bad:\n%s", got)
	}
	if err := os.Remove(filepath.Join(dir, "sd/b.yaml")); err != nil {
		t.Fatal(err)
	}
	if got := names(); got != strings.TrimSpace(a) {
		t.Errorf("after a removal:\n%s", got)
	}
}

func TestFilesOfTargetsAreReadAsPrometheusReadsThem(t *testing.T) {
	const group = `[{"targets": ["h:1"], "labels": {`
	for _, tt := range []struct{ name, text, want string }{
		{"an address alone", `[{"targets": ["h:1"]}]`, "h:1 http://h:1/metrics 0s map[]"},
		{"an IPv6 address", `[{"targets": ["[::1]:1"]}]`, "[::1]:1 http://[::1]:1/metrics 0s map[]"},
		{"parameters", group + `"__param_module": "http_2xx", "__param_target": "a b&c"}}]`, "h:1 http://h:1/metrics?module=http_2xx&target=a+b%26c 0s map[]"},
		{"a path with a query", group + `"__metrics_path__": "/federate?match=x", "__param_a": "b"}}]`, "h:1 http://h:1/federate?match=x&a=b 0s map[]"},
		{"a timeout", group + `"__scrape_timeout__": "3s"}}]`, "h:1 http://h:1/metrics 3s map[]"},
		{"a bad timeout", group + `"__scrape_timeout__": "3"}}]`, `target "h:1": __scrape_timeout__ "3" is not a duration`},
		{"labels and a name", group + `"a": "b", "__meta_x": "y", "process_name": "n"}}]`, "n http://h:1/metrics 0s map[a:b]"},
		{"a scheme that is none", group + `"__scheme__": "ftp"}}]`, `target "h:1": url "ftp://h:1/metrics" is not complete`},
		{"escapes of JSON", group + `"a": "\ud83d\ude00\/\u00e9\\\"\ud83d", "__metrics_path__": "\/m"}}]`, "h:1 http://h:1/m 0s map[a:\U0001F600/é\\\"\uFFFD]"},
		{"JSON with tabs", "[\n\t{\n\t\t\"targets\": [\"h:1\"]\n\t}\n]\n", "h:1 http://h:1/metrics 0s map[]"},
		{"YAML with what would be an escape", `- targets: ['h:1']` + "\n  labels: {a: 'b\\/c'}", `h:1 http://h:1/metrics 0s map[a:b\/c]`},
		{"two documents", "- targets: ['h:1']\n---\n- targets: ['h:2']\n", "a second document begins with ---"},
		{"no list", `{"targets": []}`, "line 1: mapping stands where something else is expected"},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			targets, err := parseSD(file(t, "sd.json", tt.text))
			var got []string
			for _, tg := range targets {
				got = append(got, fmt.Sprint(tg.Name, " ", tg.URL, " ", tg.Timeout, " ", tg.Labels))
			}
			if err != nil {
				got = append(got, err.Error())
			}
			if all := strings.Join(got, "\n"); all != tt.want && (err == nil || !strings.Contains(all, tt.want)) {
				t.Errorf("got %s, want %s", all, tt.want)
			}
		})
	}
}

func TestASecondTargetOfTheSameNameIsReportedOnce(t *testing.T) {
	var logged strings.Builder
	config := file(t, "c.yaml", "fileSD: [sd.json]\ntargets: [{name: 'h:1', url: http://u:secret@x/}]")
	sd := filepath.Join(filepath.Dir(config), "sd.json")
	if err := os.WriteFile(sd, []byte(`[{"targets": ["h:1", "h:2"]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := newSource(config, nil, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	src.looked = time.Time{}
	if got := src.Targets(); len(got) != 2 || got[0].URL != "http://u:secret@x/" || got[1].Name != "h:2" {
		t.Errorf("targets %v", got)
	}
	if got := logged.String(); strings.Count(got, "two targets have one name") != 1 || strings.Contains(got, "secret") {
		t.Errorf("log: %s", got)
	}
}
