package wrapper

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

func TestKeysAreTakenApart(t *testing.T) {
	for in, want := range map[string]string{
		"q":                   "q",
		"\x1b[A\x1b[Bs":       "up down s",
		"\x1bOA":              "up",
		"\x1b[C":              "",
		"\x1b":                "\x1b",
		"rl\x03":              "r l \x03",
		"\x1b[A\x1b[A\x1b[Ax": "up up up x",
		"\x1b[5~\x1b[6~j":     "page up page down j",
		"\x1b[H\x1bOF\x1b[1~": "home end home",
		"\x1b[1;5Aq":          "q",
		"\x1b[<35;1;2":        "", // cut short
	} {
		if got := strings.Join(keysOf([]byte(in)), " "); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestKeysThatComeInPartsAreWaitedFor(t *testing.T) {
	for in, want := range map[string]int{
		"": 0, "q": 0, "\x1b": 1, "j\x1b": 1, "\x1b[": 2, "\x1bO": 2, "\x1b[1;5": 5, "\x1b[A": 0, "\x1b[5~": 0, "\x1bOAq": 0, "\x1bq": 0,
		"\x1b[A\x1b": 1, "\x1b[00000000000000000000": 0,
	} {
		if got := beginOfKey([]byte(in)); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
}

func TestTextForATerminalHoldsNoControl(t *testing.T) {
	if got := printable("a\x1b[2Jb\tc\r\u0085d\x7f é"); got != "a[2Jb cd é" {
		t.Errorf("got %q", got)
	}
	if got := brief(`time=2026-11-28T21:41:13.649Z level=info name=web pid=7 out=stderr msg="x"`); got != `21:41:13 stderr msg="x"` {
		t.Errorf("got %q", got)
	}
	if got := brief("plain out= text"); got != "plain out= text" {
		t.Errorf("got %q", got)
	}
}

func TestLinesOfTheTableFitTheirColumns(t *testing.T) {
	now := time.Now()
	pid, cause := 4711, "exited with code 3"
	next := now.Add(90 * time.Second)
	rows := []row{
		{Name: "wéb", Phase: "ready", Ready: true, PID: &pid, Since: now.Add(-26 * time.Hour)},
		{Name: "crash", Phase: "backoff", Restarts: 12, Since: now.Add(-3 * time.Second), Cause: &cause, Next: &next},
	}
	lines := align(cells(rows, now))
	want := []string{
		"NAME   PHASE    READY   PID  RESTARTS     FOR  CPU  MEMORY  WHY",
		"wéb    ready    yes    4711         0  26h00m",
		"crash  backoff  no                 12      3s               last end: exited with code 3; next start in 1m30s",
	}
	for i := range want {
		if lines[i] != want[i] {
			t.Errorf("got  %q\nwant %q", lines[i], want[i])
		}
	}
	rows[1].Name = "a-process-with-a-name-that-has-no-place-beside-the-other-columns_17"
	if got, want := align(narrow(cells(rows, now), 60))[2], "a-process…lumns_17  backoff  no            12               last end"; !strings.HasPrefix(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
	rows[1].last = "no space left"
	if got, want := rows[1].why(now), "last end: exited with code 3; last line: no space left; next start in 1m30s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	rows[1].last = ""
	bad := "said \x1b[2J\nthis"
	rows[1].Cause = &bad
	if got := rows[1].why(now); !strings.HasPrefix(got, "last end: said [2J this; next") {
		t.Errorf("%q", got)
	}
	if got, want := (&overview{Processes: rows[:1]}).counts(), "1 ready"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	mixed := overview{Processes: []row{{Phase: "completed"}, {Phase: "backoff"}, {Phase: "ready"}, {Phase: "failed"}, {Phase: "ready"}}}
	if got, want := mixed.counts(), "2 ready, 1 failed, 1 backoff, 1 completed"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if n := len(status.Phases()); n != len(byWorth) {
		t.Errorf("%d of %d phases are counted", len(byWorth), n)
	}
	for _, width := range []int{1, 10, 80, 200} {
		for _, l := range lines {
			if n := utf8.RuneCountInString(shorten(l, width)); n > width {
				t.Errorf("%d runes in %d: %q", n, width, l)
			}
		}
	}
}

func TestOnlyWhatIsNotReadyIsShownWhenAsked(t *testing.T) {
	top := &top{unwell: true, chosen: "a"}
	top.all.Processes = []row{{Name: "a", Ready: true}, {Name: "b"}, {Name: "c"}}
	if at := top.index(); at != 0 || top.chosen != "b" {
		t.Errorf("row %d, %q is chosen", at, top.chosen)
	}
	if top.move(9); top.chosen != "c" {
		t.Errorf("the last one is %q", top.chosen)
	}
	top.all.Processes = top.all.Processes[:1]
	if at := top.index(); at != 0 || top.chosen != "" {
		t.Errorf("row %d, %q is chosen of none", at, top.chosen)
	}
}

func TestAFailedCheckThatEndedAProcessIsToldOnce(t *testing.T) {
	refused, cause, pid := "connection refused", "tcp: connection refused", 4711
	r := row{Phase: "backoff", Cause: &cause}
	r.Probes = append(r.Probes, struct {
		Name, Result string
		Error        *string
	}{"tcp", "failure", &refused})
	if got, want := r.why(time.Now()), "last end: tcp: connection refused"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.PID, r.Phase = &pid, "running" // it fails again
	if got, want := r.why(time.Now()), "tcp: connection refused; last end: tcp: connection refused"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWhatIsBeingStoppedSaysWhenItIsKilled(t *testing.T) {
	now, pid := time.Now(), 4711
	for after, want := range map[time.Duration]string{
		90 * time.Second: "stopped by an operator; SIGKILL in 1m30s",
		-2 * time.Minute: "stopped by an operator; SIGKILL was sent 2m00s ago",
	} {
		at := now.Add(after)
		r := row{Phase: "stopping", PID: &pid, Detail: "stopped by an operator", KillAt: &at}
		if got := r.why(now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTheLastLineIsWhatTheProcessSaid(t *testing.T) {
	const head = "time=2026-11-28T21:41:13.649Z level=info name=web pid=7 out=stderr "
	for line, want := range map[string]string{
		head + `msg="disk \"/data\" is full"`: `disk "/data" is full`,
		head + `msg=full`:                     `full`,
		head + `msg=full disk=/data`:          `msg=full disk=/data`,
		head + `msg="full" disk=/data`:        `msg="full" disk=/data`,
		head + `code=3`:                       `code=3`,
		"a plain line out= of a process":      "a plain line out= of a process",
		"":                                    "",
	} {
		if got := said(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
