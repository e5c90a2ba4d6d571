package sinktest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// VictoriaLogs is a running server.
type VictoriaLogs struct{ *Store }

// StartVictoriaLogs starts the binary that the environment variable VICTORIALOGS names, on a port of
// its own, until the test ends. The test fails where it is not set.
func StartVictoriaLogs(t testing.TB) *VictoriaLogs {
	t.Helper()
	path, addr := program(t, "VICTORIALOGS", "test-backends"), loopback(unusedPort(t))
	return &VictoriaLogs{startStore(t, addr, "/health", path, "-storageDataPath="+t.TempDir(), "-httpListenAddr="+addr,
		"-loggerLevel=ERROR", "-loki.disableMessageParsing", "-inmemoryDataFlushInterval=1s", "-retentionPeriod=100y")}
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
