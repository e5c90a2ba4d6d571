package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// The metadata servers of metadata-mock were made from other sources than those above.
func TestTheMockPreemptsAPodOnEachCloud(t *testing.T) {
	t.Parallel()
	for provider, path := range map[string]string{"gce": preempted, "aws": "", "azure": ""} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			m := startMock(t, "-personality", provider)
			w := start(t, options{
				env:  []string{"HANDLE_PREEMPTION=enabled", "METADATA_URL=http://" + m.addr + path},
				args: []string{"-preemption-provider", provider},
			})
			eventually(t, "the source is up", func() error {
				if w.metric("process_wrapper_preemption_source_up") != 1 {
					return fmt.Errorf("%s", w.stderr)
				}
				return nil
			})
			if status, text := w.get("/readiness"); status != 200 {
				t.Errorf("%d %s", status, text)
			}
			m.ctl(t, "preempt")
			w.stderr.waitFor(t, takenAway)
			status, text := w.get("/readiness")
			if status != 503 || (provider != "gce") != strings.Contains(text, "gone by ") {
				t.Errorf("%d %s", status, text)
			}
			if strings.Contains(w.stderr.String(), "cannot ask") {
				t.Errorf("%s", w.stderr)
			}
		})
	}
}

func TestAzureIsToldThatTheMachineMayGoOnlyWhereThatIsWanted(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{"-preemption-approve": "Preempt Started", "-debug": "Preempt Scheduled"} {
		t.Run(arg, func(t *testing.T) {
			t.Parallel()
			m := startMock(t, "-personality", "azure")
			w := start(t, options{
				config: script("it", forever),
				env:    []string{"HANDLE_PREEMPTION=enabled", "METADATA_URL=http://" + m.addr},
				args:   []string{"-preemption-provider", "azure", arg},
			})
			w.ready()
			m.ctl(t, "preempt")
			w.stderr.waitFor(t, takenAway)
			if got := m.ctl(t, "state"); !strings.Contains(got, "Preempt Scheduled") {
				t.Errorf("while it runs: %s", got)
			}
			if got := w.stop(); got != 0 {
				t.Errorf("exit code %d", got)
			}
			if got := m.ctl(t, "state"); !strings.Contains(got, want) {
				t.Errorf("want %s in %s\n%s", want, got, w.stderr)
			}
		})
	}
}

// An event that is first seen when it has started says no time: nobody knows how long the machine
// still runs, so the processes get what the pod has for them.
func TestAnEventThatHasStartedShortensNoStop(t *testing.T) {
	t.Parallel()
	m := startMock(t, "-personality", "azure")
	w := start(t, options{
		config: script("it", `trap 'sleep 3; echo clean; exit 0' TERM; echo awake; sleep 1000 & wait`),
		env:    []string{"HANDLE_PREEMPTION=enabled", "METADATA_URL=http://" + m.addr},
		args:   []string{"-preemption-provider", "azure"},
	})
	w.stdout.waitFor(t, awake)
	m.ctl(t, "azure-event", "Preempt", "status=Started")
	w.stderr.waitFor(t, takenAway)
	if status, text := w.get("/readiness"); status != 503 || text != "pod: preempted: Azure has started a preempt of this machine\n" {
		t.Errorf("%d %q", status, text)
	}
	if got := w.stop(); got != 0 || !strings.Contains(w.stdout.String(), "clean") {
		t.Errorf("exit code %d\n%s", got, w.stdout)
	}
	matches(t, "the log", w.stderr.String(), `msg="leaving service" .*deadline=10s`)
}

func TestWithoutActionAPreemptionIsOnlyTold(t *testing.T) {
	t.Parallel()
	s, c := newMetricsServer(t), newCloud(t)
	env, drains := drainer(t)
	w := start(t, options{
		env: c.env(env, "METRICS_SERVER_ADDRESS="+s.conn.LocalAddr().String()), args: []string{"-envoy-drain", "-preemption-action=none"},
		config: script("crashes", "echo crash; sleep 0.1; exit 3", "backoff: {initial: 10ms, max: 10ms}") + script("w", forever),
	})
	w.in("w", "ready")
	c.watched()
	c.preempt()
	w.stderr.waitFor(t, takenAway)
	crashed := strings.Count(w.stdout.String(), "crash")
	eventually(t, "a process is restarted, and the event comes", func() error {
		if n := strings.Count(w.stdout.String(), "crash"); n < crashed+3 || s.sum("preempted", "event") != 1 {
			return fmt.Errorf("%d crashes, %v events", n, s.sum("preempted", "event"))
		}
		return nil
	})
	if _, body := w.get("/readiness"); strings.Contains(body, "preempted") || w.metric("process_wrapper_preempted") != 1 || drains.Load() > 0 {
		t.Errorf("%s, %d drains", body, drains.Load())
	}
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}

func TestEnvoyIsDrainedWhereItAlwaysWas(t *testing.T) {
	t.Parallel()
	if err := ok("http://localhost:15000/", patience); err == nil {
		skip(t, "somebody listens where an Envoy would")
	}
	c := newCloud(t)
	c.preempt()
	w := start(t, options{env: c.env(), args: []string{"-envoy-drain"}})
	w.stderr.waitFor(t, regexp.MustCompile(`level=info msg="no Envoy to drain" err="drain Envoy: POST http://localhost:15000/drain_listeners: nobody listens there"`))
	if log := w.stderr.String(); strings.Count(log, "stop all listeners at once") != 1 || !strings.Contains(log, "drain_listeners?inboundonly&graceful") {
		t.Error("nothing hints at the better URL, or too much")
	}
}
