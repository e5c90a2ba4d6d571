package cli

import (
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

// options is one of each kind of flag, parsed by kong and by package flag.
type options struct {
	Config       string        `help:"config file" env:"TEST_CONFIG"`
	Wait         bool          `help:"wait"`
	WaitDeadline time.Duration `default:"2m" help:"how long"`
	SkipCommands string        `help:"names"`
	Sort         bool          `default:"true" help:"sort"`
	Port         int           `default:"8111" help:"port" env:"TEST_PORT,TEST_PORT_OLD"`
}

func withKong(args []string) (options, error) {
	var opts options
	parser, err := kong.New(&opts, kong.NoDefaultHelp(), verbatim())
	if err != nil {
		return opts, err
	}
	forgetEnv(parser.Model.Node)
	normal, err := normalize(parser.Model, args)
	if err == nil {
		_, err = parser.Parse(normal)
	}
	return opts, err
}

func withFlag(args []string) (options, error) {
	var opts options
	set := flag.NewFlagSet("test", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&opts.Config, "config", "", "")
	set.BoolVar(&opts.Wait, "wait", false, "")
	set.DurationVar(&opts.WaitDeadline, "wait-deadline", 2*time.Minute, "")
	set.StringVar(&opts.SkipCommands, "skip-commands", "", "")
	set.BoolVar(&opts.Sort, "sort", true, "")
	set.IntVar(&opts.Port, "port", 8111, "")
	if err := set.Parse(args); err != nil {
		return opts, err
	}
	if set.NArg() > 0 {
		return opts, errors.New("unexpected argument " + set.Arg(0))
	}
	return opts, nil
}

// commandLines are one per line, with spaces between the arguments and ” for an empty one.
const commandLines = `
-config x
--config x
-config=x
--config=x
-config '' -wait
-config=
-config= -wait
-config -
-config -x
-config --
-config -- -wait
-config -wait
-config a=b
-config=a=b=c
-config {"a":1}
-config
-wait -config
-wait
--wait
-wait -wait
-wait=0
-wait=1
-wait=T
-wait=t
-wait=TRUE
-wait=f
-wait=yes
-wait=
-wait false
-wait x -config y
-sort
-sort=false
-sort=F -wait=true
-skip-commands a,b
-skip-commands a,b -skip-commands c
-wait-deadline 2m0s
-wait-deadline=90s
-wait-deadline -5s
-wait-deadline 5
-wait-deadline ''
-wait-deadline 5s -wait-deadline 6s
-port 9
-port=0x10
-port -1
-port 99999999999999999999
-port x
-prot 9
-w
-wai
-no-wait
-c x
-
-- -wait
-- 
-wait --
---wait
-=x
--=x
-wait= -config x
x
x -wait
-config ü -port 7
` + "-config \xff" + `
`

func split(line string) []string {
	args := strings.Fields(line)
	for i := range args {
		if args[i] == "''" {
			args[i] = ""
		}
	}
	return args
}

func TestCommandLinesMeanWhatTheyMeanToPackageFlag(t *testing.T) {
	for line := range strings.Lines(strings.TrimPrefix(commandLines, "\n")) {
		line = strings.TrimSuffix(line, "\n")
		t.Run(line, func(t *testing.T) {
			want, wantErr := withFlag(split(line))
			got, gotErr := withKong(split(line))
			if (gotErr != nil) != (wantErr != nil) {
				t.Fatalf("error %v, package flag says %v", gotErr, wantErr)
			}
			if wantErr != nil {
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("parsed differently (-flag +kong):\n%s", diff)
			}
		})
	}
}

func FuzzNormalizeAgreesWithPackageFlag(f *testing.F) {
	for line := range strings.Lines(commandLines) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := split(line)
		want, wantErr := withFlag(args)
		got, gotErr := withKong(args)
		if wantErr != nil {
			if gotErr == nil {
				t.Fatalf("%q: accepted, package flag says %v", args, wantErr)
			}
			return
		}
		if gotErr != nil {
			t.Fatalf("%q: %v, package flag accepts it", args, gotErr)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-flag +kong):\n%s", args, diff)
		}
	})
}

type withCommands struct {
	Config string   `help:"config file"`
	Run    struct{} `cmd:"" default:"withargs" hidden:""`

	Validate struct {
		Strict bool `help:"warnings are errors"`
	} `cmd:"" help:"check the config"`
	Install struct {
		Target string `arg:""`
	} `cmd:"" help:"copy the binary to TARGET"`
	Ctl struct {
		Socket string `help:"control socket"`
		Logs   struct {
			Names  []string `arg:"" optional:"" name:"name"`
			Follow bool     `short:"f" help:"go on"`
			Lines  int      `short:"n" default:"10" help:"how many"`
		} `cmd:"" help:"print logs"`
	} `cmd:"" help:"talk to a running wrapper"`
	Exec struct {
		Args []string `arg:"" passthrough:""`
	} `cmd:"" help:"run a command"`
}

func TestFlagsBehindASubcommandBelongToIt(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"", ""},
		{"-config x", "--config=x"},
		{"-config x validate -strict", "--config=x validate --strict"},
		{"validate -config x", "validate --config=x"},
		{"-config validate", "--config=validate"},
		{"ctl -socket s logs web -f", "ctl --socket=s logs web --follow"},
		{"ctl logs -n 5 web -socket s -follow", "ctl logs --lines=5 web --socket=s --follow"},
		{"ctl logs -- -f", "ctl logs -- -f"},
		{"exec ls -config x", "exec ls -config x"},
	} {
		t.Run(test.line, func(t *testing.T) {
			var grammar withCommands
			parser := kong.Must(&grammar, kong.NoDefaultHelp())
			got, err := normalize(parser.Model, split(test.line))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(split(test.want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatPassesThroughBeginsBehindTheOtherPositionals(t *testing.T) {
	var flags struct {
		Under struct {
			TTL  string   `name:"ttl"`
			Key  string   `arg:""`
			Args []string `arg:"" passthrough:""`
		} `cmd:""`
	}
	parser, err := kong.New(&flags)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ line, want string }{
		{"under -ttl 1s web -- sh -c x", "under --ttl=1s web -- sh -c x"},
		{"under -ttl 1s web sh -c x", "under --ttl=1s web sh -c x"},
		{"under web -- sh -ttl x", "under web -- sh -ttl x"},
	} {
		got, err := normalize(parser.Model, strings.Fields(test.line))
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%s: %v %v, want %s", test.line, got, err, test.want)
		}
	}
}
