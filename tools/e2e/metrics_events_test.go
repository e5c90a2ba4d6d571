package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// stored is an event as a store has it.
type stored struct {
	Name, ID string
	Labels   map[string]string
}

// byStore reads rows of VictoriaLogs: a push of Loki made a line of JSON of an event, a bulk request a field of each label.
func byStore(t *testing.T, rows []map[string]string) (loki, search []stored) {
	t.Helper()
	for _, row := range rows {
		var e stored
		if strings.HasPrefix(row["_msg"], "{") {
			if err := json.Unmarshal([]byte(row["_msg"]), &e); err != nil {
				t.Fatalf("%v: %s", err, row["_msg"])
			}
			loki = append(loki, e)
			continue
		}
		e = stored{row["_msg"], row["id"], map[string]string{}}
		for field, value := range row {
			if name, ok := strings.CutPrefix(field, "labels."); ok {
				e.Labels[name] = value
			}
		}
		search = append(search, e)
	}
	return loki, search
}

// find returns the events of a name that have labels.
func find(all []stored, name string, labels map[string]string) (found []stored) {
next:
	for _, e := range all {
		for label, value := range labels {
			if e.Name != name || e.Labels[label] != value {
				continue next
			}
		}
		found = append(found, e)
	}
	return found
}

// TestEventsReachBothStores has all of a demo: process-wrapper on a machine that is preempted, with a process that fails its
// probe and ends, a metrics-server with both sinks, and a store. It needs VICTORIALOGS, as make test-backends sets it.
func TestEventsReachBothStores(t *testing.T) {
	store := os.Getenv("VICTORIALOGS")
	if store == "" {
		t.Skip("needs VICTORIALOGS: run make test-backends")
	}
	base := "http://" + victoria(t, store)
	cloud := startMock(t)
	c := collect(t, []string{"METRICS_SERVER_SEARCH_URL=" + base + "/insert/elasticsearch?_time_field=timestamp&_msg_field=name"},
		"-loki-address", base+"/insert/loki/api/v1/push", "-spool-dir", t.TempDir(), "-opensearch-bulk-period", "100ms", "-extra-labels", "k8s_cluster:eu-1")
	downward := write(t, "labels", `app.kubernetes.io/name="web \"x\"\\1"`+"\n"+`note="two\nlines, \u00fc"`+"\n"+`pod-template-hash="77"`+"\n")
	w := start(t, options{
		config: script("flaky", "sleep 1; exit 3", "readiness: {delay: 50ms, period: 100ms, file: {path: /nonexistent}, failureThreshold: 1000}", "backoff: {initial: 50ms}"),
		env: []string{
			"METRICS_SERVER_ADDRESS=" + c.udp, "POD_NAME=pod-1", "POD_NAMESPACE=ns-1", "NODE_NAME=node-1", `METRICS_JSON_EXTRA_LABELS={"team":"a"}`,
			"METRICS_EXTRA_LABELS_FILE_PATH=" + downward, "METRICS_EXTRA_LABELS_FILE_EXCLUDE=pod-template-hash",
			"HANDLE_PREEMPTION=true", "METADATA_URL=http://" + cloud.addr + preempted,
		},
	})
	w.until("flaky", "was restarted", func(s state) bool { return s.Restarts > 0 })
	cloud.ctl(t, "preempt")
	eventually(t, "the preemption is noticed", func() error {
		if n := w.metric(`process_wrapper_events_sent_total{type="preempted"}`); n != 1 {
			return fmt.Errorf("%v events", n)
		}
		return nil
	})
	w.stop()

	ofPod := map[string]string{
		"pod": "pod-1", "namespace": "ns-1", "node": "node-1", "team": "a", "k8s_cluster": "eu-1", "data_source": "127.0.0.1:0",
		"app_kubernetes_io_name": `web "x"\1`, "note": "two\nlines, ü", "pod_template_hash": "",
	}
	for _, want := range []struct {
		name   string
		labels map[string]string
		once   bool // it was sent twice, and is kept once
	}{
		{"readiness", map[string]string{"process_name": "flaky", "probe": "file", "status": "failure"}, false},
		{"restart", map[string]string{"process_name": "flaky", "exit_code": "3"}, false},
		{"preempted", map[string]string{"process_name": ""}, true},
		{"termination", map[string]string{"process_name": "", "signal": "SIGTERM"}, true},
	} {
		want.labels["event_type"] = want.name
		for name, value := range ofPod {
			want.labels[name] = value
		}
		eventually(t, want.name+" in both stores", func() error {
			loki, search := byStore(t, query(t, base))
			for sink, all := range map[string][]stored{"loki": loki, "search": search} {
				found := find(all, want.name, want.labels)
				if len(found) == 0 || want.once && len(found) != 1 {
					return fmt.Errorf("%s has it %d times with %v, of %+v", sink, len(found), want.labels, all)
				}
				if process := want.labels["process_name"]; process != "" && found[0].Labels["command"] == "" {
					return fmt.Errorf("%s has no command of %s: %+v", sink, process, found[0])
				}
			}
			return nil
		})
	}
	c.until(1, "preempted", `pod="pod-1"`, `app_kubernetes_io_name="web \"x\"\\1"`, `note="two\nlines, ü"`) // the counter
	if code := c.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// victoria runs a store and returns its address.
func victoria(t *testing.T, path string) string {
	t.Helper()
	address := nobody(t)
	cmd := exec.Command(path, "-storageDataPath="+t.TempDir(), "-httpListenAddr="+address, "-loggerLevel=ERROR", "-loki.disableMessageParsing", "-inmemoryDataFlushInterval=1s")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	eventually(t, "VictoriaLogs", func() error { return ok("http://"+address+"/health", time.Second) })
	return address
}

// query returns all rows of a VictoriaLogs.
func query(t *testing.T, base string) (rows []map[string]string) {
	t.Helper()
	_, _ = get(t, base+"/internal/force_flush")
	_, body := get(t, base+"/select/logsql/query?query=*")
	for line := range strings.Lines(body) {
		row := map[string]string{}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		rows = append(rows, row)
	}
	return rows
}
