package metadata

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const eventsURL = "/metadata/scheduledevents?api-version=2020-07-01"

type document struct {
	DocumentIncarnation int
	Events              []struct {
		EventID, EventStatus, EventType, ResourceType, NotBefore, EventSource string
		Resources                                                             []string
		DurationInSeconds                                                     *int
	}
}

func events(t *testing.T, s *Server) document {
	t.Helper()
	w := plain(s, "GET", eventsURL, "Metadata", "true")
	var d document
	if err := json.Unmarshal(w.Body.Bytes(), &d); w.Code != 200 || err != nil {
		t.Fatalf("got %d %s: %v", w.Code, w.Body, err)
	}
	return d
}

func TestAzureAnswers(t *testing.T) {
	for _, test := range []struct {
		name, method, target string
		header               []string
		status               int
		body                 string // part of it
	}{
		{"no events", "GET", eventsURL, []string{"Metadata", "true"}, 200, `{"DocumentIncarnation":1,"Events":[]}`},
		{"a slash at the end", "GET", strings.Replace(eventsURL, "?", "/?", 1), []string{"Metadata", "true"}, 200, `"Events":[]`},
		{"the header is required", "GET", eventsURL, nil, 400, "metadata header"},
		{"the header has a value", "GET", eventsURL, []string{"Metadata", "no"}, 400, "metadata header"},
		{"forwarded requests are refused", "GET", eventsURL, []string{"Metadata", "true", "X-Forwarded-For", "10.0.0.1"}, 400, "X-Forwarded-For"},
		{"the version is required", "GET", "/metadata/scheduledevents", []string{"Metadata", "true"}, 400, "api-version"},
		{"a version that is none", "GET", "/metadata/scheduledevents?api-version=1", []string{"Metadata", "true"}, 400, "2020-07-01"},
		{"PUT", "PUT", eventsURL, []string{"Metadata", "true"}, 405, "not allowed"},
		{"an empty approval", "POST", eventsURL, []string{"Metadata", "true"}, 400, "StartRequests"},
		{"our name", "GET", "/metadata/instance/compute/name?api-version=2021-02-01&format=text", []string{"Metadata", "true"}, 200, vmName},
		{"a value needs format=text", "GET", "/metadata/instance/compute/name?api-version=2021-02-01", []string{"Metadata", "true"}, 400, "format=text"},
		{"the machine", "GET", "/metadata/instance?api-version=2021-02-01", []string{"Metadata", "true"}, 200, `"name":"mock-vm"`},
		{"the machine without a version", "GET", "/metadata/instance", []string{"Metadata", "true"}, 400, "api-version"},
		{"what is not there", "GET", "/metadata/instance/nope?api-version=2021-02-01", []string{"Metadata", "true"}, 404, "Not found"},
		{"below a value", "GET", "/metadata/instance/compute/name/x?api-version=2021-02-01", []string{"Metadata", "true"}, 404, "Not found"},
		{"another path", "GET", "/", []string{"Metadata", "true"}, 404, "Not found"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := plain(newServer(t, Config{Personality: Azure}), test.method, test.target, test.header...)
			if w.Code != test.status || !strings.Contains(w.Body.String(), test.body) {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, test.status, test.body)
			}
			if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && !json.Valid(w.Body.Bytes()) {
				t.Errorf("no JSON: %s", w.Body)
			}
		})
	}
}

func TestAzurePreempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{Personality: Azure})
		before := events(t, s).DocumentIncarnation
		s.Preempt()
		d := events(t, s)
		if len(d.Events) != 1 || d.DocumentIncarnation != before+1 {
			t.Fatalf("got %+v", d)
		}
		e := d.Events[0]
		if want := time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat); e.EventType != "Preempt" || e.EventStatus != "Scheduled" ||
			e.NotBefore != want || e.Resources[0] != vmName || e.ResourceType != "VirtualMachine" || *e.DurationInSeconds != -1 {
			t.Errorf("got %+v", e)
		}
		time.Sleep(30 * time.Second)
		d = events(t, s)
		if e := d.Events[0]; e.EventStatus != "Started" || e.NotBefore != "" || d.DocumentIncarnation != before+2 {
			t.Errorf("at its time: got %+v", d)
		}
		s.Cancel()
		if d = events(t, s); len(d.Events) != 0 || d.DocumentIncarnation != before+3 {
			t.Errorf("after it was taken back: got %+v", d)
		}
	})
}

func TestAzureEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{Personality: Azure})
		for _, fields := range []map[string]string{
			{"type": "Freeze", "resources": "other-vm"},
			{"type": "Reboot", "status": "Started", "id": "mine"},
			{"type": "Terminate", "notice": "1m"},
		} {
			if _, err := s.Do(t.Context(), "azure-event", fields); err != nil {
				t.Fatal(err)
			}
		}
		d := events(t, s)
		if d.Events[0].Resources[0] != "other-vm" || *d.Events[0].DurationInSeconds != 5 {
			t.Errorf("Freeze: got %+v", d.Events[0])
		}
		if d.Events[1].EventStatus != "Started" || d.Events[1].NotBefore != "" || d.Events[1].EventID != "mine" {
			t.Errorf("Reboot: got %+v", d.Events[1])
		}
		approve := func(id string) int {
			r := httptest.NewRequest("POST", eventsURL, strings.NewReader(`{"StartRequests":[{"EventId":"`+id+`"}]}`))
			r.Header.Set("Metadata", "true")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			return w.Code
		}
		if code := approve("nope"); code != 400 {
			t.Errorf("approve what is not there: got %d, want 400", code)
		}
		if code := approve(d.Events[2].EventID); code != 200 {
			t.Errorf("approve: got %d, want 200", code)
		}
		if got := events(t, s).Events[2].EventStatus; got != "Started" {
			t.Errorf("after the approval it is %s, want Started", got)
		}
		for _, test := range []struct{ name, key, value, want string }{
			{"an unknown type", "type", "Boom", `azure event: type "Boom": use Preempt, Terminate, Reboot, Redeploy, Freeze`},
			{"an unknown status", "status", "Done", `azure event: status "Done": use Scheduled, Started`},
			{"a notice that is none", "notice", "soon", `azure event: notice is "soon": use a duration such as 30s`},
		} {
			fields := map[string]string{"type": "Reboot"}
			fields[test.key] = test.value
			if _, err := s.Do(t.Context(), "azure-event", fields); err == nil || err.Error() != test.want {
				t.Errorf("%s: got %v", test.name, err)
			}
		}
	})
}
