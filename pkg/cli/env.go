package cli

import (
	"fmt"
	"reflect"

	"github.com/alecthomas/kong"
)

// EnvVar is an environment variable without a flag. Set to "" it counts as unset.
type EnvVar struct {
	Name    string
	Default string
	Help    string
	Value   *string // gets the value or Default; nil when the program reads it elsewhere
}

type lookup func(name string) (string, bool)

func (p Program) readEnv(env lookup) {
	for _, v := range p.Env {
		if v.Value == nil {
			continue
		}
		*v.Value = v.Default
		if value, _ := env(v.Name); value != "" {
			*v.Value = value
		}
	}
}

// fromEnv resolves a flag from its environment variables. It replaces kong's own reading of them
// ([forgetEnv]), for which a variable that is set to "" wins over the default.
func fromEnv(env lookup) kong.Option {
	resolve := func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		for _, name := range flag.Envs {
			value, _ := env(name)
			if value == "" {
				continue
			}
			if err := try(flag, value); err != nil {
				return nil, fmt.Errorf("environment variable %s: %w", name, err)
			}
			return value, nil
		}
		return nil, nil
	}
	return kong.Resolvers(kong.ResolverFunc(resolve))
}

// try parses value as kong will, because kong's own error does not say where the value is from.
func try(flag *kong.Flag, value string) error {
	scan := kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: value})
	target := reflect.New(flag.Target.Type()).Elem()
	return flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, target)
}

// forgetEnv keeps kong from reading variables; Flag.Envs still has their names.
func forgetEnv(node *kong.Node) {
	for _, flag := range node.Flags {
		flag.Tag.Envs = nil
	}
	for _, child := range node.Children {
		forgetEnv(child)
	}
}
