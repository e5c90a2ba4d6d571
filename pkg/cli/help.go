package cli

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

const (
	helpWidth  = 100
	helpIndent = 26
)

// help renders what -h prints for the program or one of its commands.
func (p Program) help(node *kong.Node) string {
	var b strings.Builder
	root := node.Parent == nil
	usage := p.Name
	if path := commandPath(node); !root {
		usage += " " + path
	}
	for _, arg := range node.Positional {
		usage += " " + argument(arg)
	}
	commands := visible(node.Children)
	switch {
	case len(commands) == 0:
	case node.DefaultCmd != nil:
		usage += " [command]"
	default:
		usage += " command"
	}
	fmt.Fprintf(&b, "Usage: %s [flags]\n", usage)
	about := node.Help
	if root {
		about = p.About
	}
	if about != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.Join(wrap(about, helpWidth), "\n"))
	}
	section(&b, "Commands", commandRows(commands))
	section(&b, "Flags, with one or two dashes", flagRows(node))
	if root {
		section(&b, "Environment", p.envRows(node))
	}
	return b.String()
}

type row struct{ name, text string }

func section(b *strings.Builder, title string, rows []row) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for _, r := range rows {
		lines := wrap(r.text, helpWidth-helpIndent)
		if len(r.name)+4 > helpIndent {
			fmt.Fprintf(b, "  %s\n", r.name)
			r.name = ""
		}
		for _, line := range lines {
			fmt.Fprintln(b, strings.TrimRight(fmt.Sprintf("  %-*s%s", helpIndent-2, r.name, line), " "))
			r.name = ""
		}
	}
}

func commandRows(commands []*kong.Node) []row {
	var rows []row
	for _, command := range commands {
		if nested := visible(command.Children); len(nested) > 0 {
			rows = append(rows, commandRows(nested)...)
			continue
		}
		name := commandPath(command)
		for _, arg := range command.Positional {
			name += " " + argument(arg)
		}
		rows = append(rows, row{name, command.Help})
	}
	return rows
}

func visible(nodes []*kong.Node) []*kong.Node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *kong.Node) bool {
		return n.Hidden || n.Type != kong.CommandNode
	})
}

// flagRows lists the flags that work at node: its own first, then those of what is above.
func flagRows(node *kong.Node) []row {
	var rows []row
	for _, flag := range flagList(node) {
		name := "-" + flag.Name
		if flag.Short != 0 {
			name = "-" + string(flag.Short) + ", " + name
		}
		if !flag.IsBool() && !flag.IsCounter() {
			name += " " + placeholder(flag)
		}
		text := flag.Help
		if flag.HasDefault && flag.Default != "" && (!flag.IsBool() || flag.Default != "false") {
			text += " (default " + flag.Default + ")"
		}
		if len(flag.Envs) > 0 {
			text += " (env " + strings.Join(flag.Envs, ", ") + ")"
		}
		rows = append(rows, row{name, text})
	}
	return rows
}

// flagList returns the flags that are worth showing for a node: its own, and of those above it what
// the tag `uses:"name,name"` of a command says, or all.
func flagList(node *kong.Node) []*kong.Flag {
	var flags []*kong.Flag
	if def := defaultCommand(node); def != nil {
		node = def
	}
	var uses []string
	limited := false
	for ; node != nil; node = node.Parent {
		for _, f := range node.Flags {
			if !limited || node.Parent != nil || isBuiltin(f) || slices.Contains(uses, f.Name) {
				flags = append(flags, f)
			}
		}
		if node.Tag != nil && node.Tag.Has("uses") {
			uses, limited = strings.Split(node.Tag.Get("uses"), ","), true
		}
	}
	return slices.DeleteFunc(flags, func(f *kong.Flag) bool { return f.Hidden })
}

// isBuiltin says whether every program has the flag.
func isBuiltin(f *kong.Flag) bool {
	return slices.Contains([]string{"debug", "version", "help"}, f.Name)
}

// envRows lists every variable: those without a flag, and those that stand for one.
func (p Program) envRows(root *kong.Node) []row {
	var rows []row
	for _, v := range p.Env {
		text := v.Help
		if v.Default != "" {
			text += " (default " + v.Default + ")"
		}
		rows = append(rows, row{v.Name, text})
	}
	for _, flag := range flagList(root) {
		for _, name := range flag.Envs {
			rows = append(rows, row{name, "as -" + flag.Name})
		}
	}
	return rows
}

func argument(arg *kong.Positional) string {
	name := strings.ToUpper(arg.Name)
	if arg.IsCumulative() {
		name += "..."
	}
	if !arg.Required {
		name = "[" + name + "]"
	}
	return name
}

// placeholder is the word for a flag's value: its placeholder tag, else its type.
func placeholder(flag *kong.Flag) string {
	switch {
	case flag.PlaceHolder != "":
		return flag.PlaceHolder
	case flag.Target.Type() == reflect.TypeFor[time.Duration]():
		return "duration"
	case flag.IsSlice():
		return "list"
	default:
		return flag.Target.Kind().String()
	}
}

// wrap breaks text at spaces into lines of at most width bytes; it never returns no line.
func wrap(text string, width int) []string {
	lines := []string{""}
	for _, word := range strings.Fields(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case len(*last)+1+len(word) <= width:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}
