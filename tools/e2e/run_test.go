package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunRunsOneProgramWithoutAConfig(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		args   []string
		code   int
		stdout string // holds
		stderr string // holds
	}{
		{"arguments are the program's own", []string{"-restart", "never", "--", "sh", "-c", "echo $0 $1", "-h", "-version"}, 0, `name=sh pid=\d+ out=stdout msg="-h -version"`, ""},
		{"without the dashes too", []string{"-restart=never", "echo", "-n", "hi"}, 0, `name=echo .*msg="hi"`, ""},
		{"its exit code is ours", []string{"-restart", "never", "--", "sh", "-c", "exit 7"}, 7, "", ""},
		{"variables and a name", []string{"-restart", "never", "-name", "job", "-e", "A=b,c", "-env", "B=d e", "--", "sh", "-c", "echo $A $B"}, 0, `name=job .*msg="b,c d e"`, ""},
		{"a directory", []string{"-restart", "never", "-dir", "/", "--", "pwd"}, 0, `msg="/"`, ""},
		{"nothing to run", nil, 2, "", `expected "<command>"`},
		{"nothing behind the dashes", []string{"--"}, 2, "", "run has nothing to run: run -- PROGRAM ARGS..."},
		{"a value that is wrong", []string{"-stop-timeout", "5", "--", "true"}, 2, "", `true.stopTimeout: "5" has no unit`},
		{"a variable without a value", []string{"-env", "s3cret", "--", "true"}, 2, "", "-env wants NAME=VALUE"},
		{"a config too", []string{"-config", "/x", "--", "true"}, 2, "", "run and -config exclude each other"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{program("process-wrapper"), "run", "-readiness-file", filepath.Join(t.TempDir(), "r"), "-control-socket", "none"}, test.args...)
			got := command(t, []string{"HEALTH_SOCKET=127.0.0.1:0"}, args...)
			if got.code != test.code {
				t.Errorf("code %d, want %d: %s", got.code, test.code, got.stderr)
			}
			matches(t, "stdout", got.stdout, test.stdout)
			if !strings.Contains(got.stderr, test.stderr) || strings.Contains(got.stderr, "s3cret") {
				t.Errorf("stderr %q, want %q", got.stderr, test.stderr)
			}
		})
	}
}

func TestRunChecksWhatItRuns(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	w := start(t, options{args: []string{"run", "-ready-delay", "0s", "-ready-period", "50ms", "-ready-http", "http://" + address + "/", "-ready-tcp", address, "--", program("hello"), "-listen", address}})
	w.ready()
	if s := w.states()["hello"]; len(s.Probes) != 2 {
		t.Errorf("%+v", s)
	}
	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
