package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
)

var versionLine = regexp.MustCompile(`^(\S+) \S+ \(commit \S+(?: of \S+Z)?, go1\.\S+, \w+/\w+\)\n$`)

func TestEveryCommandPrintsItsVersion(t *testing.T) {
	commands, err := filepath.Glob("../../cmd/*")
	if err != nil || len(commands) == 0 {
		t.Fatal(commands, err)
	}
	for _, command := range commands {
		name := filepath.Base(command)
		binary := filepath.Join(bin, name)
		for _, flag := range []string{"-version", "--version"} {
			out, err := exec.CommandContext(t.Context(), binary, flag).CombinedOutput()
			if err != nil {
				t.Errorf("%s %s: %v\n%s", name, flag, err, out)
				continue
			}
			if match := versionLine.FindStringSubmatch(string(out)); match == nil || match[1] != name {
				t.Errorf("%s %s printed %q", name, flag, out)
			}
		}
	}
}

func TestBinariesRunInAnEmptyImage(t *testing.T) {
	d := container(t)
	out := d.do(t, "run", "--rm", d.image, "process-wrapper", "-version")
	if !versionLine.MatchString(out + "\n") {
		t.Errorf("printed %q", out)
	}
}

func TestContainerKeepsItsExitCodeAndOutput(t *testing.T) {
	d := container(t)
	id := d.run(t, d.image, "sh", "-c", "echo pid $$; exit 7")
	if got := d.do(t, "wait", id); got != "7" {
		t.Errorf("exit code %s", got)
	}
	if got := d.do(t, "logs", id); got != "pid 1" {
		t.Errorf("printed %q", got)
	}
}

// oneSleeper has one process, which is ready once it runs.
const oneSleeper = `
- name: sleeper
  entrypoint: /bin/sh
  args: [-c, 'echo awake; exec sleep 1000']
`

func TestWrapperBecomesReadyAndStopsOnSIGTERM(t *testing.T) {
	for _, test := range []struct {
		name      string
		namespace bool
	}{
		{"as any process", false},
		{"as PID 1 of a namespace", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, options{config: oneSleeper, namespace: test.namespace})
			w.ready()
			w.stdout.waitFor(t, regexp.MustCompile("awake"))
			eventually(t, "it runs nothing but sleep", func() error {
				below := descendants(t, w.pid)
				if len(below) != 1 || below[0].comm != "sleep" {
					return fmt.Errorf("it runs %v", below)
				}
				return nil
			})
			if got := w.stop(); got != 0 {
				t.Errorf("exit code %d", got)
			}
			if err := syscall.Kill(w.pid, 0); err == nil {
				t.Error("it is still there")
			}
		})
	}
}

func TestOrphansAreReaped(t *testing.T) {
	w := start(t, options{namespace: true, config: `
- name: parent
  entrypoint: /bin/sh
  args: [-c, 'for i in 1 2 3 4 5 6 7 8; do (true &) ; done; echo awake; exec sleep 1000']
`})
	w.stdout.waitFor(t, regexp.MustCompile("awake"))
	eventually(t, "no zombie is left", func() error {
		if count := w.zombies(); count > 0 {
			return fmt.Errorf("%d zombies", count)
		}
		return nil
	})
}
