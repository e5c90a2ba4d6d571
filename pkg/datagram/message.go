package datagram

import (
	"slices"
	"strings"
	"time"
)

// Op says what is to be done with a message.
type Op uint8

// The operations. Add is not of the JSON format: it changes a gauge by a value.
const (
	Inc      Op = iota + 1 // add the value to a counter
	Set                    // set a gauge to the value
	Obs                    // observe the value in a histogram
	Event                  // keep it as an event
	Index                  // keep it in an index of its own
	Raw                    // not supported
	Shutdown               // end the server
	Add                    // change a gauge by the value
)

var opNames = [...]string{Inc: "inc", Set: "set", Obs: "obs", Event: "event", Index: "index", Raw: "raw", Shutdown: "shutdown", Add: "add"}

// String returns the name that op has in JSON, "unknown" for none.
func (op Op) String() string {
	if op == 0 || int(op) >= len(opNames) {
		return "unknown"
	}
	return opNames[op]
}

// Metric reports whether op changes a series.
func (op Op) Metric() bool { return op == Inc || op == Set || op == Obs || op == Add }

// Label is a name and its value.
type Label struct{ Name, Value string }

// Message is one metric or event.
type Message struct {
	Op      Op
	Name    string
	Labels  []Label // ascending by name, each name once
	Value   float64 // finite
	Help    string
	Index   string        // of op index, empty for the default one
	Time    time.Time     // zero: none given
	ID      string        // empty: none given
	TTL     time.Duration // zero: none given
	Native  bool          // of op obs: a native histogram is wanted
	Buckets *Buckets      // of op obs, nil for the default ones
}

// Clone returns a copy that shares no memory with m.
func (m *Message) Clone() *Message {
	c := *m
	n := len(m.Name) + len(m.Help) + len(m.Index) + len(m.ID)
	for _, l := range m.Labels {
		n += len(l.Name) + len(l.Value)
	}
	var b strings.Builder // one allocation for all strings
	b.Grow(n)
	keep := func(s string) string {
		from := b.Len()
		b.WriteString(s)
		return b.String()[from:]
	}
	c.Name, c.Help, c.Index, c.ID = keep(m.Name), keep(m.Help), keep(m.Index), keep(m.ID)
	c.Labels = make([]Label, len(m.Labels))
	for i, l := range m.Labels {
		c.Labels[i] = Label{keep(l.Name), keep(l.Value)}
	}
	if m.Buckets != nil {
		k := *m.Buckets
		k.Custom = slices.Clone(k.Custom)
		c.Buckets = &k
	}
	return &c
}

// Label returns the value of a label, empty where there is none.
func (m *Message) Label(name string) string {
	for _, l := range m.Labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}
