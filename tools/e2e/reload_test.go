package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rewrite replaces the config of a running wrapper, and waits until it has read it.
func (w *wrapper) rewrite(config string) {
	w.t.Helper()
	before := reloads(w)
	w.replace(config)
	w.signal(syscall.SIGHUP)
	eventually(w.t, "the config is read again", func() error {
		if reloads(w) == before {
			return fmt.Errorf("it was not")
		}
		return nil
	})
}

// replace writes another config as editors do: a new file takes the place of the old one.
func (w *wrapper) replace(config string) {
	w.t.Helper()
	file := filepath.Join(w.dir, "config.yaml")
	if err := os.WriteFile(file+".new", []byte(config), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		w.t.Fatal(err)
	}
}

var reloaded = regexp.MustCompile(`msg="the config was (not )?reloaded`)

func reloads(w *wrapper) int { return len(reloaded.FindAllString(w.stderr.String(), -1)) }

func TestReloadChangesWhatTheConfigChanges(t *testing.T) {
	const block = "readiness: {delay: 0s, period: 100ms, failureThreshold: 100000, startupDeadline: 1h, file: {path: %s}}"
	there := write(t, "there", "")
	kept, gone := script("kept", forever), script("gone", forever)
	changed := func(text string) string { return script("changed", text) }
	checked := func(path string) string { return script("checked", forever, fmt.Sprintf(block, path)) }
	w := start(t, options{config: kept + gone + changed(forever) + checked(there)})
	w.ready()
	before := w.states()

	w.rewrite(kept + changed("echo other; "+forever) + checked("/nowhere") + script("fresh", forever, "dependsOn: [kept]"))
	w.until("fresh", "is ready", func(s state) bool { return s.Ready })
	w.until("changed", "is ready", func(s state) bool { return s.Ready && s.Restarts == 1 })
	w.until("checked", "is un-ready", func(s state) bool { return !s.Ready && len(s.Probes) == 1 && s.Probes[0].Error != "" })
	eventually(t, "gone is removed", func() error {
		if _, there := w.states()["gone"]; there {
			return fmt.Errorf("it is still there")
		}
		return nil
	})
	after := w.states()
	for _, name := range []string{"kept", "checked"} {
		if a, b := before[name], after[name]; a.PID != b.PID || b.Restarts != 0 {
			t.Errorf("%s was restarted: %+v, then %+v", name, a, b)
		}
	}
	if after["changed"].PID == before["changed"].PID {
		t.Errorf("changed was not restarted: %+v", after["changed"])
	}
	if n := w.metric(`process_wrapper_process_restarts_total{process_name="changed",reason="reload"}`); n != 1 {
		t.Errorf("%v restarts by reload are counted", n)
	}
	if _, body := w.get("/metrics"); strings.Contains(body, `process_name="gone"`) {
		t.Error("there are still metrics of gone")
	}

	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestReloadOfABadConfigChangesNothing(t *testing.T) {
	kept := script("kept", forever)
	w := start(t, options{config: kept + script("other", forever)})
	w.ready()
	before := w.states()
	w.rewrite(kept + "- name: [oops\n")
	w.rewrite(kept + kept)
	w.rewrite(kept + "- {name: x, entrypoint: /bin/true, dependsOn: [nobody]}\n")
	now := w.states()
	if len(now) != 2 || now["kept"].PID != before["kept"].PID || now["other"].PID != before["other"].PID {
		t.Errorf("a bad config changed something: %+v, then %+v", before, now)
	}
	if !strings.Contains(w.stderr.String(), "nobody") {
		t.Error("nobody says what is wrong with the config")
	}
}

func TestReloadToNothingAndBack(t *testing.T) {
	w := start(t, options{config: script("a", forever)})
	w.ready()
	w.rewrite("[]\n")
	eventually(t, "nothing is left", func() error {
		if all := w.states(); len(all) != 0 {
			return fmt.Errorf("%+v", all)
		}
		return nil
	})
	w.says(200, 200)
	w.rewrite(script("b", forever))
	w.until("b", "is ready", func(s state) bool { return s.Ready })
	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestReloadRunsAgainWhatADependencyKeptFromRunning(t *testing.T) {
	job := func(code int) string { return script("job", fmt.Sprintf("exit %d", code), "restartPolicy: never") }
	rest := script("app", forever, "dependsOn: [{name: job, condition: completed}]") + script("other", forever)
	w := start(t, options{config: job(3) + rest})
	w.in("app", "failed")
	w.rewrite(job(0) + rest)
	w.until("app", "is ready", func(s state) bool { return s.Ready })
	w.in("job", "completed")
}

func TestConfigThatCannotBeReadAgainIsNamed(t *testing.T) {
	w := start(t, options{env: []string{"CONFIG=" + script("a", forever)}})
	w.ready()
	w.signal(syscall.SIGHUP)
	w.stderr.waitFor(t, regexp.MustCompile(`nothing is changed" by=SIGHUP err="it came from the environment variable CONFIG`))
}

func TestConfigWatchFollowsTheFileAndTheLinkOfAConfigMap(t *testing.T) {
	t.Run("a file that is replaced, and one that is written", func(t *testing.T) {
		w := start(t, options{config: script("a", forever), args: []string{"-config-watch"}})
		w.ready()
		w.replace(script("a", forever) + script("b", forever))
		w.until("b", "is ready", func(s state) bool { return s.Ready })
		if err := os.WriteFile(filepath.Join(w.dir, "config.yaml"), []byte(script("c", forever)), 0o600); err != nil {
			t.Fatal(err)
		}
		w.until("c", "is ready", func(s state) bool { return s.Ready })
	})
	t.Run("the link that the kubelet swaps", func(t *testing.T) {
		mount := t.TempDir()
		swap := func(version, config string) {
			t.Helper()
			dir := filepath.Join(mount, "..2026_"+version)
			for _, err := range []error{
				os.Mkdir(dir, 0o755),
				os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o644),
				os.Symlink(filepath.Base(dir), filepath.Join(mount, "..data_tmp")),
				os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		swap("1", script("a", forever))
		if err := os.Symlink("..data/config.yaml", filepath.Join(mount, "config.yaml")); err != nil {
			t.Fatal(err)
		}
		w := start(t, options{args: []string{"-config-watch", "-config", filepath.Join(mount, "config.yaml")}})
		w.ready()
		for i, name := range []string{"b", "c", "d"} {
			swap(fmt.Sprint(i+2), script("a", forever)+script(name, forever))
			w.until(name, "is ready", func(s state) bool { return s.Ready })
		}
		if s := w.states()["a"]; s.Restarts != 0 {
			t.Errorf("a was restarted: %+v", s)
		}
	})
}

// edits makes configs of which some are wrong, from a seed.
type edits struct {
	*rand.Rand
	processes map[string]string
}

// next changes one thing and returns the config, and whether it is a good one.
func (e *edits) next() (config string, good bool) {
	if e.IntN(4) == 0 {
		bad := []string{"- name: [\n", "- {name: x}\n", "- {name: x, entrypoint: a, entrypiont: b}\n", "- {name: e0, entrypoint: a}\n- {name: e0, entrypoint: a}\n"}
		return e.config() + bad[e.IntN(len(bad))], false
	}
	name := fmt.Sprintf("e%d", e.IntN(6))
	switch e.IntN(5) {
	case 0:
		delete(e.processes, name)
	case 1:
		e.processes[name] = script(name, "true", "restartPolicy: onFailure")
	default:
		more := []string{fmt.Sprintf("stopTimeout: %dms", 100+e.IntN(3)*100)}
		if e.IntN(2) == 0 {
			more = append(more, fmt.Sprintf("readiness: {delay: 0s, period: %dms, failureThreshold: 100000, exec: {command: {entrypoint: 'true'}}}", 50+e.IntN(3)*50))
		}
		if e.IntN(3) == 0 {
			more = append(more, "dependsOn: [steady]")
		}
		e.processes[name] = script(name, fmt.Sprintf("echo %d; %s", e.IntN(3), forever), more...)
	}
	return e.config(), true
}

const steady = `- name: steady
  entrypoint: %s
  args: [-listen, "127.0.0.1:%d"]
  readiness: {delay: 0s, period: 20ms, timeout: 5s, failureThreshold: 5, http: {url: "http://127.0.0.1:%[2]d/"}}
`

func (e *edits) config() string {
	text := e.processes["steady"]
	for _, name := range slices.Sorted(maps.Keys(e.processes)) {
		if name != "steady" {
			text += e.processes[name]
		}
	}
	return text
}

// overview is what must be the same after reloads as after a start.
func overview(w *wrapper) map[string]string {
	all := map[string]string{}
	for name, s := range w.states() {
		all[name] = fmt.Sprintf("%s, ready %v, %d probes", s.Phase, s.Ready, len(s.Probes))
	}
	return all
}

// always checks again and again, until the function that it returns is called, which says what
// went wrong first.
func always(check func() error) (end func() error) {
	over, result := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				result <- nil
				return
			case <-tick.C:
			}
			if err := check(); err != nil {
				result <- err
				return
			}
		}
	}()
	return func() error {
		close(over)
		return <-result
	}
}

func TestReloadUnderLoadLeavesTheUntouchedAlone(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	port := freePort(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	e := &edits{rand.New(rand.NewPCG(seed, 0)), map[string]string{"steady": fmt.Sprintf(steady, program("hello"), port)}}
	w := start(t, options{config: e.config()})
	w.ready()
	pid := w.states()["steady"].PID

	status := w.url("/status")
	serves := always(func() error { return ok(fmt.Sprintf("http://127.0.0.1:%d/", port), patience) })
	isReady := always(func() error {
		var ready map[string]bool
		_, body := get(t, status)
		if err := json.Unmarshal([]byte(body), &ready); err != nil || !ready["steady"] {
			return fmt.Errorf("steady is not ready: %s, %v", body, err)
		}
		return nil
	})
	bad := 0
	for range rounds {
		config, good := e.next()
		if !good {
			bad++
		}
		w.rewrite(config)
	}
	for _, end := range []func() error{serves, isReady} {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	if s := w.states()["steady"]; s.PID != pid || s.Restarts != 0 {
		t.Errorf("steady was restarted: %+v, pid was %d", s, pid)
	}
	refused := strings.Count(w.stderr.String(), "was not reloaded")
	if refused != bad {
		t.Errorf("%d configs were refused, %d were bad", refused, bad)
	}
	w.rewrite(e.config())
	fresh := start(t, options{config: strings.ReplaceAll(e.config(), fmt.Sprint(port), fmt.Sprint(freePort(t)))})
	eventually(t, "it is as after a fresh start", func() error {
		if a, b := overview(w), overview(fresh); !maps.Equal(a, b) {
			return fmt.Errorf("%v, and fresh %v", a, b)
		}
		return nil
	})
	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A pipe that nobody writes to hangs like a file of a file system that does not answer.
func TestAConfigThatHangsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"SIGHUP": nil, "-config-watch": {"-config-watch"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, options{config: script("a", forever), args: args})
			w.ready()
			file := filepath.Join(w.dir, "config.yaml")
			if err := syscall.Mkfifo(file+".new", 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(file+".new", file); err != nil {
				t.Fatal(err)
			}
			if name == "SIGHUP" {
				w.signal(syscall.SIGHUP)
			}
			<-time.After(time.Second) // until it hangs
			if r := w.ctl("restart", "a"); r.code != 0 {
				t.Errorf("%+v", r)
			}
			began := time.Now()
			if got := w.stop(); got != 0 {
				t.Errorf("exit code %d", got)
			}
			within(t, began, 5*time.Second, "the end")
		})
	}
}
