package cli

import (
	"context"
	"strings"
	"testing"
)

// checked uses all that [trace] checks in place of kong.
type checked struct {
	Color string `enum:"red,green" default:"red"`
	Key   struct {
		Token string `required:""`
		Name  string `arg:"" enum:"a,b"`
	} `cmd:""`
	Copy struct {
		From string `arg:""`
		To   string `arg:"" optional:""`
		Hue  string `enum:",red" default:""`
	} `cmd:""`
}

func TestWhatIsMissingOrNoneOfTheWordsIsAnError(t *testing.T) {
	for _, test := range []struct{ name, line, stderr string }{
		{"all is there", "key -token t a", ""},
		{"an argument that may be left out", "copy x", ""},
		{"an empty word that is one of them", "copy x -hue=", ""},
		{"no command", "", "tool: expected one of key, copy\nsee tool -h\n"},
		{"no command, after a flag", "-color green", "tool: expected one of key, copy\nsee tool -h\n"},
		{"a flag is missing", "key a", "tool: missing flags: -token\nsee tool -h\n"},
		{"an argument is missing", "copy", "tool: expected \"<from>\"\nsee tool -h\n"},
		{"a flag with another word", "-color blue copy x", "tool: --color must be one of red, green, is \"blue\"\nsee tool -h\n"},
		{"a flag of a command with another word", "copy x -hue blue", "tool: --hue must be one of , red, is \"blue\"\nsee tool -h\n"},
		{"an argument with another word", "key -token t c", "tool: <name> must be one of a, b, is \"c\"\nsee tool -h\n"},
		{"one argument too many", "copy x y z", "tool: unexpected argument z\nsee tool -h\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := result{stderr: test.stderr}
			if test.stderr != "" {
				want.code = 2
			}
			p := Program{Name: "tool", Flags: &checked{}, Run: nothing}
			if got := execute(p, test.line); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestHelpAndVersionGoBeforeWhatIsWrong(t *testing.T) {
	for _, line := range []string{"-version", "-version -color blue", "key -version", "-h -version", "copy -h"} {
		p := Program{Name: "tool", Flags: &checked{}, Run: nothing}
		if got := execute(p, line); got.code != 0 || got.stdout == "" || got.stderr != "" {
			t.Errorf("%q: got %+v, want a text on stdout", line, got)
		}
	}
}

func nothing(context.Context, *Call) error { return nil }

func TestHelpOfACommandShowsTheFlagsThatItUses(t *testing.T) {
	var flags struct {
		Socket string `help:"where"`
		Other  string `help:"what"`
		Ctl    struct {
			List struct {
				Long bool `help:"more"`
			} `cmd:""`
		} `cmd:"" uses:"socket"`
	}
	for line, want := range map[string][2]string{"ctl list -h": {"-long -socket -debug", "-other"}, "-h": {"-socket -other", "-long"}} {
		got := execute(Program{Name: "tool", Flags: &flags, Run: nothing}, line).stdout
		for flag := range strings.FieldsSeq(want[0]) {
			if !strings.Contains(got, flag) {
				t.Errorf("%s lacks %s:\n%s", line, flag, got)
			}
		}
		if strings.Contains(got, want[1]) {
			t.Errorf("%s has %s:\n%s", line, want[1], got)
		}
	}
}
