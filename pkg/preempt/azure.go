package preempt

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	eventsPath = "/metadata/scheduledevents?api-version=2020-07-01"
	namePath   = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"

	// azureFirst is how long the first answer may take: the service is switched
	// on by it.
	azureFirst   = 130 * time.Second
	azureTimeout = 5 * time.Second
	azurePeriod  = time.Second
)

// azure is a source: the scheduled events. It approves none by itself: that would
// be for all machines of an event. See [Watcher.Approve].
type azure struct {
	w *Watcher
	*client
	base string

	name   string // of this machine, "": not known yet
	on     bool   // the service has answered
	active bool   // there was a notice
	clean  int    // polls in a row without it
	hinted map[string]bool
	known  map[string]time.Time // when the events that end this machine begin, by their ids; zero: nobody said
}

func newAzure(w *Watcher) *azure {
	return &azure{w: w, client: w.newClient(w.tokens.take), base: w.local, hinted: make(map[string]bool)}
}

func (a *azure) poll(ctx context.Context) (time.Duration, error) {
	if a.name == "" {
		got, err := a.get(ctx, namePath, azureTimeout)
		if err != nil {
			return 0, err
		}
		if a.name = strings.TrimSpace(got); a.name == "" || strings.ContainsAny(a.name, "<{\n") {
			a.name = ""
			return 0, garbage("the name of this machine", got)
		}
	}
	timeout := azureTimeout
	if !a.on {
		timeout = azureFirst
	}
	body, err := a.get(ctx, eventsPath, timeout)
	if err != nil {
		return 0, err
	}
	events, err := parseEvents(body)
	if err != nil {
		return 0, err
	}
	a.on = true
	a.read(events)
	return azurePeriod, nil
}

// Approve tells Azure that the scheduled events which end this machine may begin
// now, without waiting for their time. That is for all machines that they name. It
// returns how many events that were; on other clouds, and without one, 0.
func (w *Watcher) Approve(ctx context.Context) (int, error) {
	w.mu.Lock()
	ends := w.ends
	w.mu.Unlock()
	type start struct {
		EventID string `json:"EventId"`
	}
	var ask struct{ StartRequests []start }
	for _, id := range ends {
		ask.StartRequests = append(ask.StartRequests, start{id})
	}
	if len(ends) == 0 {
		return 0, nil
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return 0, fmt.Errorf("approve scheduled events: %w", err)
	}
	r := request{method: http.MethodPost, url: w.local + eventsPath, header: [2]string{"Metadata", "true"}, body: string(body), timeout: azureTimeout}
	if _, err := w.newClient(w.tokens.take).do(ctx, r); err != nil {
		return 0, fmt.Errorf("approve scheduled events: %w", err)
	}
	return len(ends), nil
}

func (a *azure) get(ctx context.Context, path string, timeout time.Duration) (string, error) {
	got, err := a.do(ctx, request{method: http.MethodGet, url: a.base + path, header: [2]string{"Metadata", "true"}, timeout: timeout})
	return got.body, err
}

// event is one of the scheduled events of Azure.
type event struct {
	EventID     string `json:"EventId"`
	EventStatus string // Scheduled or Started
	EventType   string
	Resources   []string // names of machines
	NotBefore   string   // "" when it has started
}

// parseEvents reads the list of them. It is there also when it is empty.
func parseEvents(body string) ([]event, error) {
	var doc struct{ Events *[]event }
	if err := json.Unmarshal([]byte(body), &doc); err != nil || doc.Events == nil {
		return nil, garbage("scheduledevents", body)
	}
	return *doc.Events, nil
}

// read takes the first event that ends this machine.
func (a *azure) read(events []event) {
	var first *Notice
	var ends []string
	known, seen := make(map[string]time.Time), make(map[string]bool)
	for _, e := range events {
		switch {
		case !e.concerns(a.name):
		case e.ends():
			if strings.EqualFold(e.EventStatus, "Scheduled") {
				ends = append(ends, e.EventID)
			}
			n := e.notice()
			if n.Deadline.IsZero() { // an event that has started tells its time no longer
				n.Deadline = a.known[e.EventID]
			}
			// One that nobody knows may be now.
			if known[e.EventID] = n.Deadline; first == nil || n.Deadline.Before(first.Deadline) {
				first = &n
			}
		default:
			if seen[e.EventID] = true; !a.hinted[e.EventID] {
				a.w.hint(Hint{Kind: "freeze", Detail: strings.TrimSpace(clip(e.EventType) + " " + clip(e.NotBefore))})
			}
		}
	}
	a.hinted = seen
	a.w.mu.Lock()
	a.w.ends = ends
	a.w.mu.Unlock()
	if first != nil {
		a.active, a.clean, a.known = true, 0, known
		a.w.notice(*first)
	} else if a.clean++; a.active && a.clean >= cleanPolls {
		a.active, a.known = false, nil
		a.w.notice(Notice{})
	}
}

// ends reports whether what runs on the machine does not outlive the event.
func (e event) ends() bool {
	switch strings.ToLower(e.EventType) {
	case "preempt", "terminate", "reboot", "redeploy":
		return true
	}
	return false
}

func (e event) notice() Notice {
	n := Notice{Active: true, Reason: fmt.Sprintf("Azure has %s a %s of this machine", strings.ToLower(clip(e.EventStatus)), strings.ToLower(clip(e.EventType)))}
	if at, err := http.ParseTime(e.NotBefore); err == nil {
		n.Deadline = at.UTC()
	}
	return n
}

// concerns reports whether the event is, or will be, one of a machine.
func (e event) concerns(name string) bool {
	if !strings.EqualFold(e.EventStatus, "Scheduled") && !strings.EqualFold(e.EventStatus, "Started") {
		return false // it is over
	}
	return slices.ContainsFunc(e.Resources, func(r string) bool { return strings.EqualFold(r, name) })
}

func (a *azure) hint(f *fault) string {
	if f.final() || f.kind == "timeout" {
		return "may this pod reach 169.254.169.254? AKS and network policies can block it; the first answer may take two minutes"
	}
	return ""
}
