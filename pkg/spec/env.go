package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// maxEnvFile bounds a file of variables.
const maxEnvFile = 1 << 20

// environ is an environment that is being put together: later values win, and
// keep the place of the first. As long as nothing is asked or set it is the base.
type environ struct {
	base  []string
	vars  []string // NAME=value; values are final
	index map[string]int
}

func newEnviron(base []string) *environ { return &environ{base: base} }

// open makes an index of the base.
func (e *environ) open() {
	if e.index != nil {
		return
	}
	e.vars, e.index = make([]string, 0, len(e.base)+16), make(map[string]int, len(e.base)+16)
	for _, kv := range e.base {
		if name, _, ok := strings.Cut(kv, "="); ok && name != "" {
			e.put(name, kv)
		}
	}
}

func (e *environ) put(name, kv string) {
	if i, ok := e.index[name]; ok {
		e.vars[i] = kv
		return
	}
	e.index[name] = len(e.vars)
	e.vars = append(e.vars, kv)
}

func (e *environ) set(name, value string) {
	e.open()
	e.put(name, name+"="+value)
}

func (e *environ) lookup(name string) (string, bool) {
	e.open()
	i, ok := e.index[name]
	if !ok {
		return "", false
	}
	return e.vars[i][len(name)+1:], true
}

func (e *environ) addAll(vars []EnvVar) {
	for _, v := range vars {
		e.set(v.Name, expandText(v.Value, v.Expand, e.lookup))
	}
}

func (e *environ) list() []string {
	if e.index == nil {
		return slices.Clip(e.base)
	}
	return e.vars
}

// CleanEnv returns env with one entry for each variable, its last, and without
// what is no variable.
func CleanEnv(env []string) []string {
	e := newEnviron(env)
	e.open()
	return e.list()
}

// Environ returns the environment of p as NAME=value: wrapper's, then envFrom,
// envs, env and envsFile; later wins. A value may refer to what stands before
// it as $(NAME). A fieldRef that the wrapper's environment cannot answer
// leaves its variable as it is. The wrapper's environment must be clean, see
// [CleanEnv]. read reads a file of variables, bounded; nil
// reads from disk. A file that cannot be read or parsed is an error, which
// never shows a value.
func (p *Process) Environ(wrapper []string, read func(path string) ([]byte, error)) ([]string, error) {
	if read == nil {
		read = func(path string) ([]byte, error) { return readFile(path, maxEnvFile) }
	}
	e := newEnviron(wrapper)
	for _, f := range p.Env.Files {
		vars, err := envFile(f.Path, read)
		if f.Optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("envFrom %q: %w", f.Path, err)
		}
		for _, v := range vars {
			e.set(f.Prefix+v.Name, v.Value)
		}
	}
	e.addAll(p.Env.Envs)
	own := newEnviron(wrapper)
	for _, v := range p.Env.Vars {
		if v.Field == "" {
			e.addAll([]EnvVar{v})
		} else if value, ok := own.field(v.Field); ok {
			e.set(v.Name, value)
		}
	}
	if p.Env.File != "" {
		vars, err := envFile(p.Env.File, read)
		if err != nil {
			return nil, fmt.Errorf("envsFile %q: %w", p.Env.File, err)
		}
		e.addAll(vars)
	}
	return e.list(), nil
}

// field resolves a field of the pod from the wrapper's environment.
func (e *environ) field(name string) (string, bool) {
	var from []string
	switch name {
	case "metadata.name":
		from = []string{"POD_NAME", "HOSTNAME"}
	case "metadata.namespace":
		from = []string{"POD_NAMESPACE"}
	case "spec.nodeName":
		from = []string{"NODE_NAME"}
	}
	for _, n := range from {
		if v, ok := e.lookup(n); ok && v != "" {
			return v, true
		}
	}
	return "", false
}

func envFile(path string, read func(string) ([]byte, error)) ([]EnvVar, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	return ParseEnvFile(data)
}

// AddEnv returns env with vars: of a check or hook, whose environment is the
// process's with its own envs on top.
func AddEnv(env []string, vars []EnvVar) []string {
	e := newEnviron(env)
	e.addAll(vars)
	return e.list()
}

// Expand replaces $(NAME) in text by what lookup knows, and leaves all else as
// it is.
func Expand(text string, lookup func(name string) (string, bool)) string {
	return expandText(text, ExpandKnown, lookup)
}

// Argv returns the command with $(NAME) expanded from env.
func (x *Exec) Argv(env []string) []string {
	if x.Expand == ExpandNone || !slices.ContainsFunc(x.Command, func(arg string) bool { return strings.Contains(arg, "$") }) {
		return x.Command
	}
	e := newEnviron(env)
	argv := make([]string, len(x.Command))
	for i, arg := range x.Command {
		argv[i] = expandText(arg, x.Expand, e.lookup)
	}
	return argv
}

// expandText replaces $(NAME) of known names; unknown ones stay as they are.
// By Kubernetes' rules $$ is an escaped $ everywhere; by ours only in $$(NAME),
// so that what is written for a shell stays as it is.
func expandText(s string, how Expansion, lookup func(string) (string, bool)) string {
	if how == ExpandNone || !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		text, n := dollar(s[i:], how, lookup)
		b.WriteString(text)
		s = s[i+n:]
	}
}

// dollar returns what the start of s, a $, stands for and how long it is.
func dollar(s string, how Expansion, lookup func(string) (string, bool)) (string, int) {
	if strings.HasPrefix(s, "$$") {
		if how == ExpandKubernetes {
			return "$", 2
		}
		if n := reference(s[1:]); n > 0 {
			return s[1 : 1+n], 1 + n
		}
		return "$", 1
	}
	n := reference(s)
	if n == 0 {
		return "$", 1
	}
	if value, ok := lookup(s[2 : n-1]); ok {
		return value, n
	}
	return s[:n], n
}

// reference returns the length of the $(NAME) that s starts with, or 0.
func reference(s string) int {
	const most = 1024 // of a name: bounds the cost of many that are not closed
	if !strings.HasPrefix(s, "$(") {
		return 0
	}
	end := strings.IndexByte(s[:min(len(s), most)], ')')
	if end < 0 || !goodVar(s[2:end]) {
		return 0
	}
	return end + 1
}
