package cli

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// normalize rewrites args from the dialect of Go's flag package into kong's: "-name value",
// "--name value" and "-name=value" become "--name=value", and a switch loses or spells out its
// value. kong alone reads "-config x" as the short options -c -o -n and so on.
//
// "--" ends it. A positional that names a command selects that command's flags for what follows;
// flags may also stand behind other positionals ("ctl logs web -f"), unless the command passes
// its arguments through. What is not known stays, with two dashes, for kong to name.
func normalize(model *kong.Application, args []string) ([]string, error) {
	node := model.Node
	flags := flagsOf(node)
	out := make([]string, 0, len(args))
	positionals := 0 // of node
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" || passesThrough(node, arg, positionals) {
			return append(out, args[i:]...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			out = append(out, arg)
			next, err := descend(node, arg)
			if err != nil {
				return nil, err
			}
			if positionals++; next != node {
				positionals = 0
			}
			node = next
			flags = flagsOf(node)
			continue
		}
		var next *string
		if i+1 < len(args) {
			next = &args[i+1]
		}
		normal, tookNext, err := normalizeFlag(flags, arg, next)
		if err != nil {
			return nil, err
		}
		out = append(out, normal)
		if tookNext {
			i++
		}
	}
	return out, nil
}

// normalizeFlag rewrites one option, whose value may be the next argument.
func normalizeFlag(flags map[string]*kong.Flag, arg string, next *string) (normal string, tookNext bool, err error) {
	name, value, hasValue := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
	if name == "" || name[0] == '-' {
		return "", false, fmt.Errorf("bad flag syntax: %s", arg)
	}
	flag, known := flags[name]
	switch {
	case !known:
		return "", false, unknownFlag(name, flags)
	case flag.IsCounter(), flag.IsBool() && !hasValue:
		return "--" + flag.Name, false, nil
	case flag.IsBool():
		on, err := strconv.ParseBool(value)
		if err != nil {
			return "", false, fmt.Errorf("-%s: %q is not a boolean: use true or false", name, value)
		}
		return "--" + flag.Name + "=" + strconv.FormatBool(on), false, nil
	case hasValue:
		return "--" + flag.Name + "=" + value, false, nil
	case next == nil:
		return "", false, fmt.Errorf("-%s needs a value: -%s %s", name, name, placeholder(flag))
	default:
		return "--" + flag.Name + "=" + *next, true, nil
	}
}

// unknownFlag names the flag that may have been meant.
func unknownFlag(name string, flags map[string]*kong.Flag) error {
	best, least := "", 3 // more edits are another word
	for _, known := range slices.Sorted(maps.Keys(flags)) {
		if n := edits(name, known); n < least && n < len(known) {
			best, least = known, n
		}
	}
	if best == "" {
		return fmt.Errorf("unknown flag -%s", name)
	}
	return fmt.Errorf("unknown flag -%s: did you mean -%s?", name, best)
}

// edits returns how many bytes must be put in, left out or changed to make b
// of a.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// durations says how a duration is written where one is not.
func durations() kong.Option {
	decode := func(ctx *kong.DecodeContext, target reflect.Value) error {
		token, err := ctx.Scan.PopValue("duration")
		if err != nil {
			return err
		}
		text := token.String()
		d, err := time.ParseDuration(text)
		if err != nil {
			hint := "write 1m30s for a minute and a half"
			if _, err := strconv.Atoi(text); err == nil {
				hint = "write " + text + "s for seconds"
			}
			return fmt.Errorf("%q is no duration: %s", text, hint)
		}
		target.SetInt(int64(d))
		return nil
	}
	return kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(decode))
}

// verbatim decodes strings as they stand; kong's own mapper replaces bytes that are not UTF-8,
// and file names may have them.
func verbatim() kong.Option {
	decode := func(ctx *kong.DecodeContext, target reflect.Value) error {
		token, err := ctx.Scan.PopValue("string")
		if err != nil {
			return err
		}
		target.SetString(token.String())
		return nil
	}
	return kong.KindMapper(reflect.String, kong.MapperFunc(decode))
}

// flagsOf returns the flags that kong accepts at node, by name, alias and letter: those of the
// node, of its ancestors and of its default command.
func flagsOf(node *kong.Node) map[string]*kong.Flag {
	flags := map[string]*kong.Flag{}
	if def := defaultCommand(node); def != nil {
		node = def
	}
	for ; node != nil; node = node.Parent {
		for _, flag := range node.Flags {
			for _, name := range append([]string{flag.Name}, flag.Aliases...) {
				flags[name] = flag
			}
			if flag.Short != 0 {
				flags[string(flag.Short)] = flag
			}
		}
	}
	return flags
}

// descend returns the node that a positional argument leads to: a command, or where it is an
// argument. Of an argument that is neither, kong does not say which commands there are.
func descend(node *kong.Node, arg string) (*kong.Node, error) {
	var known []string
	for _, child := range node.Children {
		if child.Type != kong.CommandNode {
			continue
		}
		if child.Name == arg || slices.Contains(child.Aliases, arg) {
			return child, nil
		}
		if !child.Hidden {
			known = append(known, child.Name)
		}
	}
	if def := defaultCommand(node); def != nil {
		node = def
	}
	if len(known) > 0 && len(node.Positional) == 0 {
		return nil, fmt.Errorf("%q is not a command: use %s", arg, strings.Join(known, ", "))
	}
	return node, nil
}

func defaultCommand(node *kong.Node) *kong.Node {
	if node.DefaultCmd != nil && node.DefaultCmd.Tag.Default == "withargs" {
		return node.DefaultCmd
	}
	return nil
}

// passesThrough says whether arg, behind so many positionals of its command, and all that follows is
// for another program: at once, or, by `passthrough:"partial"`, from the first argument that is no flag.
func passesThrough(node *kong.Node, arg string, positionals int) bool {
	if node.Passthrough {
		return true
	}
	for i, p := range node.Positional {
		switch p.PassthroughMode {
		case kong.PassThroughModeAll:
			return positionals >= i
		case kong.PassThroughModePartial:
			return positionals >= i && (len(arg) < 2 || arg[0] != '-')
		}
	}
	return false
}
