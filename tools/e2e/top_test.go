package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

// top runs ctl top on a terminal.
func (w *wrapper) top(columns, lines int) *terminal {
	w.t.Helper()
	return onTerminal(w.t, columns, lines, nil, program("process-wrapper"), "ctl", "-control-socket", w.socket, "top")
}

func TestTopShowsProcessesAndDoesWhatKeysSay(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("db", forever) + script("web", "echo hello from web; exec sleep 1000") + script("sick", "echo no key listen >&2; exit 3", "backoff: {initial: 1h, max: 1h}")})
	w.until("web", "is ready", func(s state) bool { return s.Ready })
	w.in("sick", "backoff")
	top := w.top(120, 20)
	top.shows(`\Apod: not ready, 3 processes: 2 ready, 1 backoff\nNAME +PHASE +READY +PID +RESTARTS +FOR +CPU +MEMORY +WHY\ndb +ready +yes +\d+ +0 `)
	top.shows(`^sick +backoff +no .* last end: exited with code 3; next start in `)
	if r := w.must("status", "sick"); !strings.Contains(r, "last end: exited with code 3; last line: no key listen; next start in ") {
		t.Errorf("status does not say why:\n%s", r)
	}
	top.shows(`^db: ready\n`) // the chosen one, in full
	top.press("j")
	top.shows(`^web: ready\n`)
	before := w.states()["web"].PID
	top.press("r")
	top.shows(`^restart web: done\n`)
	if s := w.states()["web"]; s.Restarts != 1 || s.PID == before || !s.Ready {
		t.Errorf("after r: %+v", s)
	}
	top.press("s")
	top.shows(`^web +stopped +no `)
	top.shows(`^web: .*stopped by an operator`)
	top.press("s")
	top.shows(`^web +ready +yes `)
	top.press("l")
	top.shows(`\A.*\nlogs of web, l or q goes back\n(?:.*\n)*.*msg="hello from web"`)
	top.press("q") // goes back, and does not end it
	top.shows(`^NAME +PHASE`)
	top.press("\x1b[F") // End
	top.shows(`^sick: last end: exited with code 3; last line: no key listen; next`)
	top.press("n")
	top.shows(`WHY\nsick +backoff .*\n\n`)
	top.press("s") // it runs no more, but will
	top.shows(`^sick +stopped`)
	top.press("n")
	top.shows(`^web +ready`)
	w.stop()
	top.shows(`\Ano process-wrapper answers: .*control.sock is not there`)
	top.press("q")
	top.restored(0)
}

func TestTopUnderstandsKeysThatComeInParts(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("a", forever) + script("b", forever) + script("c", forever)})
	w.ready()
	top := w.top(80, 10)
	for range 10 { // on a busy machine it may take us too long
		top.shows(`^a: ready`)
		began := time.Now()
		top.press("\x1b")
		top.press("[")
		top.press("B")
		if time.Since(began) < 10*time.Millisecond {
			break
		}
		top.press("q")
		top.restored(0)
		top = w.top(80, 10)
	}
	top.shows(`^b: ready`)
	top.press("\x1b[B")
	top.shows(`^c: ready`)
	top.press("\x1b") // alone it is Escape
	top.restored(0)
}

func TestTopLeavesTheTerminalAsItWas(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("a", forever)})
	w.ready()
	for name, end := range map[string]func(*terminal){
		"q":       func(top *terminal) { top.press("q") },
		"Ctrl-C":  func(top *terminal) { top.press("\x03") },
		"SIGTERM": func(top *terminal) { _ = top.cmd.Process.Signal(syscall.SIGTERM) },
		"SIGINT":  func(top *terminal) { _ = top.cmd.Process.Signal(os.Interrupt) },
		"SIGHUP":  func(top *terminal) { _ = top.cmd.Process.Signal(syscall.SIGHUP) },
		"SIGQUIT": func(top *terminal) { _ = top.cmd.Process.Signal(syscall.SIGQUIT) },
	} {
		t.Run(name, func(t *testing.T) {
			top := onTerminal(t, 80, 24, nil, program("process-wrapper"), "ctl", "-control-socket", w.socket, "top")
			top.shows(`^a: ready`)
			if top.settings() == top.before {
				t.Error("keys would be echoed")
			}
			end(top)
			top.restored(0)
		})
	}
	t.Run("the terminal is closed", func(t *testing.T) {
		top := w.top(80, 24)
		top.shows(`^a: ready`)
		top.slave.Close()
		top.master.Close()
		<-top.exited
	})
	w.says(200, 200)
}

func TestTopFitsItsTerminal(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("one-with-a-name-that-is-long-enough-to-be-cut-on-a-narrow-terminal", forever) + script("worker", forever, "replicas: 40")})
	w.ready()
	top := w.top(200, 50)
	top.shows(`^worker_39 `)
	for _, size := range [][2]int{{80, 24}, {40, 10}, {200, 50}, {20, 5}, {8, 3}, {1, 1}, {120, 30}} {
		columns, lines := size[0], size[1]
		top.resize(columns, lines)
		if columns >= 20 {
			top.shows(fmt.Sprintf(`\Apod: (?:.*\n){%d}q quit .*\n\z`, lines-1))
		}
		for line := range strings.Lines(top.text()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("%d columns: %q", columns, line)
			}
		}
	}
	top.press("\x1b[F")
	top.shows(`^worker_39 `)
	top.press("\x1b[5~")
	if m := top.shows(`^worker_(\d+): ready\n`); m[1] == "39" {
		top.shows(`^worker_(?:[0-9]|1\d): ready\n`)
	}
	top.press("g")
	top.shows(`^one-with-a-name-that-is-long-enough-to-be-cut-on-a-narrow-terminal: ready\n`)
	top.press("q")
	top.restored(0)
}

func TestTopWithoutATerminalIsATable(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("a", forever)})
	w.ready()
	if out := w.must("top"); !regexp.MustCompile(`\Apod: ready\nNAME .*\na +ready `).MatchString(out) || strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
}
