package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	textPage  = "text/plain; version=0.0.4; charset=utf-8"
	omPage    = "application/openmetrics-text; version=1.0.0; charset=utf-8"
	protoPage = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

// server is a program that runs until the test ends.
type server struct {
	pid    int
	addr   string // where it listens
	output *transcript
}

// startServer starts a program and waits until it says, as the first group of listens, where it listens.
func startServer(t *testing.T, listens string, argv ...string) *server {
	t.Helper()
	needs(t, argv[0])
	d := &server{output: newTranscript()}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = t.TempDir(), d.output, d.output, patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(patience/3, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Wait() // its exit code is its own affair
		if t.Failed() {
			text := d.output.String()
			t.Logf("%s:\n%s", argv[0], text[max(0, len(text)-2000):])
		}
	})
	d.addr = d.output.waitFor(t, regexp.MustCompile(listens))[1]
	return d
}

func startNodeExporter(t *testing.T) *server {
	t.Helper()
	return startServer(t, `msg="Listening on" address=(\S+)`, "prometheus-node-exporter", "--web.listen-address=127.0.0.1:0")
}

func startEtcd(t *testing.T) *server {
	t.Helper()
	const anywhere = "http://127.0.0.1:0"
	return startServer(t, `(?s)ready to serve client requests.*client requests on (127\S+),`, "etcd", "--data-dir", "data",
		"--listen-client-urls", anywhere, "--advertise-client-urls", anywhere, "--listen-peer-urls", anywhere,
		"--initial-advertise-peer-urls", anywhere, "--initial-cluster", "default="+anywhere)
}

// startPrometheus starts a Prometheus with a config.
func startPrometheus(t *testing.T, config string, args ...string) *server {
	t.Helper()
	argv := []string{"prometheus", "--config.file=" + write(t, "prometheus.yml", config), "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"}
	s := startServer(t, `msg="Listening on" address=(\S+)`, append(argv, args...)...)
	s.output.waitFor(t, regexp.MustCompile("Server is ready")) // which may have come first
	return s
}

// mergeTarget is a target as it stands in the config of the exporter.
type mergeTarget struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Timeout string `json:"timeout,omitempty"`
}

// startExporter starts prommerge.
func startExporter(t *testing.T, targets []mergeTarget, args ...string) *server {
	t.Helper()
	config, err := json.Marshal(map[string]any{"targets": targets}) // which is YAML too
	if err != nil {
		t.Fatal(err)
	}
	argv := append([]string{program("prommerge"), "-listen", "127.0.0.1:0", "-config", write(t, "targets.yaml", string(config))}, args...)
	return startServer(t, `msg="?listening"? address="?([^\s"]+)`, argv...)
}

// page is a page of metrics with its type.
type page struct {
	name        string // of the target
	contentType string
	body        []byte
}

// fetchPage asks for a page; header is in pairs.
func fetchPage(t *testing.T, name, url string, header ...string) page {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Timeout: 2 * patience, Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v", url, response.StatusCode, err)
	}
	return page{name, response.Header.Get("Content-Type"), body}
}

// ServeHTTP answers with the page.
func (p page) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", p.contentType)
	_, _ = w.Write(p.body)
}

// serveOn returns the URL of a handler.
func serveOn(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/metrics"
}

// recorder stands before a target and keeps the page that it gave.
type recorder struct {
	t    *testing.T
	name string
	url  string

	mu   sync.Mutex // guards last
	last page
}

// ServeHTTP asks the target as it is asked itself.
func (r *recorder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	p := fetchPage(r.t, r.name, r.url, "Accept", request.Header.Get("Accept"))
	r.mu.Lock()
	r.last = p
	r.mu.Unlock()
	p.ServeHTTP(w, request)
}

// page returns what the target gave last.
func (r *recorder) page() page {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// textparse builds the parsers of others once.
var textparse = sync.OnceValues(func() (string, error) {
	path := filepath.Join(bin, "textparse")
	build := exec.Command("go", "-C", "textparse", "build", "-buildvcs=false", "-o", path, ".")
	build.Env = environment("GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build textparse: %w\n%s", err, out)
	}
	return path, nil
})

// lines returns what a page says, see textparse.
func (p page) lines(t *testing.T, args ...string) []string {
	t.Helper()
	path, err := textparse()
	if err != nil {
		skip(t, "needs Prometheus' parser: %v", err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, append(args, "-type", p.contentType)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(p.body), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("the page of %s (%s) is not valid: %v %s", p.name, p.contentType, err, errs.String())
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

// samples returns only the lines with values.
func (p page) samples(t *testing.T, args ...string) []string {
	t.Helper()
	return slices.DeleteFunc(p.lines(t, args...), func(line string) bool { return !strings.HasPrefix(line, "SAMPLE") })
}

var (
	ownLine  = regexp.MustCompile(`^\S+ (\{__name__=)?"prommerge_`)
	metaLine = regexp.MustCompile(`^((?:TYPE|HELP|UNIT) "(?:[^"\\]|\\.)*") (.*)$`)
)

// split divides lines into those that must all be there, and TYPE, HELP and UNIT, of which the first counts.
func split(lines []string, meta map[string]string) (rest []string) {
	for _, line := range lines {
		m := metaLine.FindStringSubmatch(line)
		switch {
		case ownLine.MatchString(line):
		case m == nil:
			rest = append(rest, line)
		case m[2] == `""` || m[2] == "UNTYPED": // what expfmt says where there is none
		case meta[m[1]] == "":
			meta[m[1]] = m[2]
		}
	}
	return rest
}

// checkMerged fails unless merged says what the inputs say, with the name of the target as a label, and nothing else
// but the merger's own series.
func checkMerged(t *testing.T, merged page, inputs []page, args ...string) {
	t.Helper()
	wantMeta, gotMeta := map[string]string{}, map[string]string{}
	var want []string
	for _, in := range inputs {
		want = append(want, split(in.lines(t, append(args, "-label", "process_name="+in.name)...), wantMeta)...)
	}
	got := split(merged.lines(t, args...), gotMeta)
	for key, value := range wantMeta {
		want = append(want, key+" "+value)
	}
	for key, value := range gotMeta {
		if value == "unknown" && wantMeta[key] == "" {
			continue // it ends what Prometheus does to the labels of a histogram before
		}
		got = append(got, key+" "+value)
	}
	t.Logf("%s: %d lines of %d targets", merged.contentType, len(want), len(inputs))
	sameLines(t, got, want)
}

// sameLines compares two multisets.
func sameLines(t *testing.T, got, want []string) {
	t.Helper()
	count := map[string]int{}
	for _, line := range want {
		count[line]++
	}
	for _, line := range got {
		count[line]--
	}
	var wrong []string
	for line, n := range count {
		if n != 0 {
			wrong = append(wrong, fmt.Sprintf("%+d %.300s", -n, line))
		}
	}
	slices.SortFunc(wrong, func(a, b string) int { return strings.Compare(a[3:], b[3:]) })
	if len(wrong) > 0 {
		t.Errorf("%d lines are missing (-) or too many (+) of %d:\n%s", len(wrong), len(want), strings.Join(wrong[:min(20, len(wrong))], "\n"))
	}
}
