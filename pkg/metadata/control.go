package metadata

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxControlBody = 1 << 20
	defaultWait    = 30 * time.Second
)

// errLate is the end of a wait for a state that did not come.
var errLate = errors.New("it did not come in time")

// A command is one thing that the control side can do.
type command struct {
	fields []string // that it takes
	reads  bool     // it changes nothing, so it is a GET
	run    func(*Server, context.Context, map[string]string) (any, error)
}

// commands are what [Server.Do] and the control side know.
func commands() map[string]command {
	return map[string]command{
		"preempt":     {fields: []string{"notice", "action"}, run: (*Server).doPreempt},
		"maintenance": {fields: []string{"event"}, run: (*Server).doMaintenance},
		"rebalance":   {run: func(s *Server, _ context.Context, _ map[string]string) (any, error) { s.Rebalance(); return nil, nil }},
		"azure-event": {fields: []string{"id", "type", "status", "resources", "notice"}, run: (*Server).doAzureEvent},
		"cancel":      {run: func(s *Server, _ context.Context, _ map[string]string) (any, error) { s.Cancel(); return nil, nil }},
		"fault":       {fields: []string{"*"}, run: (*Server).doFault},
		"set":         {fields: []string{"path", "value"}, run: (*Server).doSet},
		"delete":      {fields: []string{"path"}, run: (*Server).doDelete},
		"reset":       {run: func(s *Server, _ context.Context, _ map[string]string) (any, error) { s.Reset(); return nil, nil }},
		"state":       {reads: true, run: func(*Server, context.Context, map[string]string) (any, error) { return nil, nil }},
		"requests":    {reads: true, run: func(s *Server, _ context.Context, _ map[string]string) (any, error) { return s.Requests(), nil }},
		"wait":        {fields: []string{"waiting", "requests", "preempted", "timeout"}, reads: true, run: (*Server).doWait},
	}
}

// Do runs a command with its fields as text, such as "preempt" with notice=30s, and returns what it
// answers: the [State] after it, or []Request for "requests". The control side and scenarios use it.
//
//	preempt      notice (a duration), action (of AWS: terminate, stop, hibernate)
//	maintenance  event (see Maintenance; by default MIGRATE_ON_HOST_MAINTENANCE)
//	rebalance    the recommendation of AWS
//	azure-event  type, resources (with commas), status, id, notice (a duration)
//	cancel       takes the notices of AWS and Azure back
//	fault        see ParseFault; mode=clear ends all
//	set          path, value          delete  path
//	reset        back to the beginning
//	state, requests
//	wait         until waiting and requests are at least so many, and preempted is so; timeout (30s)
func (s *Server) Do(ctx context.Context, name string, fields map[string]string) (any, error) {
	all := commands()
	c, known := all[name]
	if !known {
		return nil, fmt.Errorf("%q is not a command: use %s", clip(name), strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	for field := range fields {
		switch {
		case slices.Contains(c.fields, field), slices.Contains(c.fields, "*"):
		case len(c.fields) == 0:
			return nil, fmt.Errorf("%s: unknown field %q: it takes none", name, clip(field))
		default:
			return nil, fmt.Errorf("%s: unknown field %q: use %s", name, clip(field), strings.Join(c.fields, ", "))
		}
	}
	answer, err := c.run(s, ctx, fields)
	if err != nil || answer != nil {
		return answer, err
	}
	return s.State(), nil
}

func (s *Server) doPreempt(_ context.Context, fields map[string]string) (any, error) {
	left, action := s.config.Notice, "terminate"
	if text, given := fields["notice"]; given {
		var err error
		if left, err = parseNotice(text); err != nil {
			return nil, fmt.Errorf("preempt: %w", err)
		}
	}
	if given := fields["action"]; given != "" {
		action = given
	}
	if !slices.Contains([]string{"terminate", "stop", "hibernate"}, action) {
		return nil, fmt.Errorf("preempt: action %q: use terminate, stop or hibernate", action)
	}
	s.preempt(action, left)
	return nil, nil
}

// parseNotice reads a notice, which may be below zero: it came late then.
func parseNotice(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("notice is %q: use a duration such as 30s", text)
	}
	return d, nil
}

func (s *Server) doMaintenance(_ context.Context, fields map[string]string) (any, error) {
	event := fields["event"]
	if event == "" {
		event = "MIGRATE_ON_HOST_MAINTENANCE"
	}
	return nil, s.Maintenance(event)
}

func (s *Server) doAzureEvent(_ context.Context, fields map[string]string) (any, error) {
	e := AzureEvent{ID: fields["id"], Type: fields["type"], Status: fields["status"]}
	if list := fields["resources"]; list != "" {
		e.Resources = strings.Split(list, ",")
	}
	if text, given := fields["notice"]; given {
		left, err := parseNotice(text)
		if err != nil {
			return nil, fmt.Errorf("azure event: %w", err)
		}
		e.NotBefore = time.Now().Add(left)
	}
	return nil, s.AddAzureEvent(e)
}

func (s *Server) doFault(_ context.Context, fields map[string]string) (any, error) {
	if fields["mode"] == "clear" {
		if len(fields) > 1 {
			return nil, errors.New("fault: clear ends all faults, so it has no other fields")
		}
		s.ClearFaults()
		return nil, nil
	}
	f, err := ParseFault(fields)
	if err != nil {
		return nil, err
	}
	return nil, s.Inject(f)
}

func (s *Server) doSet(_ context.Context, fields map[string]string) (any, error) {
	value, given := fields["value"]
	if !given {
		return nil, errors.New("set: a path and a value are needed")
	}
	return nil, s.Set(fields["path"], value)
}

func (s *Server) doDelete(_ context.Context, fields map[string]string) (any, error) {
	return nil, s.Delete(fields["path"])
}

// doWait waits until the state is as asked.
func (s *Server) doWait(ctx context.Context, fields map[string]string) (any, error) {
	var waiting, requests int
	patience := defaultWait
	for name, read := range map[string]func(string) error{
		"waiting":  func(v string) error { return parseInt(&waiting, v, 0, 1_000_000) },
		"requests": func(v string) error { return parseInt(&requests, v, 0, 1_000_000_000) },
		"timeout":  func(v string) error { return parseDuration(&patience, v) },
		"preempted": func(v string) error {
			if v != "true" && v != "false" {
				return fmt.Errorf("%q: use true or false", v)
			}
			return nil
		},
	} {
		if text, given := fields[name]; given {
			if err := read(text); err != nil {
				return nil, fmt.Errorf("wait: %s is %w", name, err)
			}
		}
	}
	preempted := fields["preempted"]
	t := time.NewTimer(patience)
	defer t.Stop()
	for {
		s.mu.Lock()
		state, changed := s.state(), s.stirred()
		s.mu.Unlock()
		if state.Waiting >= waiting && state.Requests >= uint64(requests) && (preempted == "" || preempted == strconv.FormatBool(state.Preempted)) {
			return state, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-s.ctx.Done():
			return nil, context.Cause(s.ctx)
		case <-t.C:
			return nil, fmt.Errorf("wait: %w: after %v waiting is %d, requests is %d, preempted is %t", errLate, patience, state.Waiting, state.Requests, state.Preempted)
		}
	}
}

// Control returns the handler of the control side, for a listener of its own that only friends reach:
// POST /control/COMMAND for the commands of [Server.Do], GET for state, requests and wait. Fields
// come in the query, in a form or in a JSON object; the answer is JSON. GET /metrics is for
// Prometheus.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, controlHelp) })
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /metrics", s.serveMetrics)
	mux.HandleFunc("/control/{command}", s.serveControl)
	return mux
}

const controlHelp = `metadata-mock, control side

POST /control/preempt?notice=30s
POST /control/maintenance?event=MIGRATE_ON_HOST_MAINTENANCE
POST /control/rebalance
POST /control/azure-event?type=Reboot&resources=mock-vm
POST /control/cancel
POST /control/fault?status=503&for=10s    mode=clear ends all
POST /control/set?path=instance/attributes/color&value=blue
POST /control/delete?path=instance/attributes/color
POST /control/reset
GET  /control/state
GET  /control/requests
GET  /control/wait?waiting=1&timeout=30s
GET  /metrics
`

func (s *Server) serveControl(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("command")
	c, known := commands()[name]
	method := http.MethodPost
	if c.reads {
		method = http.MethodGet
	}
	switch {
	case r.Header.Get("Origin") != "":
		http.Error(w, "requests of web pages are refused", http.StatusForbidden)
		return
	case known && r.Method != method:
		w.Header().Set("Allow", method)
		http.Error(w, name+" is a "+method+": curl -X "+method+" ...", http.StatusMethodNotAllowed)
		return
	}
	fields, err := readFields(http.MaxBytesReader(w, r.Body, maxControlBody), r)
	var answer any
	if err == nil {
		answer, err = s.Do(r.Context(), name, fields)
	}
	if err != nil {
		http.Error(w, err.Error(), controlStatus(err, known))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(marshal(answer), '\n'))
}

func controlStatus(err error, known bool) int {
	var tooLarge *http.MaxBytesError
	switch {
	case !known:
		return http.StatusNotFound
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errLate):
		return http.StatusRequestTimeout
	case errors.Is(err, errClosed):
		return http.StatusServiceUnavailable
	default:
		return http.StatusBadRequest
	}
}

// readFields reads the query, and a form or a JSON object.
func readFields(body io.ReadCloser, r *http.Request) (map[string]string, error) {
	r.Body = body
	fields := map[string]string{}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		if err := readObject(body, fields); err != nil {
			return nil, err
		}
	}
	if err := r.ParseForm(); err != nil {
		return nil, fmt.Errorf("read fields: %w", err)
	}
	for name, values := range r.Form {
		if _, twice := fields[name]; twice || len(values) > 1 {
			return nil, fmt.Errorf("field %q is given twice", clip(name))
		}
		fields[name] = values[0]
	}
	return fields, nil
}

// readObject reads a flat JSON object; numbers and booleans become text.
func readObject(body io.Reader, fields map[string]string) error {
	b, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("read fields: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var object map[string]any
	if err := d.Decode(&object); err != nil || d.More() {
		return errors.New(`read fields: the body is no JSON object such as {"status": 503, "for": "10s"}`)
	}
	for name, value := range object {
		switch v := value.(type) {
		case string:
			fields[name] = v
		case json.Number:
			fields[name] = v.String()
		case bool:
			fields[name] = strconv.FormatBool(v)
		default:
			return fmt.Errorf("field %q: use a text, a number, true or false", clip(name))
		}
	}
	return nil
}

// serveMetrics writes the metrics in Prometheus' text format.
func (s *Server) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	state, codes, faults := s.state(), maps.Clone(s.stats.codes), maps.Clone(s.stats.faults)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	var b bytes.Buffer
	family := func(name, kind, help string) {
		fmt.Fprintf(&b, "# HELP metadata_mock_%s %s\n# TYPE metadata_mock_%s %s\n", name, help, name, kind)
	}
	vector := func(name, label, help string, values map[string]uint64) {
		family(name, "counter", help)
		for _, key := range slices.Sorted(maps.Keys(values)) {
			fmt.Fprintf(&b, "metadata_mock_%s{%s=%q} %d\n", name, label, key, values[key])
		}
	}
	gauge := func(name, help string, value int) {
		family(name, "gauge", help)
		fmt.Fprintf(&b, "metadata_mock_%s %d\n", name, value)
	}
	vector("requests_total", "code", "Requests that were answered, by status; cut: without one.", codes)
	vector("faults_total", "mode", "Requests that were answered by a fault, by its mode.", faults)
	gauge("waiting_requests", "Requests that wait for a change.", state.Waiting)
	gauge("faults_in_force", "Faults that are set.", len(state.Faults))
	preempted := 0
	if state.Preempted {
		preempted = 1
	}
	gauge("preempted", "1 after the notice of preemption.", preempted)
	_, _ = w.Write(b.Bytes())
}
