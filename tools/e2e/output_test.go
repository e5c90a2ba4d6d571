package e2e

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var message = regexp.MustCompile(`(?m)^time=\S+ level=\S+ name=(\S+) pid=\d+ out=(\w+) msg="(.*)"$`)

func TestThousandOneLinersAreAllLogged(t *testing.T) {
	t.Parallel()
	got := once(t, options{namespace: true, config: script("a", "echo hello", "replicas: 500", "restartPolicy: never") +
		script("b", "printf 'last words'", "replicas: 500", "restartPolicy: never")})
	if got.code != 0 {
		t.Errorf("exit code %d", got.code)
	}
	said := map[string]string{}
	for _, m := range message.FindAllStringSubmatch(got.stdout, -1) {
		said[m[1]] += m[2] + ":" + m[3]
	}
	lost := 0
	for i := range 500 {
		n := strconv.Itoa(i)
		if said["a_"+n] != "stdout:hello" || said["b_"+n] != "stdout:last words" {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d pairs of 500 did not say what they said", lost)
	}
}

func TestBurstBeforeTheExitIsLoggedInOrder(t *testing.T) {
	t.Parallel()
	config := script("it", "seq 1 20000; printf 'last words'; seq 20001 40000 >&2; exec printf 'last words' >&2", "restartPolicy: never")
	for range 10 {
		got := once(t, options{config: config})
		for _, stream := range []struct {
			name, text string
			first      int
		}{{"stdout", got.stdout, 1}, {"stderr", got.stderr, 20001}} {
			next, last := stream.first, ""
			for _, m := range message.FindAllStringSubmatch(stream.text, -1) {
				if m[2] != stream.name {
					t.Fatalf("a line of %s is on %s", m[2], stream.name)
				}
				if last = m[3]; last == strconv.Itoa(next) {
					next++
				}
			}
			if next != stream.first+20000 || last != "last words" {
				t.Fatalf("%s goes up to %d, and ends with %q", stream.name, next-1, last)
			}
		}
	}
}

func TestStreamsAreKeptApart(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name           string
		env            []string
		stdout, stderr string
	}{
		{"wrapped", nil, `level=info name=it pid=\d+ out=stdout msg="to stdout"`, `level=info name=it pid=\d+ out=stderr msg="to stderr"`},
		{"plain", []string{"LOG_FORMAT=plain"}, `^to stdout\n$`, `(?m)^to stderr$`},
		{"free", []string{"LOG_FORMAT=free"}, `^to stdout\n$`, `(?m)^to stderr$`},
		{"plain for it", []string{"own"}, `^to stdout\n$`, `(?m)^to stderr$`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env, more := test.env, []string{"restartPolicy: never"}
			if slices.Equal(env, []string{"own"}) {
				env, more = nil, append(more, "logFormat: plain")
			}
			got := once(t, options{config: script("it", "echo to stdout; echo to stderr >&2", more...), env: env})
			if !regexp.MustCompile(test.stdout).MatchString(got.stdout) || strings.Contains(got.stdout, "stderr") || strings.Count(got.stdout, "\n") != 1 {
				t.Errorf("stdout is %q", got.stdout)
			}
			if !regexp.MustCompile(test.stderr).MatchString(got.stderr) || strings.Contains(got.stderr, "to stdout") {
				t.Errorf("stderr is %q", got.stderr)
			}
			if !strings.Contains(got.stderr, `msg="listening"`) {
				t.Error("our own lines are not on stderr")
			}
		})
	}
}

func TestLinesKeepWhatTheySay(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ line, want string }{
		{`player level=5 reached the boss`, `level=info name=it pid=\d+ out=stdout msg="player level=5 reached the boss" team=a$`},
		{`level=warn msg="queue is long" jobs=7`, `level=warn name=it pid=\d+ out=stdout msg="queue is long" team=a jobs=7$`},
		{`{"level":"error","message":"broken","n":1}`, `level=error name=it pid=\d+ out=stdout msg="broken" team=a n=1$`},
		{`level=info msg=x name=mine`, `level=info name=it pid=\d+ out=stdout msg="x" team=a child_name=mine$`},
		{strings.Repeat("x", 3000), `msg="x{1000}x{24}" .*partial=first(.|\n)*partial=middle(.|\n)*partial=last`},
	} {
		t.Run(test.line[:10], func(t *testing.T) {
			t.Parallel()
			file := write(t, "line", test.line+"\n")
			got := once(t, options{config: script("it", "cat "+file, "restartPolicy: never", "labels: {team: a}", "log: {maxLineBytes: 1024}")})
			if !regexp.MustCompile(`(?m)` + test.want).MatchString(got.stdout) {
				t.Errorf("it became %q", got.stdout)
			}
		})
	}
}

func TestRateLimitDropsAndCounts(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("it", "seq 1 5000; exec sleep 1000", "log: {rate: {lines: 100}}")})
	const series = `process_wrapper_log_dropped_lines_total{process_name="it",reason="rate",stream="stdout"}`
	eventually(t, "all lines are counted", func() error {
		logged := strings.Count(w.stdout.String(), "msg=")
		if n := w.metric(series); n == 0 || int(n)+logged < 5000 {
			return fmt.Errorf("%v dropped, %d logged", n, logged)
		}
		return nil
	})
}

func TestGrandchildThatHoldsThePipeDoesNotHoldTheEnd(t *testing.T) {
	t.Parallel()
	began := time.Now()
	got := once(t, options{config: script("it", `(trap '' TERM; exec env -i /usr/bin/setsid /bin/sleep 20) & echo first; printf last`, "restartPolicy: never")})
	within(t, began, 15*time.Second, "the end")
	if !strings.Contains(got.stdout, `msg="first"`) || !strings.Contains(got.stdout, `msg="last"`) {
		t.Errorf("it said %q", got.stdout)
	}
}

// written returns how many bytes a process has written so far.
func written(t *testing.T, pid int) string {
	t.Helper()
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`wchar: \d+`).FindString(string(io))
}

func TestSlowReaderSlowsTheChildAndNothingElse(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	w := start(t, options{stdout: writer, config: script("it", `i=0; while :; do i=$((i+1)); echo "line $i"; done`)})
	writer.Close()
	w.ready()
	pid := w.states()["it"].PID
	stands := func() {
		t.Helper()
		last, same := "", 0
		eventually(t, "the child waits", func() error {
			if now := written(t, pid); now == last {
				same++
			} else {
				last, same = now, 0
			}
			if same < 30 {
				return fmt.Errorf("it goes on: %s", last)
			}
			return nil
		})
	}
	stands()
	before := written(t, pid)
	buf := make([]byte, 1<<20)
	n, err := io.ReadFull(reader, buf)
	if err != nil {
		t.Fatal(err)
	}
	text := string(buf[:n])
	stands()
	if after := written(t, pid); after == before {
		t.Error("the child did not go on when somebody read")
	}
	w.says(200, 200)
	began := time.Now()
	code := w.stop() // and nobody reads
	within(t, began, 10*time.Second, "the end")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	rest, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	next := 1
	lines := message.FindAllStringSubmatch(text+string(rest), -1)
	for _, m := range lines {
		if m[3] != "line "+strconv.Itoa(next) {
			t.Fatalf("%q follows line %d", m[3], next-1)
		}
		next++
	}
	if next < 1000 {
		t.Errorf("only %d lines came", next)
	}
}

func TestOutputThatFailsEndsNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		open func(t *testing.T) *os.File
	}{
		{"a reader that went away", func(t *testing.T) *os.File {
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			reader.Close()
			return writer
		}},
		{"a full disk", func(t *testing.T) *os.File {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			return full
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out := test.open(t)
			file := filepath.Join(t.TempDir(), "count")
			w := start(t, options{stdout: out, env: []string{"FILE=" + file}, config: script("it",
				`i=0; while :; do i=$((i+1)); echo "line $i" || exit 9; echo $i >"$FILE"; sleep 0.01; done`)})
			out.Close()
			w.ready()
			eventually(t, "it goes on", func() error {
				text, err := os.ReadFile(file)
				if n, _ := strconv.Atoi(strings.TrimSpace(string(text))); n < 150 {
					return fmt.Errorf("line %d, %w", n, err)
				}
				return nil
			})
			if s := w.states()["it"]; s.Restarts != 0 || !s.Ready {
				t.Errorf("it is %+v", s)
			}
			if n := w.metric(`process_wrapper_log_dropped_lines_total{process_name="",reason="write_error",stream="stdout"}`); n == 0 {
				t.Error("no loss is counted")
			}
			w.signal(syscall.SIGTERM)
			if got := w.wait(); got != 0 {
				t.Errorf("exit code %d", got)
			}
		})
	}
}
