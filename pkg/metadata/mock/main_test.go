package mock

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/process-wrapper/process-wrapper/pkg/metadata"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func TestScenariosNameWhatIsWrong(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", "there are no steps: write steps: [{at: 5s, preempt: true}]"},
		{"an unknown key", "stages: []", "line 1: field stages is unknown: use personality, notice, warmUp, seed, steps"},
		{"a second document", "steps: [{at: 0s, reset: true}]\n---\na: b", "there is a second document: a scenario is one"},
		{"an unknown personality", "personality: gcp\nsteps: [{at: 0s, reset: true}]", `personality "gcp": use gce, gke-wi, aws, azure or all`},
		{"a seed below zero", "seed: -1\nsteps: [{at: 0s, reset: true}]", "line 1: cannot unmarshal int `-1` into a whole number"},
		{"a step that is no map", "steps: [5]", "line 1: a step is a map: {at: 5s, preempt: true}"},
		{"a step that is empty", "steps:\n- null", "a step is empty: write {at: 5s, preempt: true}"},
		{"a step without a time", "steps: [{preempt: true}]", "line 1: a step has a time and something to do: {at: 5s, preempt: true}"},
		{"a step that does nothing", "steps: [{at: 1s}]", "line 1: a step has a time and something to do: {at: 5s, preempt: true}"},
		{"a step that does two things", "steps:\n- at: 1s\n  preempt: true\n  reset: true", "line 4: a step does one thing: put reset into a step of its own"},
		{"a step with a key twice", "steps:\n- at: 1s\n  at: 2s\n  reset: true", `line 3: "at" is given twice`},
		{"an unknown step", "steps:\n- at: 1s\n  explode: true", `line 3: "explode" is no step: use at and one of ` + actionNames},
		{"a time without a unit", "steps: [{at: 1, reset: true}]", `line 1: "1" is no duration: write 500ms, 5s or 1m`},
		{"a time below zero", "steps: [{at: -1s, reset: true}]", "line 1: at is below zero"},
		{"times that go back", "steps:\n- {at: 2s, reset: true}\n- {at: 1s, reset: true}", "line 3: at is 1s, the step before is at 2s: put the steps in order"},
		{"an unknown fault", "steps:\n- at: 1s\n  fault: boom", `line 2: fault: mode is "boom": use latency, status, hang, reset, truncate, slowloris, garbage, badhttp, refuse, nowait`},
		{"an unknown field of a fault", "steps:\n- at: 1s\n  fault: {code: 503}",
			`line 2: fault: unknown field "code": use count, flap, for, interval, latency, mode, path, probability, retryAfter, status`},
		{"a key that cannot be set", "steps:\n- {at: 0s, set: {path: instance, value: x}}",
			"line 2: set instance: it is a directory; set one of attributes, guest-attributes, hostname, id, machine-type, maintenance-event, name, preempted, scheduling, service-accounts, tags, upcoming-maintenance, zone below it"},
		{"preempt: false", "steps: [{at: 0s, preempt: false}]", `line 1: preempt is "false": write true, or a map of its fields`},
		{"a list of fields", "steps: [{at: 0s, fault: [503]}]", `line 1: fault is "": write true, or a map of its fields`},
		{"an empty expectation", "steps: [{at: 0s, expect: {within: 5s}}]", "line 1: expect is empty: use waiting, requests, preempted or http"},
		{"an unknown expectation", "steps: [{at: 0s, expect: {wating: 1}}]", `line 1: unknown key "wating": use waiting, requests, preempted, http, status, contains, within`},
		{"an expectation that is none", "steps: [{at: 0s, expect: true}]", `line 1: "true": write a map of waiting, requests, preempted, http, status, contains, within`},
		{"bounds the wrong way round", "steps: [{at: 0s, expect: {requests: {min: 2, max: 1}}}]", "line 1: max is 1, less than min 2"},
		{"bounds without bounds", "steps: [{at: 0s, expect: {requests: {path: a}}}]", "line 1: a bound needs min or max"},
		{"bounds with a typo", "steps: [{at: 0s, expect: {requests: {most: 1}}}]", `line 1: unknown key "most": use path, min, max`},
		{"waiting by path", "steps: [{at: 0s, expect: {waiting: {path: a, min: 1}}}]", "line 1: waiting has no path"},
		{"a status of nothing", "steps: [{at: 0s, expect: {waiting: 1, status: 503}}]", "line 1: status and contains need http, a URL"},
		{"a URL that is none", "steps: [{at: 0s, expect: {http: localhost}}]", `line 1: http is "localhost": write a URL such as http://localhost:8111/readiness`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := parseScenario([]byte(test.text)); err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func FuzzParseScenario(f *testing.F) {
	f.Add([]byte("steps: [{at: 5s, preempt: {notice: 30s}}, {at: 6s, expect: {requests: {path: a, min: 1, max: 2}, within: 1s}}]"))
	f.Add([]byte("personality: aws\nseed: 7\nsteps: [{at: 0s, fault: 503}, {at: 1s, expect: {http: \"http://a/\", status: 503, contains: x}}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		sc, err := parseScenario(text)
		if err != nil {
			return
		}
		for _, s := range sc.Steps {
			if (s.expect != nil) != (s.command == "expect") || s.command == "" {
				t.Errorf("a step without something to do: %+v", s)
			}
		}
	})
}

func TestEveryExampleIsAScenario(t *testing.T) {
	files, err := filepath.Glob("../../../examples/preemption/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, file := range files {
		if _, err := readScenario(file); err != nil {
			t.Error(err)
		}
	}
}

func TestFlagsWinOverTheScenario(t *testing.T) {
	sc, err := parseScenario([]byte("personality: aws\nnotice: 1m\nwarmUp: 2s\nseed: 7\nsteps: [{at: 0s, reset: true}]"))
	if err != nil {
		t.Fatal(err)
	}
	f := &flags{Personality: "all", Seed: 1}
	sc.apply(f, func(name string) bool { return name == "personality" })
	if f.Personality != "all" || f.Notice != time.Minute || f.WarmUp != 2*time.Second || f.Seed != 7 {
		t.Errorf("got %+v", f)
	}
}

// rehearsal runs a scenario.
func rehearsal(t *testing.T, text string) (*metadata.Server, error) {
	t.Helper()
	sc, err := parseScenario([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	m, err := metadata.NewServer(metadata.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, sc.run(t.Context(), m, slog.New(slog.DiscardHandler))
}

func TestAScenarioTellsItsVerdict(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "preempted")
	}))
	defer web.Close()
	for _, test := range []struct{ name, step, want string }{
		{"what holds", "{requests: 0, waiting: {max: 5}, preempted: true}", ""},
		{"too few requests", "{requests: 1, within: 0s}", "the scenario failed: 1 of 2 steps"},
		{"too few requests by path", "{requests: {path: instance/id, min: 1}, within: 1ms}", "the scenario failed: 1 of 2 steps"},
		{"nobody waits", "{waiting: {min: 1}, within: 1ms}", "the scenario failed: 1 of 2 steps"},
		{"it is preempted", "{preempted: false, within: 1ms}", "the scenario failed: 1 of 2 steps"},
		{"the answer of another", "{http: " + web.URL + ", status: 503, contains: preempted}", ""},
		{"another status", "{http: " + web.URL + ", within: 0s}", "the scenario failed: 1 of 2 steps"},
		{"another body", "{http: " + web.URL + ", status: 503, contains: ready, within: 0s}", "the scenario failed: 1 of 2 steps"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := rehearsal(t, "steps: [{at: 0s, preempt: {notice: 1m}}, {at: 1ms, expect: "+test.step+"}]")
			if got := errText(err); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestTheClockStandsStillForExpectations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		m, err := rehearsal(t, `steps:
- {at: 0s, expect: {preempted: true, within: 20s}}
- {at: 2s, expect: {requests: 1, within: 0s}}
- {at: 3s, preempt: true}
`)
		if took := time.Since(start); took != 23*time.Second || err == nil || !m.State().Preempted {
			t.Errorf("took %v, want 20 s and 3 s; %v", took, err)
		}
	})
}

func TestAScenarioThatIsStoppedFails(t *testing.T) {
	sc, err := parseScenario([]byte("steps: [{at: 1h, preempt: true}]"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sc.run(ctx, nil, slog.New(slog.DiscardHandler)); errText(err) != "the scenario was stopped before step 1 of 1" {
		t.Errorf("got %v", err)
	}
}

func TestStepsDoWhatTheySay(t *testing.T) {
	m, err := rehearsal(t, `steps:
- {at: 0s, set: {path: instance/attributes/a, value: b}}
- {at: 0s, maintenance: TERMINATE_ON_HOST_MAINTENANCE}
- {at: 0s, fault: 404}
- {at: 0s, fault: {mode: hang, for: 1h, path: instance/id}}
- {at: 0s, rebalance: true}
- {at: 0s, azureEvent: Reboot}
- {at: 0s, delete: instance/attributes/a}
- {at: 0s, preempt: true}
`)
	if err != nil {
		t.Fatal(err)
	}
	state := m.State()
	if got := strings.Join(state.Faults, "; "); got != "status status=404; hang path=/computeMetadata/v1/instance/id for=1h0m0s" ||
		!state.Preempted || state.Rebalance == nil || state.Maintenance != "TERMINATE_ON_HOST_MAINTENANCE" {
		t.Errorf("got %+v", state)
	}
}

func TestFieldsOfCtl(t *testing.T) {
	for _, test := range []struct{ name, line, want string }{
		{"a fault by its status", "fault 503 for=5s", "for=5s&status=503"},
		{"a fault by its mode", "fault hang path=/latest", "mode=hang&path=%2Flatest"},
		{"all faults", "fault clear", "mode=clear"},
		{"a value with an equals sign", "set instance/attributes/a b=c", "path=instance%2Fattributes%2Fa&value=b%3Dc"},
		{"a key", "delete instance/id", "path=instance%2Fid"},
		{"an event of Azure", "azure-event Reboot resources=a,b", "resources=a%2Cb&type=Reboot"},
		{"a word too many", "preempt now", `ctl preempt: "now" is no field: write name=value`},
		{"a field twice", "fault hang mode=reset", "ctl fault: mode is given twice"},
	} {
		t.Run(test.name, func(t *testing.T) {
			words := strings.Fields(test.line)
			fields, err := (&ctl{Command: words[0], Fields: words[1:]}).fields()
			got := fields.Encode()
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestCtlSaysWhyThereIsNoAnswer(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	addr := strings.TrimPrefix(other.URL, "http://")
	c := &ctl{Command: "state"}
	if err := c.run(t.Context(), addr, io.Discard); errText(err) != addr+" does not look like the control side of metadata-mock: it answers 404 Not Found" {
		t.Errorf("another server: got %v", err)
	}
	if err := c.run(t.Context(), "127.0.0.1:1", io.Discard); !strings.HasSuffix(errText(err), "start one, or name its address with -control") {
		t.Errorf("no server: got %v", err)
	}
	if err := (&ctl{}).run(t.Context(), addr, io.Discard); errText(err) != "ctl: what shall it do? "+ctlCommands {
		t.Errorf("no command: got %v", err)
	}
}

func TestCtlKnowsTheCommandsOfTheServer(t *testing.T) {
	m, err := metadata.NewServer(metadata.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = m.Do(t.Context(), "", nil)
	_, names, _ := strings.Cut(errText(err), "use ")
	for name := range strings.SplitSeq(names, ", ") {
		if !strings.Contains(ctlCommands, name) {
			t.Errorf("ctl does not name %s", name)
		}
	}
}

func TestAddressesToDial(t *testing.T) {
	for listen, want := range map[string]string{":8990": "localhost:8990", "0.0.0.0:1": "localhost:1", "[::]:1": "localhost:1", "[::1]:1": "[::1]:1", "10.0.0.1:1": "10.0.0.1:1", "x": "x"} {
		if got := dialable(listen); got != want {
			t.Errorf("%s: got %s, want %s", listen, got, want)
		}
	}
}

func TestScenarioFilesAreBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s.yaml")
	if err := os.WriteFile(name, make([]byte, maxScenario+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readScenario(name); err == nil || !strings.Contains(err.Error(), "is larger than") {
		t.Errorf("got %v", err)
	}
	if _, err := readScenario(name + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
