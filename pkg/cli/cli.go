// Package cli is what the mains of this module share: one entry point with one meaning of exit
// codes, the command line, the environment, -h, -version, the logger and the signal context.
//
// The grammar is a kong struct, the dialect is Go's: every long option works with one or two
// dashes, and "-wait false" is a switch followed by an argument. See [Program].
//
// Exit codes: 0 when Run returns nil, 2 for a wrong command line or config ([Usagef]), the code
// of an [ExitError], and 1 for every other error.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/alecthomas/kong"

	"github.com/process-wrapper/process-wrapper/pkg/output"
)

// Program describes one command.
type Program struct {
	Name  string
	About string // one sentence for -h

	// Flags is a pointer to a kong struct; nil means that there are no flags. -h, -debug and
	// -version are added to it. A flag with an `env:"X"` tag takes its value from X when it is not
	// on the command line; X="" counts as unset.
	//
	// A program with subcommands that does something without one has a hidden default command:
	//
	//	Run struct{} `cmd:"" default:"withargs" hidden:""`
	//
	// The tag `uses:"name,name"` of a command says which flags of the program its -h shows.
	Flags any

	// Env lists the variables that have no flag: they are read before Run and shown by -h.
	Env []EnvVar

	// Run does the work. It gets a context without a signal handler: see [SignalContext].
	Run func(ctx context.Context, call *Call) error

	// OnError, if set, sees the error that ends the program, before it is printed.
	OnError func(error)
}

// Call is one parsed command line.
type Call struct {
	Command string // path of the subcommand, such as "ctl status"; "" without subcommands
	Debug   bool
	Log     *slog.Logger // logfmt to Stderr, at debug level with -debug
	Stdout  io.Writer
	Stderr  io.Writer

	// Complete returns what may stand in the place of the last of words, for a shell: commands and
	// flags. argument says that it may be an argument of a command too, whose path is command.
	Complete func(words []string) (candidates []string, command string, argument bool)

	given map[string]bool
}

// Given tells if the flag has its value from the command line or its environment variable, and
// not from its default.
func (c *Call) Given(flag string) bool { return c.given[flag] }

// Main runs p with the arguments, streams and environment of this process, and exits.
func Main(p Program) {
	os.Exit(p.Exec(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// Exec runs p and returns its exit code.
func (p Program) Exec(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	call := &Call{Stdout: stdout, Stderr: stderr, given: map[string]bool{}}
	err := p.parse(call, args)
	switch {
	case errors.Is(err, errDone):
		return 0
	case err == nil:
		call.Log = newLogger(stderr, call.Debug)
		err = p.Run(ctx, call)
	}
	code, silent := exitCode(err)
	if err == nil || silent {
		return code
	}
	if p.OnError != nil {
		p.OnError(err)
	}
	p.report(call, code, err)
	return code
}

// report prints err for the one who has to act on it: a person who typed something wrong, or
// whoever reads the logs.
func (p Program) report(call *Call, code int, err error) {
	if code == codeUsage || call.Log == nil {
		_, _ = fmt.Fprintf(call.Stderr, "%s: %v\n", p.Name, err)
		return
	}
	call.Log.Error("ended with an error", "err", err, "code", code)
}

func newLogger(w io.Writer, debug bool) *slog.Logger {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	return slog.New(output.NewHandler(w, level))
}

// builtin are the flags that every program has.
type builtin struct {
	Debug   bool        `help:"log at debug level"`
	Version versionFlag `help:"print version, commit and Go version"`
	Help    helpFlag    `short:"h" help:"print this help"`
}

type (
	helpFlag    bool
	versionFlag bool
)

// IgnoreDefault keeps kong from choosing the default command, so that the help is the program's.
func (helpFlag) IgnoreDefault() {}

// parse fills p.Flags, p.Env and call. It returns errDone when -h or -version was all there was.
func (p Program) parse(call *Call, args []string) error {
	flags := p.Flags
	if flags == nil {
		flags = &struct{}{}
	}
	var own builtin
	parser, err := kong.New(flags, kong.Name(p.Name), kong.NoDefaultHelp(), kong.Embed(&own),
		kong.Writers(call.Stdout, call.Stderr), fromEnv(os.LookupEnv), verbatim(), durations())
	if err != nil {
		return fmt.Errorf("build command line: %w", err)
	}
	forgetEnv(parser.Model.Node)
	args, err = normalize(parser.Model, args)
	if err != nil {
		return p.usage(err)
	}
	parsed, err := trace(parser, args)
	switch {
	case errors.Is(err, errVersion):
		return p.done(fmt.Fprintln(call.Stdout, p.Name, ReadBuild()))
	case errors.Is(err, errHelp):
		return p.done(io.WriteString(call.Stdout, p.help(selected(parsed))))
	case err != nil:
		return p.usage(err)
	}
	for _, step := range parsed.Path {
		if step.Flag != nil {
			call.given[step.Flag.Name] = true
		}
	}
	call.Complete = func(words []string) ([]string, string, bool) { return complete(parser.Model, words) }
	call.Debug = own.Debug
	call.Command = commandPath(parsed.Selected())
	p.readEnv(os.LookupEnv)
	return nil
}

func (p Program) usage(err error) error {
	return Usagef("%w\nsee %s -h", err, p.Name)
}

func (Program) done(_ int, err error) error {
	if err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return errDone
}

// selected is the command whose help was asked for.
func selected(parsed *kong.Context) *kong.Node {
	if node := parsed.Selected(); node != nil && !node.Hidden {
		return node
	}
	return parsed.Model.Node
}

func commandPath(node *kong.Node) string {
	if node == nil {
		return ""
	}
	path := node.Name
	for up := node.Parent; up != nil && up.Type == kong.CommandNode; up = up.Parent {
		path = up.Name + " " + path
	}
	return path
}
