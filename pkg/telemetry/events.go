package telemetry

import (
	"crypto/rand"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// Names of events of which each counts, so that they are sent twice.
const (
	eventPreempted   = "preempted"
	eventTermination = "termination"
)

// maxText bounds a label that says why.
const maxText = 512

// MessageSink takes messages without blocking. It counts what it drops.
type MessageSink interface {
	Put(*datagram.Message) error
}

// Events sends what happens to the processes as events: it is an observer of a
// board. A nil one does nothing. Make one with [NewEvents].
//
//	readiness    a probe failed, or recovered: probe, status, reason
//	restart      a process was started again: reason, exit_code, signal
//	termination  the pod leaves service: signal, reason
//	others       see Pod
type Events struct {
	to     MessageSink
	labels []datagram.Label

	mu       sync.Mutex // guards what follows
	commands map[string]string
	failing  map[[2]string]bool // process and probe
	sent     []EventCount
	dropped  uint64
}

// EventCount is how many events of a name were given to the sender.
type EventCount struct {
	Type string
	N    uint64
}

// NewEvents returns events that go to a sink with these labels besides their
// own, which win.
func NewEvents(to MessageSink, labels []datagram.Label) *Events {
	e := &Events{to: to, commands: map[string]string{}, failing: map[[2]string]bool{}}
	for _, l := range labels {
		if l.Name != "" && l.Value != "" {
			e.labels = append(e.labels, l)
		}
	}
	return e
}

// Command tells what a process runs, for the label command.
func (e *Events) Command(process, command string) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.commands[process] = command
}

// Forget drops what is known of a process that is no more.
func (e *Events) Forget(process string) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.commands, process)
	maps.DeleteFunc(e.failing, func(k [2]string, _ bool) bool { return k[0] == process })
}

// Observe sends an event for a restart.
func (e *Events) Observe(old, new status.State) {
	if e == nil || old.Name != new.Name || new.Restarts <= old.Restarts {
		return
	}
	labels := []datagram.Label{{Name: "reason", Value: new.Reason}}
	if new.ExitCode >= 0 {
		labels = append(labels, datagram.Label{Name: "exit_code", Value: itoa(new.ExitCode)})
	}
	if new.ExitCode > 128 {
		labels = append(labels, datagram.Label{Name: "signal", Value: signalName(syscall.Signal(new.ExitCode - 128))})
	}
	e.event("restart", new.Name, labels...)
}

// ObserveCheck sends an event when a probe begins to fail, and when it is good
// again.
func (e *Events) ObserveCheck(c status.Check) {
	if e == nil || c.Result == status.Unknown {
		return
	}
	key, fails := [2]string{c.Process, c.Probe}, c.Result == status.Fail
	e.mu.Lock()
	changed := e.failing[key] != fails
	e.failing[key] = fails
	e.mu.Unlock()
	if !changed {
		return
	}
	labels := []datagram.Label{{Name: "probe", Value: c.Probe}, {Name: "status", Value: string(c.Result)}}
	if fails && c.Err != nil {
		labels = append(labels, datagram.Label{Name: "reason", Value: c.Err.Error()})
	}
	e.event("readiness", c.Process, labels...)
}

// Begin sends counters at 0, so that a rate knows where they come from.
func (e *Events) Begin() {
	if e != nil {
		e.count(eventPreempted, 0)
	}
}

// Terminating sends that the pod was told to end. A reason such as SIGTERM is
// the signal too.
func (e *Events) Terminating(reason string) {
	if e == nil {
		return
	}
	labels := []datagram.Label{{Name: "reason", Value: reason}}
	if strings.HasPrefix(reason, "SIG") {
		labels = append(labels, datagram.Label{Name: "signal", Value: reason})
	}
	e.event(eventTermination, "", labels...)
}

// Pod sends an event that is of no process. The one called preempted is also a
// counter.
func (e *Events) Pod(name, reason string) {
	if e == nil {
		return
	}
	if name == eventPreempted {
		e.count(name, 1)
	}
	e.event(name, "", datagram.Label{Name: "reason", Value: reason})
}

// count adds to a counter of the metrics server, which is no event.
func (e *Events) count(name string, value float64) {
	e.put("", &datagram.Message{Op: datagram.Inc, Name: name, Value: value, Labels: e.with(), Help: "Whether the pod's node was about to be taken away."})
}

func (e *Events) event(name, process string, labels ...datagram.Label) {
	labels = append(labels, datagram.Label{Name: "event_type", Value: name})
	if process != "" {
		e.mu.Lock()
		command := e.commands[process]
		e.mu.Unlock()
		labels = append(labels, datagram.Label{Name: "process_name", Value: process}, datagram.Label{Name: "command", Value: command})
	}
	m := &datagram.Message{Op: datagram.Event, Name: name, Value: 1, Labels: e.with(labels...), Time: time.Now()}
	if name != eventPreempted && name != eventTermination {
		e.put(name, m)
		return
	}
	m.ID = rand.Text() // the server keeps one of the two
	e.put(name, m)
	_ = e.to.Put(m)
}

// put counts the event under its name, unless that is empty, or that there was no
// room.
func (e *Events) put(name string, m *datagram.Message) {
	err := e.to.Put(m)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.dropped++
		return
	}
	if name == "" {
		return
	}
	i := slices.IndexFunc(e.sent, func(c EventCount) bool { return c.Type == name })
	if i < 0 {
		if len(e.sent) == maxWords {
			return
		}
		i, e.sent = len(e.sent), append(e.sent, EventCount{Type: name})
	}
	e.sent[i].N++
}

// Counts returns the events by name, and how many found no room.
func (e *Events) Counts() (sent []EventCount, dropped uint64) {
	if e == nil {
		return nil, 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.sent), e.dropped
}

// with returns all labels of an event, sorted, without empty ones.
func (e *Events) with(own ...datagram.Label) []datagram.Label {
	out := make([]datagram.Label, 0, len(own)+len(e.labels))
	for _, l := range own {
		if l.Value != "" {
			l.Value = shorten(strings.ToValidUTF8(l.Value, "\uFFFD"), maxText)
			out = append(out, l)
		}
	}
	for _, l := range e.labels {
		if !slices.ContainsFunc(out, func(o datagram.Label) bool { return o.Name == l.Name }) {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b datagram.Label) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// shorten cuts s without cutting a character.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}
