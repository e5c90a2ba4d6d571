package telemetry

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// box keeps messages.
type box struct {
	got  []*datagram.Message
	fail error
}

func (b *box) Put(m *datagram.Message) error {
	if b.fail == nil {
		b.got = append(b.got, m)
	}
	return b.fail
}

// lines shows each message as its op, name, value and labels.
func (b *box) lines() (out []string) {
	for _, m := range b.got {
		var labels []string
		for _, l := range m.Labels {
			labels = append(labels, l.Name+"="+l.Value)
		}
		out = append(out, fmt.Sprintf("%s %s %v %s", m.Op, m.Name, m.Value, strings.Join(labels, " ")))
	}
	return out
}

func TestEvents(t *testing.T) {
	tests := []struct {
		name string
		do   func(*Events)
		want []string
	}{
		{"a probe that is good from the beginning is no event", func(e *Events) {
			e.ObserveCheck(status.Check{Process: "web", Probe: "http", Result: status.Pass})
			e.ObserveCheck(status.Check{Process: "web", Probe: "http", Result: status.Unknown})
		}, nil},
		{"a probe fails once and recovers", func(e *Events) {
			for range 3 {
				e.ObserveCheck(status.Check{Process: "web", Probe: "http", Result: status.Fail, Err: errors.New("status 500\xff")})
			}
			e.ObserveCheck(status.Check{Process: "web", Probe: "tcp", Result: status.Pass})
			e.ObserveCheck(status.Check{Process: "web", Probe: "http", Result: status.Pass})
		}, []string{
			"event readiness 1 command=/bin/web event_type=readiness pod=p-1 probe=http process_name=web reason=status 500\uFFFD status=failure team=a",
			"event readiness 1 command=/bin/web event_type=readiness pod=p-1 probe=http process_name=web status=success team=a",
		}},
		{"a restart after a signal", func(e *Events) {
			old := status.State{Name: "web", Phase: status.Backoff}
			e.Observe(old, status.State{Name: "web", Phase: status.Starting, Restarts: 1, Reason: "exit", ExitCode: 137})
			e.Observe(status.State{}, status.State{Name: "web", Restarts: 1}) // it was declared
		}, []string{"event restart 1 command=/bin/web event_type=restart exit_code=137 pod=p-1 process_name=web reason=exit signal=SIGKILL team=a"}},
		{"termination is sent twice", func(e *Events) { e.Terminating("SIGTERM") }, []string{
			"event termination 1 event_type=termination pod=p-1 reason=SIGTERM signal=SIGTERM team=a",
			"event termination 1 event_type=termination pod=p-1 reason=SIGTERM signal=SIGTERM team=a",
		}},
		{"preemption counts from 0, and is sent twice", func(e *Events) { e.Begin(); e.Pod("preempted", "gce"); e.Pod("preemption_count", "") }, []string{
			"inc preempted 0 pod=p-1 team=a", "inc preempted 1 pod=p-1 team=a",
			"event preempted 1 event_type=preempted pod=p-1 reason=gce team=a", "event preempted 1 event_type=preempted pod=p-1 reason=gce team=a",
			"event preemption_count 1 event_type=preemption_count pod=p-1 team=a",
		}},
		{"a label of ours is not overwritten", func(e *Events) {
			e.labels = append(e.labels, datagram.Label{Name: "event_type", Value: "forged"})
			e.Pod("preemption_count", "")
		}, []string{"event preemption_count 1 event_type=preemption_count pod=p-1 team=a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &box{}
			e := NewEvents(b, []datagram.Label{{Name: "team", Value: "a"}, {Name: "pod", Value: "p-1"}, {Name: "node"}})
			e.Command("web", "/bin/web")
			tt.do(e)
			if diff := cmp.Diff(tt.want, b.lines()); diff != "" {
				t.Error(diff)
			}
			if n := len(b.got); n >= 2 && b.got[n-1].Name == "termination" && (b.got[0].ID == "" || b.got[0].ID != b.got[1].ID) {
				t.Errorf("ids %q and %q", b.got[0].ID, b.got[1].ID)
			}
		})
	}
}

func TestEventsAreCounted(t *testing.T) {
	b := &box{}
	e := NewEvents(b, nil)
	e.Begin() // a counter at 0 is no event
	e.Terminating("SIGTERM")
	e.Pod("preempted", "spot") // neither is the counter that goes with this one
	b.fail = errors.New("full")
	e.Pod("x", "")
	sent, dropped := e.Counts()
	if diff := cmp.Diff([]EventCount{{"termination", 1}, {"preempted", 1}}, sent); diff != "" || dropped != 1 {
		t.Error(diff, dropped)
	}
	var none *Events
	none.Begin()
	none.Pod("x", "")
	none.Terminating("")
	none.Command("a", "b")
	none.Observe(status.State{}, status.State{})
	none.ObserveCheck(status.Check{})
}
