package main

import (
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/process-wrapper/process-wrapper/pkg/sink"
	"github.com/process-wrapper/process-wrapper/pkg/sink/search"
	"github.com/process-wrapper/process-wrapper/pkg/sink/sinktest"
)

// asked is what a store saw of a request.
type asked struct{ path, auth, tenant, client string }

// store is one that takes all, over TLS, and only from who has a certificate of a client.
func store(t *testing.T) (url, ca, cert, key string, seen <-chan asked) {
	t.Helper()
	all := make(chan asked, 99)
	cert, key, clients := sinktest.Certificate(t, t.TempDir(), "metrics-server")
	url, ca = sinktest.ServeTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all <- asked{r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("X-Scope-OrgID"), r.TLS.PeerCertificates[0].Subject.CommonName}
		w.WriteHeader(http.StatusNoContent)
	}), clients)
	return url, ca, cert, key, all
}

func TestTheFlagsOfLokiReachIt(t *testing.T) {
	dir := t.TempDir()
	password, token := filepath.Join(dir, "password"), filepath.Join(dir, "token")
	for _, file := range []string{password, token} {
		if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		args []string
		want asked
	}{
		{"a password", []string{"-loki-user", "u", "-loki-password-file", password, "-loki-tenant", "team-1"}, asked{"/loki/api/v1/push", "Basic dTpzM2NyZXQ=", "team-1", "metrics-server"}},
		{"a token", []string{"-loki-bearer-token-file", token}, asked{"/loki/api/v1/push", "Bearer s3cret", "", "metrics-server"}},
		{"an unknown certificate that is not verified", []string{"-loki-ca-path", "", "-loki-insecure"}, asked{"/loki/api/v1/push", "", "", "metrics-server"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, ca, cert, key, seen := store(t)
			v := serve(t, nil, append([]string{"-loki-address", url, "-loki-ca-path", ca, "-loki-cert-path", cert, "-loki-key-path", key}, tt.args...)...)
			send(t, v.receiver.Addrs()[0], `{"name":"e","op":"event"}`)
			select {
			case got := <-seen:
				if got != tt.want {
					t.Errorf("got %+v, want %+v", got, tt.want)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("Loki was not asked")
			}
			v.finish(nil)
			if err := v.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheFlagsOfSearchMakeItsConfig(t *testing.T) {
	f := parse(t, "-search-index", "app-x", "-search-pattern", "app-*", "-search-data-stream", "-search-no-template", "-search-shards", "3", "-search-labels", "flattened",
		"-search-ca-path", "ca.pem", "-search-insecure", "-search-timeout", "3s", "-opensearch-bulk-period", "2s", "-opensearch-bulk-size-bytes", "1000",
		"-sink-queue-bytes", "1000000", "-spool-dir", "spool", "-spool-bytes", "100000", "-spool-fsync", "always", "-shutdown-deadline", "4s")
	want := search.Config{
		Sink: sink.Config{QueueBytes: 1000000, SpoolDir: "spool", SpoolBytes: 100000, Fsync: "always", Deadline: 4 * time.Second, Period: 2 * time.Second, BatchBytes: 1000},
		URL:  "https://search", User: "u", Password: "p", CAFile: "ca.pem", Insecure: true, Index: "app-x", Pattern: "app-*", DataStream: true, NoTemplate: true,
		Shards: 3, Labels: "flattened", Timeout: 3 * time.Second,
	}
	if diff := cmp.Diff(want, f.searchConfig(&environment{"https://search", "u", "p"})); diff != "" {
		t.Error(diff)
	}
}

func TestWhatItTellsOfItself(t *testing.T) {
	v := serve(t, nil, "-loki-address", "http://127.0.0.1:1", "-shutdown-deadline", "1ms", "-uds", filepath.Join(t.TempDir(), "s.sock"), "-remote", "127.0.0.1:9")
	page := v.page()
	for _, name := range []string{
		`received_total{listener="udp"}`, `received_bytes_total{listener="udp"}`, `parsed_total`, `applied_total{op="inc"}`, `dropped_total{kind="malformed",reason="syntax"}`,
		`dropped_total{kind="queue",reason="queue_full"}`, `kernel_drops_total{listener="udp"}`, `receive_buffer_bytes{listener="udp"}`, `queue_datagrams`, `queue_bytes`,
		`series`, `series_limit`, `series_bytes`, `series_expired_total`, `connections{listener="unix"}`, `connections_refused_total{listener="unix"}`,
		`forwarded_total`, `forward_dropped_total`, `sink_accepted_total{sink="loki"}`, `sink_sent_total{sink="loki"}`, `sink_retried_total{sink="loki"}`,
		`sink_dead_letter_total{sink="loki"}`, `sink_spooled_total{sink="loki"}`, `sink_dropped_total{reason="queue_full",sink="loki"}`, `sink_queue_events{sink="loki"}`,
		`sink_queue_bytes{sink="loki"}`, `sink_spool_bytes{sink="loki"}`, `sink_up{sink="loki"}`, `sink_flush_seconds_count{sink="loki"}`,
	} {
		if !strings.Contains(page, "\nmetrics_server_"+name+" ") {
			t.Errorf("the page has no metrics_server_%s", name)
		}
	}
	if !strings.Contains(page, "\nmetrics_server_build_info{") || strings.Contains(page, "promtail_") {
		t.Error("no build_info, or metrics of the client of Loki")
	}
}

func send(t *testing.T, to net.Addr, message string) {
	t.Helper()
	conn, err := net.Dial(to.Network(), to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(message)); err != nil {
		t.Fatal(err)
	}
}

func TestACertificateWithoutItsKeyIsRefused(t *testing.T) {
	_, err := newServer(parse(t, "-loki-address", "https://loki", "-loki-cert-path", "a"), &environment{}, slog.New(slog.DiscardHandler), func() {})
	if err == nil || err.Error() != "loki: a client certificate needs both its certificate and its key file" {
		t.Error(err)
	}
}
