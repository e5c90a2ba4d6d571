package api

import (
	"sync"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// maxEvents is how many of the latest events are kept.
const maxEvents = 512

// Event is one thing that happened to a process: it came into another phase, or a
// probe changed its mind.
type Event struct {
	Number  uint64 // from 1, without gaps
	Time    time.Time
	Process string

	Phase    status.Phase // with a change of phase
	Before   status.Phase
	PID      int
	Restarts int
	Reason   string // of an end
	Cause    error
	ExitCode int    // -1: it has not ended
	Detail   string // what it waits for

	Probe  string // with a verdict
	Result status.Result
	Err    error
}

// Events keeps the latest events. It is an observer of the board; its zero value
// is ready to use.
type Events struct {
	mu      sync.Mutex // guards what follows
	ring    []Event
	last    uint64
	changed chan struct{}
	results map[[2]string]string // of probes
}

// Observe notes a change of phase.
func (e *Events) Observe(old, new status.State) {
	if old.Phase == new.Phase || old.Name == "" && new.Phase == status.Waiting {
		return
	}
	ev := Event{
		Time: new.Since, Process: new.Name, Phase: new.Phase, Before: old.Phase, PID: new.PID,
		Restarts: new.Restarts, ExitCode: -1, Detail: new.Detail,
	}
	if new.Ended.After(old.Ended) && new.PID == 0 {
		ev.Reason, ev.Cause, ev.ExitCode = new.Reason, new.Cause, new.ExitCode
	}
	e.add(ev)
}

// ObserveCheck notes a verdict that is not the one before.
func (e *Events) ObserveCheck(c status.Check) {
	key, text := [2]string{c.Process, c.Probe}, string(c.Result)
	if c.Err != nil {
		text += c.Err.Error()
	}
	e.mu.Lock()
	same := e.results[key] == text
	if !same {
		if e.results == nil {
			e.results = make(map[[2]string]string)
		}
		e.results[key] = text
	}
	e.mu.Unlock()
	if !same {
		e.add(Event{Time: c.Time, Process: c.Process, Probe: c.Probe, Result: c.Result, Err: c.Err, ExitCode: -1})
	}
}

// Forget drops what is needed to know of the next event of a process whether it
// is news.
func (e *Events) Forget(process string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for key := range e.results {
		if key[0] == process {
			delete(e.results, key)
		}
	}
}

func (e *Events) add(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	ev.Number = e.last
	if len(e.ring) < maxEvents {
		e.ring = append(e.ring, ev)
	} else {
		e.ring[(ev.Number-1)%maxEvents] = ev
	}
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}

// Since returns the events after a number that are still there, oldest first, and
// a channel that is closed when there is another.
func (e *Events) Since(number uint64) ([]Event, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	first := e.last - uint64(len(e.ring))
	var all []Event
	for n := max(number, first); n < e.last; n++ {
		all = append(all, e.ring[n%maxEvents])
	}
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	return all, e.changed
}
