package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// places are where process-wrapper runs: each starts a config and returns the pid, in our
// namespace, of process-wrapper and what its processes print.
var places = []struct {
	name  string
	start func(t *testing.T, config string) (pid int, stdout func() string)
}{
	{"as any process", func(t *testing.T, config string) (int, func() string) {
		w := start(t, options{config: config})
		return w.pid, w.stdout.String
	}},
	{"as PID 1 of a namespace", func(t *testing.T, config string) (int, func() string) {
		w := start(t, options{config: config, namespace: true})
		return w.pid, w.stdout.String
	}},
	{"as PID 1 of a container", func(t *testing.T, config string) (int, func() string) {
		d := container(t)
		id := d.run(t, "-e", "CONFIG="+config, d.image, "process-wrapper")
		pid, err := strconv.Atoi(d.do(t, "inspect", "-f", "{{.State.Pid}}", id))
		if err != nil {
			t.Fatal(err)
		}
		return pid, func() string { return d.do(t, "logs", id) }
	}},
}

func noZombies(t *testing.T, pid int) {
	t.Helper()
	eventually(t, "no zombie is left", func() error {
		count := 0
		for _, p := range descendants(t, pid) {
			if p.state == "Z" {
				count++
			}
		}
		if count > 0 {
			return fmt.Errorf("%d zombies", count)
		}
		return nil
	})
}

func TestThousandOrphansLeaveNoZombie(t *testing.T) {
	t.Parallel()
	config := script("parent", `i=0; while [ $i -lt 1000 ]; do (true &); i=$((i+1)); done; echo awake; exec sleep 1000`)
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			pid, stdout := place.start(t, config)
			eventually(t, "all are born", func() error {
				if !awake.MatchString(stdout()) {
					return fmt.Errorf("it says %q", stdout())
				}
				return nil
			})
			eventually(t, "the main process alone is left", func() error {
				if below := descendants(t, pid); len(below) != 1 || below[0].comm != "sleep" {
					return fmt.Errorf("there are %v", below)
				}
				return nil
			})
		})
	}
}

// leaver leaves behind whatever a process can, and says on its start how much is left of it: all
// that it leaves is called sleep. The dead do not count, which have no command line any more and
// are only yet to be collected.
const leaver = `
alive() {
	n=0
	for p in $(busybox pidof sleep); do
		[ -z "$(cat /proc/$p/cmdline 2>/dev/null)" ] || n=$((n+1))
	done
	echo $n
}
echo "survivors=$(alive)"
sleep 1001 &
setsid sleep 1002 &
(setsid sleep 1003 &)
(sleep 1004 >/dev/null 2>&1 &)
(trap '' TERM; exec sleep 1005) &
(trap '' TERM; setsid sh -c '(sleep 1006 >/dev/null 2>&1 &)' &)
while [ "$(alive)" -lt 6 ]; do :; done
echo "leaves 6"
`

var survivors = regexp.MustCompile(`survivors=(\d+)`)

func TestNothingOfAProcessIsLeftWhenItStartsAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, end string }{
		{"after exit code 0", "exit 0"},
		{"after exit code 1", "exit 1"},
		{"after SIGKILL", "kill -9 $$"},
	} {
		for _, place := range places[1:] {
			t.Run(test.name+" "+place.name, func(t *testing.T) {
				t.Parallel()
				_, stdout := place.start(t, script("it", leaver+test.end, "backoff: {initial: 10ms, max: 10ms}"))
				eventually(t, "it has started three times", func() error {
					if n := len(survivors.FindAllString(stdout(), -1)); n < 3 {
						return fmt.Errorf("started %d times", n)
					}
					return nil
				})
				if n := strings.Count(stdout(), "leaves 6"); n < 2 {
					t.Errorf("it left 6 processes %d times:\n%s", n, stdout())
				}
				for _, s := range survivors.FindAllStringSubmatch(stdout(), -1) {
					if s[1] != "0" {
						t.Errorf("%s survivors:\n%s", s[1], stdout())
					}
				}
			})
		}
	}
}

// The bar is 2 s; SIGKILL must have come long before 20 s are over.
func TestWhatIgnoresSIGTERMIsKilledSoon(t *testing.T) {
	t.Parallel()
	w := start(t, options{namespace: true, config: script("it",
		`trap '' TERM; setsid sleep 1000 & trap - TERM; echo awake; exec sleep 1001`, "backoff: {initial: 10ms}")})
	w.stdout.waitFor(t, awake)
	before := descendants(t, w.pid)
	first := w.in("it", "ready")
	began := time.Now()
	for _, p := range before {
		if status := procStatus(t, p.pid); strings.Fields(status["NSpid"])[1] == strconv.Itoa(first.PID) {
			kill(t, p.pid)
		}
	}
	w.until("it", "runs again", func(s state) bool { return s.Restarts == 1 && s.PID > 0 })
	within(t, began, 20*time.Second, "the restart")
	gone(t, before)
}

func TestExitCodesOfManyAtOnce(t *testing.T) {
	t.Parallel()
	const children = 150
	var config strings.Builder
	for i := range children {
		config.WriteString(script("p"+strconv.Itoa(i), fmt.Sprintf("(true &); (true &); exit %d", i), "restartPolicy: never"))
	}
	for range 2 {
		w := start(t, options{namespace: true, config: config.String() + script("stays", forever)})
		eventually(t, "all have ended", func() error {
			for name, s := range w.states() {
				if name != "stays" && s.Phase != "failed" && s.Phase != "completed" {
					return fmt.Errorf("%s is %s", name, s.Phase)
				}
			}
			return nil
		})
		for i := range children {
			s := w.states()["p"+strconv.Itoa(i)]
			if s.ExitCode == nil || *s.ExitCode != i {
				t.Errorf("exit code of %s: %+v", s.Name, s)
			}
			if i > 20 && t.Failed() {
				break
			}
		}
		noZombies(t, w.pid)
		w.stop()
	}
}

var succeeded = regexp.MustCompile(`(?m)^process_wrapper_probe_total\{probe="exec",process_name="p\d",result="success"\} (\d+)$`)

func TestExecProbesLeaveNoZombie(t *testing.T) {
	t.Parallel()
	var config strings.Builder
	for i := range 10 {
		config.WriteString(script("p"+strconv.Itoa(i), forever,
			`readiness: {delay: 0s, period: 20ms, exec: {command: {entrypoint: /bin/sh, args: [-c, 'sleep 1000 & (setsid sleep 1000 &); exit 0']}}}`))
	}
	w := start(t, options{namespace: true, config: config.String()})
	eventually(t, "600 probes have run", func() error {
		sum := 0
		_, page := w.get("/metrics")
		for _, m := range succeeded.FindAllStringSubmatch(page, -1) {
			n, _ := strconv.Atoi(m[1])
			sum += n
		}
		if sum < 600 {
			return fmt.Errorf("%v have", sum)
		}
		return nil
	})
	noZombies(t, w.pid)
	if n := len(descendants(t, w.pid)); n > 200 {
		t.Errorf("%d processes are left of the probes", n)
	}
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}
