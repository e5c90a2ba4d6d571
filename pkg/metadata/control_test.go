package metadata

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func control(s *Server, method, target, mime, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if mime != "" {
		r.Header.Set("Content-Type", mime)
	}
	w := httptest.NewRecorder()
	s.Control().ServeHTTP(w, r)
	return w
}

func TestControlTakesFieldsInThreeForms(t *testing.T) {
	for _, test := range []struct{ name, target, mime, body string }{
		{"in the query", "/control/fault?status=503&count=3", "", ""},
		{"in a form", "/control/fault", "application/x-www-form-urlencoded", "status=503&count=3"},
		{"in JSON", "/control/fault", "application/json", `{"status": 503, "count": "3"}`},
		{"in two of them", "/control/fault?count=3", "application/json; charset=utf-8", `{"status": 503}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, Config{})
			w := control(s, "POST", test.target, test.mime, test.body)
			var state State
			if err := json.Unmarshal(w.Body.Bytes(), &state); w.Code != 200 || err != nil || len(state.Faults) != 1 || state.Faults[0] != "status status=503 count=3" {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestControlRefuses(t *testing.T) {
	const js = "application/json"
	for _, test := range []struct {
		name, method, target, mime, body string
		status                           int
		want                             string
	}{
		{"an unknown command", "POST", "/control/boom", "", "", 404, `"boom" is not a command: use azure-event, cancel, delete, fault, maintenance, preempt, rebalance, requests, reset, set, state, wait`},
		{"a change with GET", "GET", "/control/preempt", "", "", 405, "preempt is a POST: curl -X POST ..."},
		{"a look with POST", "POST", "/control/state", "", "", 405, "state is a GET: curl -X GET ..."},
		{"an unknown field", "POST", "/control/preempt?in=5s", "", "", 400, `preempt: unknown field "in": use notice, action`},
		{"a field where there are none", "POST", "/control/reset?all=1", "", "", 400, `reset: unknown field "all": it takes none`},
		{"a field twice", "POST", "/control/set?path=a&path=b&value=c", "", "", 400, `field "path" is given twice`},
		{"a field in two forms", "POST", "/control/set?path=a", js, `{"path":"b"}`, 400, `field "path" is given twice`},
		{"a value that is missing", "POST", "/control/set?path=a", "", "", 400, "set: a path and a value are needed"},
		{"what is no JSON", "POST", "/control/fault", js, "status=503", 400, `read fields: the body is no JSON object such as {"status": 503, "for": "10s"}`},
		{"JSON in JSON", "POST", "/control/fault", js, `{"status": {}}`, 400, `field "status": use a text, a number, true or false`},
		{"two objects", "POST", "/control/fault", js, `{} {}`, 400, `read fields: the body is no JSON object such as {"status": 503, "for": "10s"}`},
		{"a body without end", "POST", "/control/fault", js, strings.Repeat(" ", maxControlBody+1), 413, "read fields: http: request body too large"},
		{"a notice", "POST", "/control/preempt?notice=30", "", "", 400, `preempt: notice is "30": use a duration such as 30s`},
		{"an action", "POST", "/control/preempt?action=sleep", "", "", 400, `preempt: action "sleep": use terminate, stop or hibernate`},
		{"a maintenance event", "POST", "/control/maintenance?event=x", "", "", 400, `maintenance "x": use NONE, MIGRATE_ON_HOST_MAINTENANCE or TERMINATE_ON_HOST_MAINTENANCE`},
		{"a deletion of nothing", "POST", "/control/delete?path=a/b", "", "", 400, "delete a/b: no such key"},
		{"clear with more", "POST", "/control/fault?mode=clear&for=5s", "", "", 400, "fault: clear ends all faults, so it has no other fields"},
		{"a wait for a word", "GET", "/control/wait?waiting=x", "", "", 400, `wait: waiting is "x": use a number from 0 to 1000000`},
		{"a wait for maybe", "GET", "/control/wait?preempted=maybe", "", "", 400, `wait: preempted is "maybe": use true or false`},
		{"a wait that is in vain", "GET", "/control/wait?waiting=1&timeout=1ms", "", "", 408, "wait: it did not come in time: after 1ms waiting is 0, requests is 0, preempted is false"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := control(newServer(t, Config{}), test.method, test.target, test.mime, test.body)
			if got := strings.TrimSpace(w.Body.String()); w.Code != test.status || got != test.want {
				t.Errorf("got  %d %s\nwant %d %s", w.Code, got, test.status, test.want)
			}
		})
	}
}

func TestControlRefusesWebPages(t *testing.T) {
	s := newServer(t, Config{})
	r := httptest.NewRequest("POST", "/control/preempt", nil)
	r.Header.Set("Origin", "https://example.com")
	w := httptest.NewRecorder()
	s.Control().ServeHTTP(w, r)
	if w.Code != 403 || s.State().Preempted {
		t.Errorf("got %d, preempted is %t", w.Code, s.State().Preempted)
	}
}

// post posts to the control side.
func post(t *testing.T, s *Server, targets ...string) {
	t.Helper()
	for _, target := range targets {
		if w := control(s, "POST", "/control/"+target, "", ""); w.Code != 200 {
			t.Fatalf("%s: got %d %s", target, w.Code, w.Body)
		}
	}
}

// everything is one change of each kind.
func everything(t *testing.T) *Server {
	s := newServer(t, Config{Personality: All})
	post(t, s, "preempt?notice=1h", "rebalance", "maintenance?event=TERMINATE_ON_HOST_MAINTENANCE", "azure-event?type=Reboot",
		"set?path=instance/attributes/a&value=b", "fault?mode=reset&path=/nope")
	return s
}

func wantValue(t *testing.T, s *Server, key, want string) {
	t.Helper()
	if w := ask(s, "GET", base+key); w.Body.String() != want {
		t.Errorf("%s is %q, want %q", key, w.Body, want)
	}
}

// wantState compares what is there of the state.
func wantState(t *testing.T, s *Server, preempted, rebalance bool, azure, faults int, maintenance string) {
	t.Helper()
	state := s.State()
	got := []any{state.Preempted, state.Deadline != nil, state.Rebalance != nil, len(state.Azure), len(state.Faults), state.Maintenance}
	if diff := cmp.Diff([]any{preempted, preempted, rebalance, azure, faults, maintenance}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestControlChangesWhatItSays(t *testing.T) {
	s := everything(t)
	wantState(t, s, true, true, 2, 1, "TERMINATE_ON_HOST_MAINTENANCE")
	if left := time.Until(*s.State().Deadline); left < 59*time.Minute || left > time.Hour {
		t.Errorf("the deadline is in %v, want an hour", left)
	}
	wantValue(t, s, pathPreempted, "TRUE")
	wantValue(t, s, "instance/attributes/a", "b")
	wantValue(t, s, pathUpcoming+"/type", "SCHEDULED")
}

func TestControlTakesBackWhatCloudsMay(t *testing.T) {
	s := everything(t)
	post(t, s, "cancel", "fault?mode=clear", "delete?path=instance/attributes/a")
	wantState(t, s, true, false, 0, 0, "TERMINATE_ON_HOST_MAINTENANCE")
	wantValue(t, s, pathPreempted, "TRUE") // never taken back
	if w := ask(s, "GET", base+"instance/attributes/a"); w.Code != 404 {
		t.Errorf("a deleted value: got %d", w.Code)
	}
}

func TestControlResets(t *testing.T) {
	s := everything(t)
	post(t, s, "reset")
	wantState(t, s, false, false, 0, 0, "NONE")
	wantValue(t, s, pathPreempted, "FALSE")
	wantValue(t, s, pathUpcoming, "NONE")
}

func TestWaitEndsWhenItIsSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{})
		got := make(chan time.Duration, 1)
		start := time.Now()
		go func() {
			if _, err := s.Do(t.Context(), "wait", map[string]string{"waiting": "1", "requests": "1", "preempted": "true"}); err != nil {
				t.Error(err)
			}
			got <- time.Since(start)
		}()
		time.Sleep(time.Second)
		ask(s, "GET", base+pathPreempted)
		time.Sleep(time.Second)
		s.Preempt()
		time.Sleep(time.Second)
		h := hang(s, base+"instance/id?wait_for_change=true")
		if took := <-got; took != 3*time.Second {
			t.Errorf("ended after %v, want 3s", took)
		}
		h.leave()
		<-h.done
	})
}

func TestRequestsAreLoggedRecordedAndCounted(t *testing.T) {
	var record bytes.Buffer
	s := newServer(t, Config{Record: &record})
	for range maxLog {
		ask(s, "GET", "/old")
	}
	inject(t, s, "status", "503", "count", "1")
	ask(s, "GET", base+"instance/id?a=<b>")
	ask(s, "GET", "/"+strings.Repeat("x", 1000))
	log := s.Requests()
	if len(log) != maxLog || log[maxLog-1].Status != 404 || len(log[maxLog-1].Path) != 512 || log[maxLog-2].Fault != "status" || log[maxLog-2].Query != "a=<b>" {
		t.Errorf("got %d, at the end %+v", len(log), log[maxLog-2:])
	}
	lines := strings.Split(strings.TrimSpace(record.String()), "\n")
	var last Request
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last != log[maxLog-1] || len(lines) != maxLog+2 {
		t.Errorf("%d lines, the last is %+v: %v", len(lines), last, err)
	}
	if state := s.State(); state.Paths["/old"] != maxLog || state.Requests != maxLog+2 || len(state.Faults) != 0 {
		t.Errorf("got %+v", state)
	}
	metrics := control(s, "GET", "/metrics", "", "").Body.String()
	for _, line := range []string{
		`metadata_mock_requests_total{code="404"} 1001`, `metadata_mock_requests_total{code="503"} 1`, `metadata_mock_faults_total{mode="status"} 1`,
		"metadata_mock_waiting_requests 0", "metadata_mock_preempted 0", "metadata_mock_faults_in_force 0",
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("metrics lack %s:\n%s", line, metrics)
		}
	}
}

func TestPathsAreBounded(t *testing.T) {
	s := newServer(t, Config{})
	for i := range maxPaths + 50 {
		ask(s, "GET", "/"+strings.Repeat("x", i))
	}
	if paths := s.State().Paths; len(paths) != maxPaths+1 || paths["others"] != 50 {
		t.Errorf("%d paths, %d others", len(paths), paths["others"])
	}
}

type fullDisk struct{ writes int }

func (f *fullDisk) Write([]byte) (int, error) {
	f.writes++
	return 0, errors.New("no space left on device")
}

func TestRecordingEndsWhenTheDiskIsFull(t *testing.T) {
	disk := &fullDisk{}
	s := newServer(t, Config{Record: disk})
	for range 3 {
		if w := ask(s, "GET", base+pathPreempted); w.Code != http.StatusOK {
			t.Errorf("got %d", w.Code)
		}
	}
	if disk.writes != 1 {
		t.Errorf("%d writes, want 1", disk.writes)
	}
}

func TestAnUnknownPersonalityIsAnError(t *testing.T) {
	if _, err := NewServer(Config{Personality: "gcp"}); err == nil || err.Error() != `personality "gcp": use gce, gke-wi, aws, azure or all` {
		t.Errorf("got %v", err)
	}
}

func TestControlHelp(t *testing.T) {
	s := newServer(t, Config{})
	if w := control(s, "GET", "/", "", ""); w.Body.String() != controlHelp {
		t.Errorf("got %s", w.Body)
	}
	for name := range commands() {
		if !strings.Contains(controlHelp, "/control/"+name) {
			t.Errorf("the help lacks %s", name)
		}
	}
	if w := control(s, "GET", "/health", "", ""); w.Code != 200 {
		t.Errorf("health: got %d", w.Code)
	}
}
