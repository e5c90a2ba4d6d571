package preempt

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// microsoftServer has the scheduled events of a machine called vmss_3.
type microsoftServer struct {
	t *testing.T

	mu     sync.Mutex // guards what follows
	events string
	starts []string // bodies of approvals, of which none is expected unless told
	told   bool
	slow   time.Duration // of the first answer
}

func newMicrosoft(t *testing.T) *microsoftServer { return &microsoftServer{t: t} }

func (m *microsoftServer) put(events ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = strings.Join(events, ",")
}

func (m *microsoftServer) serve(ctx context.Context, r *http.Request) response {
	m.mu.Lock()
	events, slow := m.events, m.slow
	m.slow = 0
	m.mu.Unlock()
	switch {
	case r.Header.Get("Metadata") != "true" || r.URL.Query().Get("api-version") == "":
		return response{400, nil, `{"error":"Bad request"}`}
	case r.Method == http.MethodPost && r.URL.Path == "/metadata/scheduledevents" && m.approved(r):
		return response{200, nil, ""}
	case r.Method != http.MethodGet: // a POST would approve
		m.t.Errorf("%s %s", r.Method, r.URL)
		return response{405, nil, ""}
	case r.URL.Path == "/metadata/instance/compute/name" && r.URL.Query().Get("format") == "text":
		return response{200, nil, "vmss_3"}
	case r.URL.Path != "/metadata/scheduledevents":
		return response{404, nil, ""}
	}
	if sleep(ctx, slow) != nil {
		return response{500, nil, ""}
	}
	return response{200, nil, `{"DocumentIncarnation":1,"Events":[` + events + `]}`}
}

// approved notes an approval, where one is expected.
func (m *microsoftServer) approved(r *http.Request) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil || !m.told {
		return false
	}
	m.starts = append(m.starts, string(body))
	return true
}

func scheduled(id, kind, status, vm, notBefore string) string {
	return fmt.Sprintf(`{"EventId":%q,"EventStatus":%q,"EventType":%q,"ResourceType":"VirtualMachine","Resources":["vmss_1",%q],"NotBefore":%q}`, id, status, kind, vm, notBefore)
}

func onMicrosoft(t *testing.T, f func(t *testing.T, n *network, m *microsoftServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, m := newNetwork(t), newMicrosoft(t)
		n.hosts["169.254.169.254:80"] = m
		f(t, n, m)
	})
}

func TestOnlyEventsThatEndThisMachineAreNotices(t *testing.T) {
	const at = "Fri, 02 Jan 2026 03:04:05 GMT"
	deadline := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	none := Notice{}
	for name, tt := range map[string]struct {
		events []string
		want   Notice
	}{
		"a preemption of this machine":      {[]string{scheduled("1", "Preempt", "Scheduled", "vmss_3", at)}, Notice{true, "Azure has scheduled a preempt of this machine", deadline}},
		"its name in other case":            {[]string{scheduled("1", "Preempt", "Scheduled", "VMSS_3", at)}, Notice{true, "Azure has scheduled a preempt of this machine", deadline}},
		"one that has started":              {[]string{scheduled("1", "Redeploy", "Started", "vmss_3", "")}, Notice{true, "Azure has started a redeploy of this machine", time.Time{}}},
		"a reboot":                          {[]string{scheduled("1", "Reboot", "Scheduled", "vmss_3", at)}, Notice{true, "Azure has scheduled a reboot of this machine", deadline}},
		"the end":                           {[]string{scheduled("1", "Terminate", "Scheduled", "vmss_3", at)}, Notice{true, "Azure has scheduled a terminate of this machine", deadline}},
		"of another machine":                {[]string{scheduled("1", "Preempt", "Scheduled", "vmss_30", at)}, none},
		"a freeze":                          {[]string{scheduled("1", "Freeze", "Scheduled", "vmss_3", at)}, none},
		"one that is over":                  {[]string{scheduled("1", "Preempt", "Completed", "vmss_3", at)}, none},
		"a kind that nobody knows":          {[]string{scheduled("1", "Dance", "Scheduled", "vmss_3", at)}, none},
		"several, of which one has started": {[]string{scheduled("1", "Reboot", "Scheduled", "vmss_3", at), scheduled("2", "Preempt", "Started", "vmss_3", "")}, Notice{true, "Azure has started a preempt of this machine", time.Time{}}},
		"several, of which one comes soon":  {[]string{scheduled("1", "Reboot", "Scheduled", "vmss_3", "Fri, 02 Jan 2026 04:00:00 GMT"), scheduled("2", "Preempt", "Scheduled", "vmss_3", at)}, Notice{true, "Azure has scheduled a preempt of this machine", deadline}},
	} {
		t.Run(name, func(t *testing.T) {
			onMicrosoft(t, func(t *testing.T, n *network, m *microsoftServer) {
				w := watch(n, Config{Provider: Azure})
				time.Sleep(10*time.Second + azurePeriod/2) // between two polls
				m.put(tt.events...)
				time.Sleep(time.Second)
				got := w.told()
				if tt.want == none && len(got) > 0 || tt.want != none && (len(got) != 1 || got[0] != tt.want) {
					t.Errorf("%+v", got)
				}
				m.put()
				time.Sleep(2 * time.Second)
				if got := w.told(); tt.want != none && (len(got) != 2 || got[1].Active) {
					t.Errorf("not withdrawn: %+v", got)
				}
				w.end()
			})
		})
	}
}

func TestTheDeadlineStaysWhenTheEventStarts(t *testing.T) {
	const at = "Sat, 01 Jan 2000 00:05:00 GMT"
	deadline := time.Date(2000, 1, 1, 0, 5, 0, 0, time.UTC)
	onMicrosoft(t, func(t *testing.T, n *network, m *microsoftServer) {
		w := watch(n, Config{Provider: Azure})
		m.put(scheduled("1", "Preempt", "Scheduled", "vmss_3", at))
		time.Sleep(time.Minute)
		began := scheduled("1", "Preempt", "Started", "vmss_3", "")
		m.put(began)
		time.Sleep(1500 * time.Millisecond)
		m.put() // for one poll
		time.Sleep(time.Second)
		m.put(began)
		time.Sleep(time.Minute)
		got := w.told()
		if len(got) != 2 || got[0].Deadline != deadline || got[1] != (Notice{true, "Azure has started a preempt of this machine", deadline}) {
			t.Errorf("%+v", got)
		}
		m.put()
		time.Sleep(10 * time.Second)
		m.put(began) // which is another after a withdrawal
		time.Sleep(time.Minute)
		w.end()
		if got := w.told(); len(got) != 4 || !got[3].Active || !got[3].Deadline.IsZero() {
			t.Errorf("seen first when it had started, it has a deadline that nobody said: %+v", got)
		}
	})
}

func TestEventsAreApprovedWhenToldTo(t *testing.T) {
	onMicrosoft(t, func(t *testing.T, n *network, m *microsoftServer) {
		w := watch(n, Config{Provider: Azure})
		time.Sleep(5 * time.Second)
		if got, err := w.Approve(t.Context()); got != 0 || err != nil {
			t.Errorf("without an event: %d, %v", got, err)
		}
		m.put(scheduled("1", "Preempt", "Scheduled", "vmss_3", ""), scheduled("2", "Reboot", "Started", "vmss_3", ""),
			scheduled("3", "Preempt", "Scheduled", "vmss_30", ""), scheduled("4", "Freeze", "Scheduled", "vmss_3", ""))
		time.Sleep(5 * time.Second)
		m.mu.Lock()
		m.told = true
		m.mu.Unlock()
		if got, err := w.Approve(t.Context()); got != 1 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
		n.set("503")
		if _, err := w.Approve(t.Context()); err == nil || !strings.Contains(err.Error(), "approve scheduled events: POST") {
			t.Errorf("%v", err)
		}
		n.set("")
		m.put()
		time.Sleep(5 * time.Second)
		if got, err := w.Approve(t.Context()); got != 0 || err != nil {
			t.Errorf("withdrawn: %d, %v", got, err)
		}
		w.end()
		if want := `{"StartRequests":[{"EventId":"1"}]}`; len(m.starts) != 1 || m.starts[0] != want {
			t.Errorf("%q", m.starts)
		}
	})
}

func TestOneCleanPollIsNoWithdrawal(t *testing.T) {
	onMicrosoft(t, func(t *testing.T, n *network, m *microsoftServer) {
		e := scheduled("1", "Preempt", "Scheduled", "vmss_3", "")
		m.put(e)
		w := watch(n, Config{Provider: Azure})
		for range 60 {
			time.Sleep(1500 * time.Millisecond)
			m.put()
			time.Sleep(time.Second)
			m.put(e)
		}
		w.end()
		if len(w.notices) != 1 {
			t.Errorf("%d notices", len(w.notices))
		}
	})
}

func TestAFreezeIsAHintOnce(t *testing.T) {
	onMicrosoft(t, func(t *testing.T, n *network, m *microsoftServer) {
		m.put(scheduled("1", "Freeze", "Scheduled", "vmss_3", ""))
		w := watch(n, Config{Provider: Azure})
		time.Sleep(time.Minute)
		w.end()
		if len(w.hints) != 1 || w.hints[0].Kind != "freeze" {
			t.Errorf("%+v", w.hints)
		}
	})
}

func TestTheFirstAnswerMayTakeTwoMinutes(t *testing.T) {
	onMicrosoft(t, func(t *testing.T, n *network, m *microsoftServer) {
		m.slow = 2 * time.Minute
		m.put(scheduled("1", "Preempt", "Scheduled", "vmss_3", ""))
		w := watch(n, Config{Provider: Azure})
		time.Sleep(2*time.Minute + time.Second)
		got, up := w.told(), w.Stats().Up
		w.end()
		if len(got) != 1 || !up || len(w.lines()) != 1 {
			t.Errorf("%+v %v %q", got, up, w.lines())
		}
	})
}

func FuzzParseEvents(f *testing.F) {
	f.Add(`{"DocumentIncarnation":1,"Events":[` + scheduled("1", "Freeze", "Scheduled", "vmss_3", "") + `]}`)
	f.Add(`{"Events":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		events, err := parseEvents(body)
		if err != nil && events != nil {
			t.Error(events)
		}
		for _, e := range events {
			if n := e.notice(); !n.Active || len(n.Reason) > 300 {
				t.Errorf("%+v", n)
			}
		}
	})
}
