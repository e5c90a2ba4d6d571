package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var takenAway = regexp.MustCompile(`msg="this pod is about to be taken away"`)

// flip preempts a machine and asks, over one connection, until /readiness is 503.
func flip(t *testing.T) time.Duration {
	c := newCloud(t)
	w := start(t, options{env: c.env()})
	c.watched()
	url := w.url("/readiness")
	client := http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer client.CloseIdleConnections()
	ask := func() int {
		response, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	if got := ask(); got != http.StatusOK {
		t.Fatalf("before the preemption it is %d", got)
	}
	began := time.Now()
	c.preempt()
	for ask() == http.StatusOK {
		if time.Since(began) > patience {
			t.Fatal("nobody saw the preemption")
		}
	}
	return time.Since(began)
}

func TestAPreemptionIsSeenInMilliseconds(t *testing.T) {
	var took []time.Duration
	for range 10 {
		t.Run("flip", func(t *testing.T) { took = append(took, flip(t)) })
	}
	slices.Sort(took)
	if len(took) < 10 || took[5] > 50*time.Millisecond || took[9] > soon {
		t.Errorf("%v", took)
	}
}

func TestGoogleIsAskedWhereItsHostIsSaidToBe(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	w := start(t, options{env: []string{"HANDLE_PREEMPTION=true", "GCE_METADATA_HOST=" + c.Listener.Addr().String()}})
	c.watched()
	if status, body := w.get("/readiness"); status != http.StatusOK {
		t.Fatalf("before the preemption: %d %s", status, body)
	}
	c.preempt()
	w.stderr.waitFor(t, takenAway)
	status, body := w.get("/readiness")
	if status != http.StatusServiceUnavailable || !strings.HasPrefix(body, "pod: preempted: GCE takes this machine away") {
		t.Errorf("%d %s", status, body)
	}
}

func TestAPreemptionBeforeTheStartIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.preempt()
	began := time.Now()
	w := start(t, options{env: c.env()})
	w.stderr.waitFor(t, takenAway)
	within(t, began, 10*time.Second, "to see it")
	status, body := w.get("/readiness")
	if status != 503 || !strings.HasPrefix(body, "pod: preempted: GCE takes this machine away") {
		t.Errorf("%d %s", status, body)
	}
	if got, _ := w.get("/liveness"); got != 200 {
		t.Errorf("/liveness is %d", got)
	}
	if w.metric("process_wrapper_preempted") != 1 {
		t.Error("no metric says so")
	}
	asked := c.count()
	c.Close() // the metadata server dies, which is nothing new
	quietly(t, soon, func() error {
		if got, _ := w.get("/readiness"); got != 503 {
			return fmt.Errorf("/readiness is %d", got)
		}
		return nil
	})
	if c.count() != asked || strings.Contains(w.stderr.String(), "cannot ask") {
		t.Errorf("%d more requests", c.count()-asked)
	}
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}

// In each state a process is left alone: nothing is started, and nothing is ended.
func TestAPreemptedPodStartsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hooked := filepath.Join(dir, "hook")
	c := newCloud(t)
	w := start(t, options{env: c.env(), config: script("crashes", "echo crash; exit 3", "backoff: {initial: 1s, jitter: 0%}") +
		script("runs", forever) +
		script("hooked", forever, fmt.Sprintf("lifecycle: {postStart: {exec: {command: [/bin/sh, -c, 'while [ ! -e %s ]; do sleep 0.05; done']}}}", hooked)) +
		script("late", forever, "dependsOn: [hooked]") +
		script("failing", forever, "readiness: {delay: 0s, period: 100ms, failureThreshold: 30, exec: {command: {entrypoint: /bin/false}}}")})
	c.watched()
	w.in("crashes", "backoff")
	w.in("hooked", "running")
	waited := make(chan string, 1)
	url := w.url("/readiness?wait")
	go func() {
		response, err := http.Get(url)
		if err != nil {
			waited <- err.Error()
			return
		}
		defer response.Body.Close()
		waited <- response.Status
	}()
	before := w.states()
	c.preempt()
	w.stderr.waitFor(t, takenAway)
	select {
	case got := <-waited:
		if got != "503 Service Unavailable" {
			t.Errorf("who waited gets %s", got)
		}
	case <-time.After(patience):
		t.Error("who waits is left alone")
	}
	w.refuses("the pod is preempted", "restart", "runs")
	w.refuses("the pod is preempted", "reload")
	if err := os.WriteFile(hooked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.until("crashes", "is held back", func(s state) bool { return s.Phase == "waiting" && strings.Contains(s.Detail, "preempted") })
	w.until("late", "is held back", func(s state) bool { return s.Phase == "waiting" && strings.Contains(s.Detail, "preempted") })
	w.in("hooked", "ready")
	w.until("failing", "fails for longer than it may", func(s state) bool { return len(s.Probes) > 0 && s.Probes[0].Failures > 33 })
	after := w.states()
	for _, name := range []string{"runs", "hooked", "failing"} {
		if after[name].PID != before[name].PID || after[name].Restarts != 0 {
			t.Errorf("%s: %+v, then %+v", name, before[name], after[name])
		}
	}
	if got := strings.Count(w.stdout.String(), "crash"); got > 2*2 || exists(w.readinessFile) {
		t.Errorf("started %d times; readiness file: %v", got, exists(w.readinessFile))
	}
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}

func TestThePreemptionBeforeThePodIsReadyKeepsItSo(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	w := start(t, options{env: c.env(), config: script("w", forever, "readiness: {delay: 300ms, period: 100ms, exec: {command: {entrypoint: /bin/true}}}")})
	c.preempt()
	w.stderr.waitFor(t, takenAway)
	w.until("w", "is ready, or held back", func(s state) bool { return s.Ready || s.Phase == "waiting" })
	quietly(t, soon, func() error {
		if exists(w.readinessFile) {
			return fmt.Errorf("the readiness file is there")
		}
		if got, _ := w.get("/readiness"); got != 503 {
			return fmt.Errorf("/readiness is %d", got)
		}
		return nil
	})
}

// drainer counts how often an Envoy is drained.
func drainer(t *testing.T) (env string, drains *atomic.Int64) {
	drains = new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.RequestURI() == "/drain_listeners?inboundonly&graceful" {
			drains.Add(1)
		}
		_, _ = w.Write([]byte("OK\n"))
	}))
	t.Cleanup(srv.Close)
	return "ENVOY_DRAIN_URL=" + srv.URL + "/drain_listeners?inboundonly&graceful", drains
}

// leavesLate ends only when it is told to and the file $LEAVE is there.
const leavesLate = `trap 'while [ ! -e "$LEAVE" ]; do sleep 0.02; done; echo clean; exit 0' TERM; echo awake; sleep 1000 & wait`

// allow makes the file.
func allow(t *testing.T, leave string) {
	t.Helper()
	if err := os.WriteFile(leave, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPreemptionAndSIGTERMTogetherAreOneEnd(t *testing.T) {
	t.Parallel()
	for name, both := range map[string]func(c *cloud, w *wrapper){
		"TRUE first": func(c *cloud, w *wrapper) {
			c.preempt()
			w.stderr.waitFor(t, takenAway)
			w.signal(syscall.SIGTERM)
		},
		"SIGTERM first": func(c *cloud, w *wrapper) {
			w.signal(syscall.SIGTERM)
			w.stderr.waitFor(t, regexp.MustCompile(`msg="leaving service"`))
			c.preempt()
		},
		"at the same time": func(c *cloud, w *wrapper) {
			var wg sync.WaitGroup
			wg.Go(c.preempt)
			w.signal(syscall.SIGTERM)
			wg.Wait()
		},
	} {
		for _, action := range []string{"drain", "terminate"} {
			t.Run(name+", "+action, func(t *testing.T) {
				t.Parallel()
				c, leave := newCloud(t), filepath.Join(t.TempDir(), "leave")
				env, drains := drainer(t)
				w := start(t, options{
					env: c.env(env, "LEAVE="+leave), args: []string{"-envoy-drain", "-preemption-action", action},
					config: script("w", leavesLate),
				})
				w.stdout.waitFor(t, awake)
				c.watched()
				both(c, w)
				w.stderr.waitFor(t, takenAway)
				eventually(t, "Envoy drains", func() error {
					if drains.Load() == 0 {
						return fmt.Errorf("it was not told to")
					}
					return nil
				})
				allow(t, leave)
				if got := w.wait(); got != 0 {
					t.Errorf("exit code %d", got)
				}
				log := w.stderr.String()
				if drains.Load() != 1 || strings.Count(log, `msg="this pod is about`) != 1 || strings.Count(log, `msg="leaving service"`) != 1 {
					t.Errorf("%d drains\n%s", drains.Load(), log)
				}
				if !strings.Contains(w.stdout.String(), "clean") {
					t.Error("it was not let end by itself")
				}
			})
		}
	}
}

func TestAPreemptedPodEndsByItselfWhereThatIsWanted(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	w := start(t, options{env: c.env(), args: []string{"-preemption-action=terminate"}, config: script("w", forever)})
	w.ready()
	c.watched()
	c.preempt()
	if got := w.wait(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}

func TestANoticeOfAWSShowsItsDeadlineAndMayBeWithdrawn(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	w := start(t, options{
		env: []string{"HANDLE_PREEMPTION=1", "METADATA_URL=" + c.URL}, args: []string{"-preemption-provider", "aws"},
		config: script("w", forever),
	})
	w.ready()
	at := time.Now().Add(90 * time.Second).UTC().Format(time.RFC3339)
	c.change(func() { c.action = fmt.Sprintf(`{"action":"terminate","time":%q}`, at) })
	w.stderr.waitFor(t, takenAway)
	if status, body := w.get("/readiness"); status != 503 || body != "pod: preempted: AWS will terminate this spot instance; gone by "+at+"\n" {
		t.Errorf("%d %s", status, body)
	}
	if got := w.metric("process_wrapper_preemption_deadline_seconds"); got < float64(time.Now().Unix()) {
		t.Errorf("deadline %v", got)
	}
	// What ends now is started when the notice is withdrawn.
	pid := w.in("w", "ready").PID
	kill(t, pid)
	w.until("w", "is held back", func(s state) bool { return s.Phase == "waiting" })
	c.change(func() { c.action = "" })
	eventually(t, "it is back in service", func() error {
		if got, body := w.get("/readiness"); got != 200 {
			return fmt.Errorf("%d %s", got, body)
		}
		return nil
	})
	if got := w.in("w", "ready"); got.PID == pid || got.Restarts != 1 {
		t.Errorf("%+v", got)
	}
	// One in the past is for now.
	c.change(func() { c.action = `{"action":"stop","time":"2020-01-02T03:04:05Z"}` })
	eventually(t, "it is preempted again", func() error {
		if got, body := w.get("/readiness"); got != 503 || !strings.Contains(body, "2020-01-02T03:04:05Z") {
			return fmt.Errorf("%d %s", got, body)
		}
		return nil
	})
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d: it was killed", got)
	}
}

// suffered is what a process-wrapper did while its metadata server was broken.
type suffered struct {
	requests, lines int
	cpu, took       time.Duration
}

// suffer breaks a metadata server for a while.
func suffer(t *testing.T, fault string, d time.Duration) suffered {
	t.Helper()
	c := newCloud(t)
	env := c.env()
	if fault == "refused" {
		env = []string{"HANDLE_PREEMPTION=true", "METADATA_URL=http://" + nobody(t) + preempted}
	} else {
		c.change(func() { c.fault = fault })
	}
	began := time.Now()
	w := start(t, options{env: env})
	w.url("/")
	before, lines := cpuUsed(t, w.pid), strings.Count(w.stderr.String(), "\n")
	<-time.After(d)
	got := suffered{c.count(), strings.Count(w.stderr.String(), "\n") - lines, cpuUsed(t, w.pid) - before, time.Since(began)}
	if fault == "refused" {
		got.requests = int(w.metric(`process_wrapper_preemption_requests_total{code="refused"}`))
	}
	return got
}

// cpuUsed returns what a process has used.
func cpuUsed(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// The same for a minute each is in fake time in pkg/preempt, and in make bench.
func TestABrokenMetadataServerIsNotHammered(t *testing.T) {
	t.Parallel()
	for _, fault := range cloudFaults {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			got := suffer(t, fault, 8*time.Second)
			// One a second after a burst of three, of all that is asked.
			if most := 3 + int(got.took/time.Second); got.requests > most || got.requests < 1 || got.lines > 10 || got.cpu > 8*time.Second/10 {
				t.Errorf("%+v, at most %d requests", got, most)
			}
		})
	}
}
