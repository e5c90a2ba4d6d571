package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// says returns what the processes said, in order.
func says(text string) []string {
	var all []string
	for _, m := range message.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1]+" "+m[3])
	}
	return all
}

// ordered fails when the lines are not there, in this order.
func ordered(t *testing.T, text string, lines ...string) {
	t.Helper()
	all := says(text)
	next := 0
	for _, line := range all {
		if next < len(lines) && line == lines[next] {
			next++
		}
	}
	if next < len(lines) {
		t.Errorf("%q is not in its place in:\n%s", lines[next], strings.Join(all, "\n"))
	}
}

func TestProcessesStartInOrderAndStopInReverse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := func(name string, more ...string) string { // ready when it has said that it starts
		file := filepath.Join(dir, name)
		more = append(more, "readiness: {delay: 0s, period: 20ms, failureThreshold: 100000, file: {path: "+file+"}}")
		return script(name, `trap 'sleep 0.2; echo stops; exit 0' TERM; echo starts; : >`+file+`; sleep 1000 & wait`, more...)
	}
	w := start(t, options{config: server("web", "dependsOn: [api]") +
		server("api", "dependsOn: [{name: db, condition: started}, {name: migrate, condition: completed}]") +
		server("db") + script("migrate", "sleep 0.3; echo migrated", "restartPolicy: never", "dependsOn: [db]")})
	w.ready()
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	ordered(t, w.stdout.String(), "db starts", "migrate migrated", "api starts", "web starts", "web stops", "api stops", "db stops")
}

func TestDependencyThatFailsFailsWhatWaitsForIt(t *testing.T) {
	t.Parallel()
	got := once(t, options{config: script("dep", "exit 4", "restartPolicy: never") + script("it", "echo runs", "dependsOn: [dep]")})
	if got.code != 4 || strings.Contains(got.stdout, "runs") {
		t.Errorf("exit code %d: %s", got.code, got.stdout)
	}
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("it", forever, "replicas: 3") + script("after", forever, "dependsOn: [it]")})
	w.ready()
	if _, body := w.get("/status"); strings.TrimSpace(body) != `{"it_0":true,"it_1":true,"it_2":true,"after":true}` {
		t.Errorf("/status is %s", body)
	}
	_, pid := w.get("/pidof?name=it_1")
	if want := fmt.Sprint(w.states()["it_1"].PID); pid != want {
		t.Errorf("/pidof is %q, not %s", pid, want)
	}
	kill(t, w.states()["it_1"].PID)
	w.until("it_1", "comes back", func(s state) bool { return s.Restarts == 1 && s.Ready })
	for _, name := range []string{"it_0", "it_2"} {
		if s := w.states()[name]; s.Restarts != 0 {
			t.Errorf("%s was restarted too", name)
		}
	}
}

func TestHooksRunAroundTheirProcess(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "order")
	hook := func(word string) string { return fmt.Sprintf(`[/bin/sh, -c, 'echo %s >>"$ORDER"']`, word) }
	w := start(t, options{env: []string{"ORDER=" + file}, config: script("it",
		`trap 'echo told >>"$ORDER"; exit 0' TERM; echo runs >>"$ORDER"; sleep 1000 & wait`,
		"lifecycle: {postStart: {exec: {command: "+hook("lifecycle")+"}}, preStop: {exec: {command: "+hook("preStop")+"}}}",
		"readiness: {delay: 0s, period: 100ms, exec: {command: {entrypoint: /bin/grep, args: [-q, runs, "+file+"]}}}",
		`postStart: {command: {entrypoint: /bin/sh, args: [-c, 'echo "$WORD" >>"$ORDER"'], envs: {WORD: postStart}}}`)})
	w.ready()
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(text))
	if i := slices.Index(words, "runs"); i >= 0 && i < 2 { // it and the first hook run side by side
		words = slices.Delete(words, i, i+1)
	}
	if got := strings.Join(words, " "); got != "lifecycle postStart preStop told" {
		t.Errorf("the order is %s", text)
	}
}

func TestHookThatFailsHasItsProcessRestarted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, hook string }{
		{"postStart", "postStart: {command: {entrypoint: /bin/false}}"},
		{"postStart that takes too long", "postStart: {command: {entrypoint: /bin/sleep, args: ['1000']}, deadline: 200ms}"},
		{"lifecycle.postStart", "lifecycle: {postStart: {exec: {command: ['false']}}}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, options{config: script("it", forever, test.hook, "backoff: {initial: 1h, max: 1h}")})
			if s := w.in("it", "backoff"); s.Reason != "hook" {
				t.Errorf("it ended for %q: %s", s.Reason, s.Cause)
			}
			if strings.Contains(w.stderr.String(), `msg="ready"`) {
				t.Error("it was ready")
			}
		})
	}
}

func TestStopSignalAndTimeoutOfAProcess(t *testing.T) {
	t.Parallel()
	w := start(t, options{args: []string{"-graceful-shutdown-deadline", "1m"}, config: script("usr1", `trap 'echo stops; exit 0' USR1; trap '' TERM; echo starts; while :; do sleep 0.1; done`, "stopSignal: SIGUSR1") +
		script("mule", stubborn, "stopTimeout: 500ms")})
	w.stdout.waitFor(t, awake)
	w.stdout.waitFor(t, regexp.MustCompile(`msg="starts"`))
	began := time.Now()
	w.stop()
	within(t, began, 15*time.Second, "the end")
	ordered(t, w.stdout.String(), "usr1 starts", "usr1 stops")
}

func TestFirstRestartAfterALongRunComesAtOnce(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("it", "echo awake; exec sleep 1.5", "backoff: {initial: 30s, resetAfter: 1s}")})
	w.until("it", "was restarted twice", func(s state) bool { return s.Restarts == 2 })
}

func TestHeartbeatIsAllThatCanBeChanged(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("it", forever)})
	w.ready()
	pid := w.states()["it"].PID
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		for _, path := range []string{"/readiness", "/liveness", "/status", "/pids", "/pidof?name=it", "/v1/processes", "/v1/processes/it", "/metrics", "/", "/heartbeat?name=it"} {
			if got := ask(t, method, w.url(path)); got < 400 && (method != "PATCH" || !strings.HasPrefix(path, "/heartbeat")) {
				t.Errorf("%s %s is %d", method, path, got)
			}
		}
	}
	if status, age := w.get("/heartbeat?name=it"); status != 200 || !regexp.MustCompile(`^\d+\.\d+$`).MatchString(age) {
		t.Errorf("/heartbeat is %d: %s", status, age)
	}
	if got := ask(t, "PATCH", w.url("/heartbeat?name=nobody")); got != 404 {
		t.Errorf("a heartbeat of nobody is %d", got)
	}
	if s := w.states()["it"]; s.PID != pid || !s.Ready {
		t.Errorf("it is %+v", s)
	}
}

func ask(t *testing.T, method, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}
