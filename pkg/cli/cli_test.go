package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// os/signal starts one goroutine per process, and keeps it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("os/signal.loop"), goleak.IgnoreTopFunction("os/signal.signal_recv"))
}

var stamp = regexp.MustCompile(`(?m)^time=\S+ `)

type result struct {
	code           int
	stdout, stderr string
}

func execute(p Program, line string) result {
	var stdout, stderr strings.Builder
	code := p.Exec(context.Background(), split(line), &stdout, &stderr)
	return result{code, stdout.String(), stamp.ReplaceAllString(stderr.String(), "")}
}

func TestExitCodesAndWhatIsPrinted(t *testing.T) {
	for _, test := range []struct {
		name string
		line string
		err  error
		want result
	}{
		{"success is 0", "", nil, result{}},
		{"any error is 1 and logged", "", errors.New("listen: in use"), result{code: 1, stderr: "level=error msg=\"ended with an error\" err=\"listen: in use\" code=1\n"}},
		{"a code without a reason is silent", "", &ExitError{Code: 143}, result{code: 143}},
		{"a code with a reason is logged", "", &ExitError{Code: 3, Err: errors.New("gone")}, result{code: 3, stderr: "level=error msg=\"ended with an error\" err=gone code=3\n"}},
		{"a config error is 2 and printed as it stands", "", Usagef("a.yaml:3:5: unknown key"), result{code: 2, stderr: "tool: a.yaml:3:5: unknown key\n"}},
		{"an unknown flag is 2 and has a suggestion", "-confg x", nil, result{code: 2, stderr: "tool: unknown flag -confg: did you mean -config?\nsee tool -h\n"}},
		{"a missing value is 2", "-config", nil, result{code: 2, stderr: "tool: -config needs a value: -config string\nsee tool -h\n"}},
		{"a wrong boolean is 2", "-wait=maybe", nil, result{code: 2, stderr: "tool: -wait: \"maybe\" is not a boolean: use true or false\nsee tool -h\n"}},
		{"an argument too many is 2", "x", nil, result{code: 2, stderr: "tool: unexpected argument x\nsee tool -h\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var opts options
			var seen error
			p := Program{
				Name: "tool", Flags: &opts,
				Run:     func(context.Context, *Call) error { return test.err },
				OnError: func(err error) { seen = err },
			}
			if got := execute(p, test.line); got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			if (seen != nil) != (test.want.stderr != "") {
				t.Errorf("OnError saw %v", seen)
			}
		})
	}
}

func TestValuesComeFromFlagThenEnvironmentThenDefault(t *testing.T) {
	type want struct {
		config, socket string
		port           int
		given          bool
		code           int
		stderr         string
	}
	for _, test := range []struct {
		name string
		env  map[string]string
		line string
		want want
	}{
		{"the default without both", nil, "", want{port: 8111, socket: ":1"}},
		{"the variable", map[string]string{"TEST_CONFIG": "e", "TEST_PORT": "7"}, "", want{config: "e", port: 7, socket: ":1", given: true}},
		{"the flag beats the variable", map[string]string{"TEST_PORT": "7"}, "-port 5", want{port: 5, socket: ":1", given: true}},
		{"the flag beats a wrong variable", map[string]string{"TEST_PORT": "x"}, "-port 5", want{port: 5, socket: ":1", given: true}},
		{"an empty variable counts as unset", map[string]string{"TEST_CONFIG": "", "TEST_PORT": "", "TEST_SOCKET": ""}, "", want{port: 8111, socket: ":1"}},
		{"the second name when the first is empty", map[string]string{"TEST_PORT": "", "TEST_PORT_OLD": "3"}, "", want{port: 3, socket: ":1", given: true}},
		{"a variable without a flag", map[string]string{"TEST_SOCKET": ":2"}, "", want{port: 8111, socket: ":2"}},
		{
			"a wrong variable is named", map[string]string{"TEST_PORT": "x"}, "",
			want{code: 2, stderr: "tool: --port: environment variable TEST_PORT: expected a valid 64 bit int but got \"x\"\nsee tool -h\n"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, name := range []string{"TEST_CONFIG", "TEST_PORT", "TEST_PORT_OLD", "TEST_SOCKET"} {
				t.Setenv(name, "")
				_ = os.Unsetenv(name) // t.Setenv puts it back
			}
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			var opts options
			var got want
			var socket string
			p := Program{Name: "tool", Flags: &opts, Env: []EnvVar{{Name: "TEST_SOCKET", Default: ":1", Value: &socket}}}
			p.Run = func(_ context.Context, call *Call) error {
				got = want{config: opts.Config, socket: socket, port: opts.Port, given: call.Given("port")}
				return nil
			}
			res := execute(p, test.line)
			got.code, got.stderr = res.code, res.stderr
			if got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestDebugFlagLowersTheLevelOfTheLogger(t *testing.T) {
	for line, want := range map[string]bool{"": false, "-debug": true, "--debug=false": false} {
		p := Program{Name: "tool", Run: func(ctx context.Context, call *Call) error {
			if call.Log.Enabled(ctx, slog.LevelDebug) != want || call.Debug != want {
				t.Errorf("%q: debug enabled is %v, want %v", line, !want, want)
			}
			call.Log.Debug("hello")
			return nil
		}}
		if got := execute(p, line); strings.Contains(got.stderr, `msg="hello"`) != want {
			t.Errorf("%q: stderr %q", line, got.stderr)
		}
	}
}

func TestVersionPrintsTheBuildAndRunsNothing(t *testing.T) {
	for _, line := range []string{"-version", "--version", "-config x -version"} {
		p := Program{Name: "tool", Flags: &options{}, Run: func(context.Context, *Call) error {
			t.Error("Run was called")
			return nil
		}}
		want := result{stdout: "tool " + ReadBuild().String() + "\n"}
		if got := execute(p, line); got != want {
			t.Errorf("%q: got %+v, want %+v", line, got, want)
		}
	}
}

const programHelp = `Usage: tool [command] [flags]

Does one thing.

Commands:
  validate                check the config
  install TARGET          copy the binary to TARGET
  ctl logs [NAME...]      print logs
  exec ARGS...            run a command

Flags, with one or two dashes:
  -config string          config file
  -debug                  log at debug level
  -version                print version, commit and Go version
  -h, -help               print this help

Environment:
  TEST_SOCKET             address of the health endpoints, which the kubelet asks for liveness and
                          readiness (default :8111)
`

const optionsHelp = `Usage: tool [flags]

Flags, with one or two dashes:
  -config string          config file (env TEST_CONFIG)
  -wait                   wait
  -wait-deadline duration
                          how long (default 2m)
  -skip-commands string   names
  -sort                   sort (default true)
  -port int               port (default 8111) (env TEST_PORT, TEST_PORT_OLD)
  -debug                  log at debug level
  -version                print version, commit and Go version
  -h, -help               print this help

Environment:
  TEST_CONFIG             as -config
  TEST_PORT               as -port
  TEST_PORT_OLD           as -port
`

const logsHelp = `Usage: tool ctl logs [NAME...] [flags]

print logs

Flags, with one or two dashes:
  -f, -follow             go on
  -n, -lines int          how many (default 10)
  -socket string          control socket
  -config string          config file
  -debug                  log at debug level
  -version                print version, commit and Go version
  -h, -help               print this help
`

func TestHelpShowsFlagsCommandsAndEnvironment(t *testing.T) {
	commands := func() Program {
		return Program{Name: "tool", About: "Does one thing.", Flags: &withCommands{}, Env: []EnvVar{
			{Name: "TEST_SOCKET", Default: ":8111", Help: "address of the health endpoints, which the kubelet asks for liveness and readiness"},
		}}
	}
	for _, test := range []struct {
		line string
		p    Program
		want string
	}{
		{"-h", commands(), programHelp},
		{"--help", commands(), programHelp},
		{"ctl logs -h", commands(), logsHelp},
		{"-help", Program{Name: "tool", Flags: &options{}}, optionsHelp},
	} {
		t.Run(test.line, func(t *testing.T) {
			if got := execute(test.p, test.line); got != (result{stdout: test.want}) {
				t.Errorf("code %d, stderr %q, stdout:\n%s\nwant:\n%s", got.code, got.stderr, got.stdout, test.want)
			}
		})
	}
}

func TestAnUnknownCommandIsAnErrorThatListsTheKnownOnes(t *testing.T) {
	for line, want := range map[string]string{
		"valdate":        "tool: \"valdate\" is not a command: use validate, install, ctl, exec\nsee tool -h\n",
		"ctl log":        "tool: \"log\" is not a command: use logs\nsee tool -h\n",
		"-config x ctl ": "tool: expected \"logs\"\nsee tool -h\n",
	} {
		p := Program{Name: "tool", Flags: &withCommands{}}
		if got := execute(p, line); got != (result{code: 2, stderr: want}) {
			t.Errorf("%q: got %+v, want %q", line, got, want)
		}
	}
}

func TestCommandIsThePathOfTheSubcommand(t *testing.T) {
	for line, want := range map[string]string{"": "run", "-config x": "run", "validate": "validate", "ctl logs a b": "ctl logs"} {
		var got string
		p := Program{Name: "tool", Flags: &withCommands{}, Run: func(_ context.Context, call *Call) error {
			got = call.Command
			return nil
		}}
		if res := execute(p, line); got != want || res.code != 0 {
			t.Errorf("%q: command %q, want %q (%+v)", line, got, want, res)
		}
	}
}

func TestASignalEndsTheContextAndIsItsCause(t *testing.T) {
	ctx, stop := SignalContext(t.Context())
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("SIGTERM did not end the context")
	}
	if cause := context.Cause(ctx).Error(); cause != "terminated signal received" {
		t.Errorf("cause %q", cause)
	}
}
