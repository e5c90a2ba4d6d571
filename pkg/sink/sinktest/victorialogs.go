package sinktest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// VictoriaLogs is a running server.
type VictoriaLogs struct {
	t    testing.TB
	dir  string
	addr string
	cmd  *exec.Cmd
}

// StartVictoriaLogs starts the binary that the environment variable VICTORIALOGS names, on a port of
// its own, until the test ends. The test fails where it is not set.
func StartVictoriaLogs(t testing.TB) *VictoriaLogs {
	t.Helper()
	if os.Getenv("VICTORIALOGS") == "" {
		t.Fatal("VICTORIALOGS is not set: run make test-backends")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &VictoriaLogs{t: t, dir: t.TempDir(), addr: l.Addr().String()}
	l.Close()
	v.Start()
	t.Cleanup(v.Kill)
	return v
}

// Start starts it (again), on the same data, and waits until it answers.
func (v *VictoriaLogs) Start() {
	v.t.Helper()
	v.cmd = exec.Command(os.Getenv("VICTORIALOGS"), "-storageDataPath="+v.dir, "-httpListenAddr="+v.addr,
		"-loggerLevel=ERROR", "-loki.disableMessageParsing", "-inmemoryDataFlushInterval=1s", "-retentionPeriod=100y")
	v.cmd.SysProcAttr = dieWithParent()
	if err := v.cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		resp, err := http.Get(v.URL() + "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			v.t.Fatalf("VictoriaLogs does not answer: %v", err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// Kill ends it, SIGKILL.
func (v *VictoriaLogs) Kill() {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
}

// Stop ends it, SIGTERM, so that it keeps what it holds in memory.
func (v *VictoriaLogs) Stop() { v.signal(syscall.SIGTERM); _ = v.cmd.Wait() }

// Pause stops it where it is.
func (v *VictoriaLogs) Pause() { v.signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (v *VictoriaLogs) Resume() { v.signal(syscall.SIGCONT) }

func (v *VictoriaLogs) signal(s os.Signal) {
	v.t.Helper()
	if err := v.cmd.Process.Signal(s); err != nil {
		v.t.Fatal(err)
	}
}

// URL is its base address.
func (v *VictoriaLogs) URL() string { return "http://" + v.addr }

// Handler passes requests on to it.
func (v *VictoriaLogs) Handler() http.Handler {
	u, err := url.Parse(v.URL())
	if err != nil {
		v.t.Fatal(err)
	}
	p := httputil.NewSingleHostReverseProxy(u)
	p.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	return p
}

// Flush makes all that it took visible to queries.
func (v *VictoriaLogs) Flush() {
	v.t.Helper()
	resp, err := http.Get(v.URL() + "/internal/force_flush")
	if err != nil {
		v.t.Fatal(err)
	}
	resp.Body.Close()
}

// Values returns how often it has each value of a field, of the entries that a query finds.
func (v *VictoriaLogs) Values(query, field string) map[string]int {
	v.t.Helper()
	v.Flush()
	resp, err := http.PostForm(v.URL()+"/select/logsql/query", url.Values{
		"query": {fmt.Sprintf("%s | stats by (%s) count() n", query, field)}, "limit": {"0"},
	})
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	got := map[string]int{}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row map[string]string
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			v.t.Fatalf("%s: %v", lines.Text(), err)
		}
		n := 0
		if _, err := fmt.Sscan(row["n"], &n); err != nil {
			v.t.Fatalf("%s: %v", lines.Text(), err)
		}
		got[row[field]] += n
	}
	if resp.StatusCode != http.StatusOK || lines.Err() != nil {
		v.t.Fatalf("query %s: %s, %v", query, resp.Status, lines.Err())
	}
	return got
}

// Missing returns those of PREFIX-0 to PREFIX-(n-1) that are not in got, up to ten of them.
func Missing(got map[string]int, prefix string, n int) string {
	var lost []string
	count := 0
	for i := range n {
		id := fmt.Sprintf("%s-%d", prefix, i)
		if got[id] > 0 {
			continue
		}
		if count++; count <= 10 {
			lost = append(lost, id)
		}
	}
	if count == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d: %s", count, n, strings.Join(lost, " "))
}
