package cli

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// trace parses args into the fields of the model: kong's Parse, taken apart.
//
// kong calls hooks of flags and commands by names that it computes, in Parse and in Validate. A
// program that has such a call keeps every exported method of every type that it has, 2 MiB in
// process-wrapper. So neither is called here: -h and -version are looked for in the trace, and
// [missing] and [enums] check what our flags use. The hooks, Validate methods and the xor and
// and tags of kong do not work; pkg/internal/layers tests that nothing brings the call back.
func trace(parser *kong.Kong, args []string) (*kong.Context, error) {
	ctx, err := kong.Trace(parser, args)
	if err != nil {
		return nil, err
	}
	if err := asked(ctx); err != nil {
		return ctx, err
	}
	if ctx.Error != nil {
		return ctx, ctx.Error
	}
	if err := ctx.Reset(); err != nil {
		return ctx, err
	}
	if err := ctx.Resolve(); err != nil {
		return ctx, err
	}
	if _, err := ctx.Apply(); err != nil {
		return ctx, err
	}
	return ctx, errors.Join(enums(ctx), missing(ctx))
}

// asked finds the first flag that asks for something else than to run.
func asked(ctx *kong.Context) error {
	for _, step := range ctx.Path {
		if step.Flag == nil {
			continue
		}
		switch step.Flag.Target.Type() {
		case reflect.TypeFor[helpFlag]():
			return errHelp
		case reflect.TypeFor[versionFlag]():
			return errVersion
		}
	}
	return nil
}

// enums checks the flags and arguments on the way to the selected command that take one of some
// words.
func enums(ctx *kong.Context) error {
	for _, step := range ctx.Path {
		node := step.Node()
		if node == nil {
			continue
		}
		for _, value := range node.Values() {
			words := value.EnumSlice()
			if value.Enum == "" || slices.Contains(words, fmt.Sprint(value.Target.Interface())) {
				continue
			}
			return fmt.Errorf("%s must be one of %s, is %q", value.ShortSummary(), strings.Join(words, ", "), value.Target.Interface())
		}
	}
	return nil
}

// missing names what has to be there and is not: flags, arguments, or a command.
func missing(ctx *kong.Context) error {
	node := ctx.Selected()
	if node == nil {
		node = ctx.Model.Node
	}
	var names []string
	for up := node; up != nil; up = up.Parent {
		for _, flag := range up.Flags {
			if flag.Required && !flag.Set {
				names = append(names, "-"+flag.Name)
			}
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("missing flags: %s", strings.Join(names, ", "))
	}
	for _, arg := range node.Positional {
		if arg.Required && !arg.Set {
			names = append(names, "<"+arg.Name+">")
		}
	}
	for _, child := range visible(node.Children) {
		names = append(names, child.Name)
	}
	switch len(names) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("expected %q", names[0])
	}
	return fmt.Errorf("expected one of %s", strings.Join(names, ", "))
}
