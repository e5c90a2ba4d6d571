package pod

import (
	"encoding/json"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// read makes a pod of JSON.
func read(t *testing.T, text string) *object {
	t.Helper()
	o := &object{}
	if err := json.Unmarshal([]byte(text), o); err != nil {
		t.Fatal(err)
	}
	return o
}

// states of containers.
const (
	runs    = `{"running":{"startedAt":"2026-01-01T00:00:00Z"}}`
	exit0   = `{"terminated":{"exitCode":0,"reason":"Completed"}}`
	exit3   = `{"terminated":{"exitCode":3,"reason":"Error"}}`
	crashed = `{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"exitCode":3}}`
)

// podOf makes a pod with the containers me and app, and more of its spec.
func podOf(policy, app, more string) string {
	return `{"metadata":{"name":"pod-1"},"spec":{"restartPolicy":"` + policy + `"` + more + `,"containers":[{"name":"me"},{"name":"app"}]},
		"status":{"containerStatuses":[{"name":"me","state":` + runs + `},{"name":"app","state":` + app + `}]}}`
}

func TestMainContainersAreCompleted(t *testing.T) {
	const two = `{"spec":{"restartPolicy":"Never","containers":[{"name":"me"},{"name":"a"},{"name":"b"}]},"status":{"containerStatuses":[
		{"name":"me","state":` + runs + `},{"name":"a","state":` + exit0 + `},{"name":"b","state":` + runs + `}]}}`
	const sidecar = `,"initContainers":[{"name":"proxy","restartPolicy":"Always"}]`
	own := func(spec, state string) string {
		return `{"spec":{"restartPolicy":"Always","containers":[{"name":"me"},{"name":"app",` + spec + `}]},
			"status":{"containerStatuses":[{"name":"me","state":` + runs + `},{"name":"app","state":` + state + `}]}}`
	}
	for _, test := range []struct {
		name string
		pod  string
		own  string
		main []string
		want string // "": not completed
	}{
		{"it runs", podOf("Never", runs, ""), "me", nil, ""},
		{"Never and exit 0", podOf("Never", exit0, ""), "me", nil, "completed: app (exit code 0)"},
		{"Never and any other exit", podOf("Never", exit3, ""), "me", nil, "completed: app (exit code 3)"},
		{"OnFailure and exit 0", podOf("OnFailure", exit0, ""), "me", nil, "completed: app (exit code 0)"},
		{"OnFailure and exit 3 starts again", podOf("OnFailure", exit3, ""), "me", nil, ""},
		{"OnFailure in back-off starts again", podOf("OnFailure", crashed, ""), "me", nil, ""},
		{"Always starts again after exit 0", podOf("Always", exit0, ""), "me", nil, ""},
		{"Always starts again after exit 3", podOf("Always", exit3, ""), "me", nil, ""},
		{"a policy that is missing is Always", podOf("", exit0, ""), "me", nil, ""},
		{"one of two", two, "me", nil, ""},
		{"one of two that is named", two, "me", []string{"a"}, "completed: a (exit code 0)"},
		{"two that are named", two, "me", []string{"a", "b"}, ""},
		{"one that is not there", two, "me", []string{"a", "c"}, ""},
		{"our own is not known: it is the one that runs", podOf("Never", exit0, ""), "", nil, "completed: app (exit code 0)"},
		{"our own is not known, another runs too", two, "", nil, ""},
		{"our own is not known and may be a native sidecar", podOf("Never", exit0, sidecar), "", nil, ""},
		{"our own is a native sidecar", podOf("Never", exit0, sidecar), "proxy", nil, ""}, // me runs
		{"our own is regular beside a native sidecar", podOf("Never", exit0, sidecar), "me", nil, "completed: app (exit code 0)"},
		{"no states yet", `{"spec":{"restartPolicy":"Never","containers":[{"name":"me"},{"name":"app"}]}}`, "me", nil, ""},
		{"we are alone", `{"spec":{"restartPolicy":"Never","containers":[{"name":"me"}]}}`, "me", nil, ""},
		{"an ephemeral container does not count", strings.Replace(podOf("Never", exit0, ""), `"status":{`,
			`"status":{"ephemeralContainerStatuses":[{"name":"debug","state":`+runs+`}],`, 1), "me", nil, "completed: app (exit code 0)"},
		{"an init container does not count", strings.Replace(podOf("Never", exit0, `,"initContainers":[{"name":"init"}]`), `"status":{`,
			`"status":{"initContainerStatuses":[{"name":"init","state":`+exit3+`}],`, 1), "", nil, "completed: app (exit code 0)"},
		{"the policy of the container wins", own(`"restartPolicy":"Never"`, exit3), "me", nil, "completed: app (exit code 3)"},
		{"a rule restarts it", own(`"restartPolicy":"Never","restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[3,4]}}]`, exit3), "me", nil, ""},
		{"a rule for other codes", own(`"restartPolicy":"Never","restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[4]}}]`, exit3), "me", nil, "completed: app (exit code 3)"},
		{"a rule for all but this code", own(`"restartPolicy":"Never","restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"NotIn","values":[3]}}]`, exit3), "me", nil, "completed: app (exit code 3)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			reason, done := read(t, test.pod).completed(test.own, test.main)
			if reason != test.want || done != (test.want != "") {
				t.Errorf("got %q, %t, want %q", reason, done, test.want)
			}
		})
	}
}

func TestDisruption(t *testing.T) {
	for _, test := range []struct{ name, conditions, want string }{
		{"none", ``, ""},
		{"another condition", `{"type":"Ready","status":"True","reason":"x"}`, ""},
		{"the pod is a target", `{"type":"Ready","status":"True"},{"type":"DisruptionTarget","status":"True","reason":"TerminationByKubelet"}`, "TerminationByKubelet"},
		{"a target without a reason", `{"type":"DisruptionTarget","status":"True"}`, "DisruptionTarget"},
		{"a target no longer", `{"type":"DisruptionTarget","status":"False","reason":"TerminationByKubelet"}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := read(t, `{"status":{"conditions":[`+test.conditions+`]}}`).disruption(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// FuzzParseEvent holds that no line of a watch makes us fall over.
func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"type":"MODIFIED","object":` + podOf("Never", exit0, "") + `}`))
	f.Add([]byte(`{"type":"ERROR","object":{"code":410,"message":"too old"}}`))
	f.Add([]byte(`{"type":"BOOKMARK","object":{}}`))
	f.Add([]byte(`{"type":"ADDED","object":null}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		o, err := parseEvent(line)
		if o != nil && err != nil {
			t.Error("a pod and an error")
		}
		if o != nil {
			if reason, done := o.completed("me", nil); done != (reason != "") {
				t.Errorf("done is %t, the reason %q", done, reason)
			}
			o.completed("", []string{"app"})
			o.disruption()
		}
	})
}
