package sinktest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// lokiConfig is a Loki of one process, with its limits as they come. %s are its directory, its ports.
const lokiConfig = `auth_enabled: false
analytics: {reporting_enabled: false}
server: {http_listen_address: 127.0.0.1, http_listen_port: %[2]d, grpc_listen_address: 127.0.0.1, grpc_listen_port: %[3]d, log_level: error}
common:
  path_prefix: %[1]s
  instance_addr: 127.0.0.1
  replication_factor: 1
  ring: {kvstore: {store: inmemory}, instance_addr: 127.0.0.1}
  storage: {filesystem: {chunks_directory: %[1]s/chunks, rules_directory: %[1]s/rules}}
ingester: {wal: {dir: %[1]s/wal}, lifecycler: {min_ready_duration: 0s}}
limits_config: {ingestion_rate_mb: 64, ingestion_burst_size_mb: 64, per_stream_rate_limit: 64MB, per_stream_rate_limit_burst: 64MB}
schema_config:
  configs: [{from: "2024-01-01", store: tsdb, object_store: filesystem, schema: v13, index: {prefix: index_, period: 24h}}]
`

// Loki is a running server. What it acknowledged is in its log of writes, so that Kill loses none of it.
type Loki struct{ *Store }

// StartLoki starts the binary that the environment variable LOKI names, on ports of its own, until
// the test ends. The test fails where it is not set.
func StartLoki(t testing.TB) *Loki {
	t.Helper()
	path, dir := program(t, "LOKI", "test-loki"), t.TempDir()
	port := unusedPort(t)
	config := filepath.Join(dir, "loki.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, lokiConfig, dir, port, unusedPort(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Loki{startStore(t, loopback(port), "/ready", path, "-config.file="+config)}
}

// Lines returns all lines of a stream selector, of the last hour.
func (l *Loki) Lines(selector string) []string {
	l.t.Helper()
	var lines []string
	const page = 5000 // its limit
	for start := time.Now().Add(-time.Hour).UnixNano(); ; {
		var answer struct {
			Data struct {
				Result []struct{ Values [][2]string }
			}
		}
		l.get("/loki/api/v1/query_range?"+url.Values{"query": {selector}, "limit": {strconv.Itoa(page)}, "direction": {"forward"},
			"start": {strconv.FormatInt(start, 10)}, "end": {strconv.FormatInt(time.Now().Add(time.Minute).UnixNano(), 10)}}.Encode(), &answer)
		n := 0
		for _, stream := range answer.Data.Result {
			for _, v := range stream.Values {
				at, err := strconv.ParseInt(v[0], 10, 64)
				if err != nil {
					l.t.Fatal(err)
				}
				start = max(start, at+1) // no two events of a test have the same time
				lines = append(lines, v[1])
				n++
			}
		}
		if n < page {
			return lines
		}
	}
}

func (l *Loki) get(path string, into any) {
	l.t.Helper()
	resp, err := http.Get(l.URL() + path)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil || resp.StatusCode != http.StatusOK {
		l.t.Fatalf("ask Loki: %s, %v", resp.Status, err)
	}
}
