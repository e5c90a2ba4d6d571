package metadata

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

var (
	azureTypes     = []string{"Preempt", "Terminate", "Reboot", "Redeploy", "Freeze"}
	azureStatuses  = []string{"Scheduled", "Started"}
	eventVersions  = []string{"2017-08-01", "2017-11-01", "2019-01-01", "2019-04-01", "2019-08-01", "2020-07-01"}
	azureMaxEvents = 100
)

// AzureEvent is a scheduled event.
type AzureEvent struct {
	ID        string    // "": a new one is made
	Type      string    // Preempt, Terminate, Reboot, Redeploy or Freeze
	Status    string    // Scheduled, or Started; "" is Scheduled
	Resources []string  // names of virtual machines; none: our own, mock-vm
	NotBefore time.Time // zero: with Started it is left empty, else it is the usual notice of the type
}

// azureState is what the scheduled events service knows.
type azureState struct {
	incarnation int
	made        int // events so far
	events      []AzureEvent
}

func (a *azureState) add(e AzureEvent, now time.Time) {
	a.made++
	if e.ID == "" {
		e.ID = fmt.Sprintf("00000000-0000-4000-8000-%012d", a.made)
	}
	if e.Status == "" {
		e.Status = "Scheduled"
	}
	if len(e.Resources) == 0 {
		e.Resources = []string{vmName}
	}
	if e.NotBefore.IsZero() && e.Status == "Scheduled" {
		notice := map[string]time.Duration{"Preempt": noticeAzure, "Terminate": 5 * time.Minute, "Redeploy": 10 * time.Minute}
		e.NotBefore = now.Add(orElse(notice[e.Type], 15*time.Minute))
	}
	a.events = slices.DeleteFunc(a.events, func(old AzureEvent) bool { return old.ID == e.ID })
	a.events = append(a.events, e)
	a.incarnation++
}

// clear removes events: those with the ids, or all.
func (a *azureState) clear(ids ...string) {
	before := len(a.events)
	a.events = slices.DeleteFunc(a.events, func(e AzureEvent) bool { return len(ids) == 0 || slices.Contains(ids, e.ID) })
	if len(a.events) != before {
		a.incarnation++
	}
}

// advance starts events whose time has come.
func (a *azureState) advance(now time.Time) {
	for i, e := range a.events {
		if e.Status == "Scheduled" && !now.Before(e.NotBefore) {
			a.events[i].Status = "Started"
			a.incarnation++
		}
	}
}

// AddAzureEvent announces a scheduled event; one with a known id replaces the old one.
func (s *Server) AddAzureEvent(e AzureEvent) error {
	switch {
	case !slices.Contains(azureTypes, e.Type):
		return fmt.Errorf("azure event: type %q: use %s", e.Type, strings.Join(azureTypes, ", "))
	case e.Status != "" && !slices.Contains(azureStatuses, e.Status):
		return fmt.Errorf("azure event: status %q: use %s", e.Status, strings.Join(azureStatuses, ", "))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.azure.events) >= azureMaxEvents {
		return fmt.Errorf("azure event: there are %d already: cancel them first", azureMaxEvents)
	}
	s.azure.add(e, time.Now())
	s.config.Logger.Info("azure event", "type", e.Type, "resources", strings.Join(e.Resources, ","))
	s.stir()
	return nil
}

// serveAzure answers as the instance metadata service of Azure.
func (s *Server) serveAzure(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "IMDS/150.870.65.1854")
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	version := r.URL.Query().Get("api-version")
	path := strings.TrimSuffix(r.URL.Path, "/")
	switch {
	case path != "/metadata" && !hasDir(path, "/metadata"):
		azureError(w, http.StatusNotFound, "Not found")
	case !strings.EqualFold(r.Header.Get("Metadata"), "true"):
		azureError(w, http.StatusBadRequest, "Bad request. Required metadata header not specified")
	case len(r.Header.Values("X-Forwarded-For")) > 0:
		azureError(w, http.StatusBadRequest, "Bad request. Invalid header: X-Forwarded-For")
	case path == "/metadata/scheduledevents":
		s.serveEvents(w, r, version)
	case r.Method != http.MethodGet:
		azureError(w, http.StatusMethodNotAllowed, "The requested method is not allowed")
	case version == "":
		azureError(w, http.StatusBadRequest, "Bad request. api-version was not specified in the request")
	default:
		serveInstance(w, r, strings.TrimPrefix(path, "/metadata/"))
	}
}

func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request, version string) {
	switch {
	case !slices.Contains(eventVersions, version):
		azureError(w, http.StatusBadRequest, "Bad request. api-version is invalid or was not specified in the request; supported: "+strings.Join(eventVersions, ", "))
	case r.Method == http.MethodGet:
		_, _ = w.Write(s.azureDocument(version))
	case r.Method == http.MethodPost:
		if err := s.approve(r.Body); err != nil {
			azureError(w, http.StatusBadRequest, err.Error())
		}
	default:
		azureError(w, http.StatusMethodNotAllowed, "The requested method is not allowed")
	}
}

// azureDocument is the list of scheduled events.
func (s *Server) azureDocument(version string) []byte {
	type event struct {
		EventID           string   `json:"EventId"`
		EventStatus       string   `json:"EventStatus"`
		EventType         string   `json:"EventType"`
		ResourceType      string   `json:"ResourceType"`
		Resources         []string `json:"Resources"`
		NotBefore         string   `json:"NotBefore"`
		Description       string   `json:"Description"`
		EventSource       string   `json:"EventSource,omitempty"`
		DurationInSeconds *int     `json:"DurationInSeconds,omitempty"`
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.azure.advance(time.Now())
	events := []event{}
	for _, e := range s.azure.events {
		out := event{EventID: e.ID, EventStatus: e.Status, EventType: e.Type, ResourceType: "VirtualMachine", Resources: e.Resources, Description: "Played by metadata-mock"}
		if e.Status == "Scheduled" && !e.NotBefore.IsZero() {
			out.NotBefore = e.NotBefore.UTC().Format(http.TimeFormat)
		}
		if version >= "2020-07-01" {
			seconds := -1
			if e.Type == "Freeze" {
				seconds = 5
			}
			out.EventSource, out.DurationInSeconds = "Platform", &seconds
		}
		events = append(events, out)
	}
	return marshal(map[string]any{"DocumentIncarnation": s.azure.incarnation, "Events": events})
}

// approve starts the events that a client names.
func (s *Server) approve(body io.Reader) error {
	var ask struct {
		StartRequests []struct {
			EventID string `json:"EventId"`
		}
	}
	if err := json.NewDecoder(io.LimitReader(body, 64<<10)).Decode(&ask); err != nil || len(ask.StartRequests) == 0 {
		return errors.New("the body is not of the form {\"StartRequests\":[{\"EventId\":\"...\"}]}")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, request := range ask.StartRequests {
		i := slices.IndexFunc(s.azure.events, func(e AzureEvent) bool { return e.ID == request.EventID })
		if i < 0 {
			return fmt.Errorf("there is no event with id %q", clip(request.EventID))
		}
		if s.azure.events[i].Status == "Scheduled" {
			s.azure.events[i].Status = "Started"
			s.azure.incarnation++
		}
	}
	s.stir()
	return nil
}

// serveInstance answers what the virtual machine is.
func serveInstance(w http.ResponseWriter, r *http.Request, path string) {
	compute := map[string]any{
		"location": "westeurope", "name": vmName, "osType": "Linux", "priority": "Spot", "resourceGroupName": "mock-group",
		"subscriptionId": "00000000-0000-4000-8000-000000000000", "vmId": "00000000-0000-4000-8000-0000000000ff", "vmSize": "Standard_D2s_v5", "zone": "1",
	}
	var at any = map[string]any{"instance": map[string]any{"compute": compute}}
	for name := range strings.SplitSeq(path, "/") {
		object, isObject := at.(map[string]any)
		if !isObject || object[name] == nil {
			azureError(w, http.StatusNotFound, "Not found")
			return
		}
		at = object[name]
	}
	value, isText := at.(string)
	asText := r.URL.Query().Get("format") == "text"
	switch {
	case isText && asText:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, value)
	case isText || asText:
		azureError(w, http.StatusBadRequest, "Bad request. Use format=text for a value, format=json for an object")
	default:
		_, _ = w.Write(marshal(at))
	}
}

// azureError writes an error.
func azureError(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(marshal(map[string]string{"error": message}))
}
