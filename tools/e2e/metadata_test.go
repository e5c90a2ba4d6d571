package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/compute/metadata"
)

// mock is a metadata-mock that runs.
type mock struct {
	*server
	control string
}

// startMock runs metadata-mock until the test ends.
func startMock(t *testing.T, args ...string) *mock {
	t.Helper()
	s := startServer(t, `msg="listening" addr=(\S+) control=\S+`,
		append([]string{filepath.Join(bin, "metadata-mock"), "-addr", "127.0.0.1:0", "-control", "127.0.0.1:0"}, args...)...)
	_, control, _ := strings.Cut(s.output.String(), "control=")
	control, _, _ = strings.Cut(control, " ")
	return &mock{s, control}
}

// ctl runs metadata-mock ctl and returns what it prints.
func (m *mock) ctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin, "metadata-mock"), append([]string{"-control", m.control, "ctl"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ctl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// google is Google's own client, whose connections all lead to the mock.
func (m *mock) google() *metadata.Client {
	return metadata.NewClient(&http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, m.addr)
		},
	}})
}

func TestGooglesClientReadsTheMock(t *testing.T) {
	m := startMock(t)
	c := m.google()
	for _, test := range []struct {
		name string
		get  func() (string, error)
		want string
	}{
		{"GetWithContext", func() (string, error) { return c.GetWithContext(t.Context(), "instance/preempted") }, "FALSE"},
		{"another key", func() (string, error) { return c.GetWithContext(t.Context(), "instance/maintenance-event") }, "NONE"},
		{"ProjectID", func() (string, error) { return c.ProjectIDWithContext(t.Context()) }, "mock-project"},
		{"NumericProjectID", func() (string, error) { return c.NumericProjectIDWithContext(t.Context()) }, "123456789012"},
		{"InstanceID", func() (string, error) { return c.InstanceIDWithContext(t.Context()) }, "4520031799277581759"},
		{"InstanceName", func() (string, error) { return c.InstanceNameWithContext(t.Context()) }, "mock-vm"},
		{"Zone", func() (string, error) { return c.ZoneWithContext(t.Context()) }, "us-central1-a"},
		{"Hostname", func() (string, error) { return c.HostnameWithContext(t.Context()) }, "mock-vm.c.mock-project.internal"},
		{"Email", func() (string, error) { return c.EmailWithContext(t.Context(), "default") }, "123456789012-compute@developer.gserviceaccount.com"},
		{"Scopes", func() (string, error) {
			s, err := c.ScopesWithContext(t.Context(), "default")
			return fmt.Sprint(s), err
		}, "[https://www.googleapis.com/auth/cloud-platform]"},
		{"InstanceAttributes", func() (string, error) {
			s, err := c.InstanceAttributesWithContext(t.Context())
			return fmt.Sprint(s), err
		}, "[cluster-location cluster-name]"},
		{"InstanceTags", func() (string, error) { s, err := c.InstanceTagsWithContext(t.Context()); return fmt.Sprint(s), err }, "[]"},
		{"a directory through its redirect", func() (string, error) { return c.GetWithContext(t.Context(), "universe") }, "universe-domain\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, err := test.get(); err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
	var undefined metadata.NotDefinedError
	if _, err := c.GetWithContext(t.Context(), "instance/nope"); !errors.As(err, &undefined) {
		t.Errorf("an unknown key: got %v, want a NotDefinedError", err)
	}
	m.ctl(t, "fault", "403")
	var refused *metadata.Error
	if _, err := c.GetWithContext(t.Context(), "instance/preempted"); !errors.As(err, &refused) || refused.Code != 403 {
		t.Errorf("a 403: got %v", err)
	}
	m.ctl(t, "fault", "clear")
	m.ctl(t, "fault", "503", "count=2")
	if got, err := c.GetWithContext(t.Context(), "instance/preempted"); err != nil || got != "FALSE" {
		t.Errorf("after two 503: got %q, %v", got, err)
	}
}

func TestGooglesClientDetectsGCE(t *testing.T) {
	t.Setenv("GCE_METADATA_HOST", "") // which would be the whole answer
	c := startMock(t).google()
	// It asks the name service too, and believes who answers first.
	eventually(t, "the client sees GCE", func() error {
		if !c.OnGCEWithContext(t.Context()) {
			return errors.New("it does not")
		}
		return nil
	})
	other := startMock(t, "-personality", "aws").google()
	if other.OnGCEWithContext(t.Context()) {
		t.Error("AWS passes for GCE")
	}
}

func TestGooglesClientIsToldOfChanges(t *testing.T) {
	m := startMock(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	values := make(chan string, 10)
	var wg sync.WaitGroup
	wg.Go(func() {
		err := m.google().SubscribeWithContext(ctx, "instance/preempted", func(_ context.Context, v string, ok bool) error {
			values <- fmt.Sprint(v, " ", ok)
			return nil
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("subscribe: %v", err)
		}
	})
	next := func(want string) {
		t.Helper()
		select {
		case got := <-values:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("no value, want %q", want)
		}
	}
	next("FALSE true")
	m.ctl(t, "wait", "waiting=1")
	start := time.Now()
	if err := syscall.Kill(m.pid, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	next("TRUE true")
	if took := time.Since(start); took > time.Second {
		t.Errorf("told after %v", took)
	}
	m.ctl(t, "wait", "waiting=1")
	m.ctl(t, "delete", "instance/preempted")
	next(" false")
	wg.Wait()
	var state struct{ Requests int }
	if err := json.Unmarshal([]byte(m.ctl(t, "state")), &state); err != nil || state.Requests > 4 {
		t.Errorf("%d requests for two changes, %v", state.Requests, err)
	}
}

// TestScenarioFiles runs a scenario that the project ships, and those of testdata, each with a client that waits as
// one should. Those whose client is process-wrapper are in TestScenariosOfProcessWrapper.
func TestScenarioFiles(t *testing.T) {
	var files []string
	for _, pattern := range []string{root + "/examples/preemption/spot.yaml", "testdata/scenarios/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			file, err := filepath.Abs(file)
			if err != nil {
				t.Fatal(err)
			}
			record := filepath.Join(t.TempDir(), "record.jsonl")
			cmd := exec.Command(filepath.Join(bin, "metadata-mock"), "-addr", "127.0.0.1:0", "-control", "", "-scenario", file, "-record", record)
			out := newTranscript()
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			addr := out.waitFor(t, listening)[1]
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { follow(ctx, addr) })
			err = cmd.Wait()
			cancel()
			wg.Wait()
			if want := strings.HasPrefix(filepath.Base(file), "fails-"); want != (err != nil) {
				t.Errorf("ended with %v\n%s", err, out)
			}
			if lines, err := os.ReadFile(record); err != nil || !strings.Contains(string(lines), `"path":"/computeMetadata/v1/instance/preempted"`) {
				t.Errorf("the record holds %q, %v", lines, err)
			}
		})
	}
}

// follow asks for preempted as a careful client does: it waits for changes, and pauses after an error.
func follow(ctx context.Context, addr string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	etag := "NONE"
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet,
			"http://"+addr+"/computeMetadata/v1/instance/preempted?wait_for_change=true&timeout_sec=30&last_etag="+etag, nil)
		if err != nil {
			return
		}
		r.Header.Set("Metadata-Flavor", "Google")
		resp, err := client.Do(r)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK && err == nil {
				etag = resp.Header.Get("Etag")
				continue
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func TestTheMockUnderAttack(t *testing.T) {
	m := startMock(t)
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", m.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	const wait = "GET /computeMetadata/v1/instance/preempted?wait_for_change=true HTTP/1.1\r\nHost: a\r\nMetadata-Flavor: Google\r\n\r\n"
	for range 1000 {
		_, _ = io.WriteString(dial(), wait)
	}
	m.ctl(t, "wait", "waiting=500", "requests=500") // the others are refused with 503
	for _, attack := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-Flood: "+strings.Repeat("x", 1000)+"\r\n", 200) + "\r\n",
		"GET /computeMetadata/v1/" + strings.Repeat("../", 5000) + "etc/passwd HTTP/1.1\r\nHost: a\r\nMetadata-Flavor: Google\r\n\r\n",
		"GET /?" + strings.Repeat("a=b&", 10000) + " HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /computeMetadata/v1/instance/preempted HTTP/1.1\r\nHost: a\r\nMetadata-Flavor: Google\r\nContent-Length: 1000000000\r\n\r\n" + strings.Repeat("x", 1<<20),
		"PUT /computeMetadata/v1/instance/guest-attributes/a/b HTTP/1.1\r\nHost: a\r\nMetadata-Flavor: Google\r\nContent-Length: 10000000\r\n\r\n" + strings.Repeat("x", 1<<20),
		"GET /\x00\xff HTTP/9.9\r\n\r\n",
	} {
		conn := dial()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(conn, attack) // it may be cut before its end
		answer := make([]byte, 12)
		if n, err := io.ReadFull(conn, answer); err == nil && (answer[9] == '5' || string(answer[9:]) == "200" && len(attack) < 40000) {
			t.Errorf("%.60q: got %q", attack, answer[:n])
		}
	}
	if status, _ := get(t, "http://"+m.addr+"/"); status != http.StatusOK {
		t.Errorf("after the attack: got %d", status)
	}
	for range 300 {
		if err := syscall.Kill(m.pid, syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all who waited have their answer", func() error {
		var state struct{ Waiting int }
		if err := json.Unmarshal([]byte(m.ctl(t, "state")), &state); err != nil || state.Waiting > 0 {
			return fmt.Errorf("%d wait, %v", state.Waiting, err)
		}
		return nil
	})
	if n := strings.Count(m.output.String(), "msg=\"preempted\""); n != 1 {
		t.Errorf("preempted %d times, want once", n)
	}
}

func TestCommandLineOfTheMock(t *testing.T) {
	m := startMock(t)
	for _, test := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"a port in use", []string{"-addr", m.addr, "-control", ""}, 1, "address already in use: choose another address with -addr"},
		{"a control port in use", []string{"-addr", "127.0.0.1:0", "-control", m.control}, 1, "address already in use: choose another address with -control"},
		{"a cloud that is none", []string{"-personality", "gcp"}, 2, `must be one of gce, gke-wi, aws, azure, all, is "gcp"`},
		{"a scenario that is not there", []string{"-scenario", "/nope.yaml"}, 2, "no such file"},
		{"a record that cannot be written", []string{"-record", "/nope/record"}, 2, "-record: open /nope/record: no such file"},
		{"ctl without a server", []string{"-control", "127.0.0.1:1", "ctl", "state"}, 1, "no metadata-mock answers at 127.0.0.1:1"},
		{"ctl without a command", []string{"ctl"}, 2, "use preempt, maintenance,"},
		{"ctl with an unknown command", []string{"-control", m.control, "ctl", "explode"}, 2, "is not a command: use azure-event"},
		{"ctl wait in vain", []string{"-control", m.control, "ctl", "wait", "waiting=1", "timeout=1ms"}, 1, "it did not come in time"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := exec.Command(filepath.Join(bin, "metadata-mock"), test.args...).CombinedOutput()
			if got := code(t, err); got != test.code || !strings.Contains(string(out), test.want) {
				t.Errorf("got %d %s, want %d %s", got, out, test.code, test.want)
			}
		})
	}
}

func TestPreemptAfter(t *testing.T) {
	m := startMock(t, "-preempt-after", "200ms", "-personality", "aws", "-notice", "-5s")
	m.ctl(t, "wait", "preempted=true")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+m.addr+"/latest/api/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", "60")
	token := body(t, r)
	if r, err = http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.addr+"/latest/meta-data/spot/instance-action", nil); err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-aws-ec2-metadata-token", token)
	var action struct {
		Action string
		Time   time.Time
	}
	if text := body(t, r); json.Unmarshal([]byte(text), &action) != nil || action.Action != "terminate" || !action.Time.Before(time.Now()) {
		t.Errorf("got %s, want a time in the past", text)
	}
}

func body(t *testing.T, r *http.Request) string {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
