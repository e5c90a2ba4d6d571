package spec

import (
	"reflect"
	"syscall"

	"gopkg.in/yaml.v3"
)

type sig = syscall.Signal

var backoffKeys = object{
	name: "backoff", doc: "Exponential back-off.",
	fields: []field{
		{key: "initial", doc: "First pause.", kind: duration, low: milli, def: "1s"},
		{key: "max", doc: "Longest pause.", kind: duration, low: milli, def: "1m"},
		{key: "factor", doc: "Each pause is so many times the one before.", kind: number, low: 1, high: 100, def: "2"},
		{key: "jitter", doc: "Share by which a pause varies, so that replicas do not restart in step.", kind: share, def: "10%"},
		{key: "resetAfter", doc: "A longer run starts over at initial; the first restart after it comes at once.", kind: duration, low: milli, def: "10m"},
	},
	check: checkBackoff,
}

func checkBackoff(d *decoder, a *at, v any) {
	if b := v.(*Backoff); b.Initial > b.Max {
		d.errorf(a.first("initial", "max"), "", "initial %s is above max %s", showDuration(b.Initial), showDuration(b.Max))
	}
}

var maxRestartsKeys = object{
	name: "maxRestarts", doc: "Bound of restarts.",
	fields: []field{
		{key: "count", doc: "So many restarts are allowed.", kind: integer, low: 1, high: often, needed: true},
		{key: "within", doc: "In this time; ever by default.", kind: duration, low: milli},
	},
}

var logKeys = object{
	name: "log", doc: "Bounds of output.",
	fields: []field{
		{key: "maxLineBytes", doc: "Longer lines are split and marked.", kind: size, low: 64, def: "256KiB"},
		{key: "rate", doc: "Bounds per second; none by default.", kind: block, in: &rateKeys},
	},
	check: checkLog,
}

var rateKeys = object{
	name: "rate", doc: "Bounds per second; what is beyond is dropped and counted.",
	fields: []field{
		{key: "lines", doc: "Lines per second.", kind: size, low: 1},
		{key: "bytes", doc: "Bytes per second.", kind: size, low: 1},
	},
}

func checkLog(d *decoder, a *at, v any) {
	if v.(*Log).MaxLineBytes > 64<<20 {
		d.errorf(a.first("maxLineBytes"), "", "is more than 64MiB, which is memory per process and stream")
	}
}

var (
	ownCommand = &kind{name: "map", read: readOwnCommand}
	ownExec    = &kind{name: "map", read: readOwnExec}
)

// rawExec is a command as postStart and readiness.exec write it.
type rawExec struct {
	Entrypoint string
	Args       []string
	Envs       []EnvVar
}

var rawExecKeys = object{
	name: "command", doc: "A command.",
	fields: []field{
		{key: "entrypoint", doc: "Program to run: a path, or a name that is looked up in PATH.", kind: filled, what: "program", needed: true},
		{key: "args", doc: "Arguments.", kind: list, of: text},
		{key: "envs", doc: "Variables, added to the process's.", kind: envMap},
	},
}

// readOwnCommand reads {entrypoint, args, envs} into an Exec.
func readOwnCommand(d *decoder, a *at, f *field, to reflect.Value) bool {
	var r rawExec
	if !d.readMap(a, f.in, reflect.ValueOf(&r).Elem()) {
		return false
	}
	to.Set(reflect.ValueOf(Exec{Command: append([]string{r.Entrypoint}, r.Args...), Expand: ExpandKnown, Envs: r.Envs}))
	return true
}

type rawCheck struct{ Command *Exec }

var rawCheckKeys = object{
	name: "exec", doc: "A command.",
	fields: []field{{key: "command", doc: "Exits 0.", kind: ownCommand, in: &rawExecKeys, needed: true}},
}

// readOwnExec reads {command} into an Exec.
func readOwnExec(d *decoder, a *at, f *field, to reflect.Value) bool {
	var c rawCheck
	if !d.readMap(a, f.in, reflect.ValueOf(&c).Elem()) || c.Command == nil {
		return false
	}
	to.Set(reflect.ValueOf(c.Command).Elem())
	return true
}

var postStartKeys = object{
	name: "postStart", doc: "A hook. When it fails the process is restarted.",
	fields: []field{
		{key: "command", doc: "Command to run.", kind: ownCommand, in: &rawExecKeys},
		{key: "sql", doc: "Queries to run, with MYSQL_DSN or POSTGRES_DSN.", kind: block, in: &hookSQLKeys, to: "SQL"},
		{key: "envs", doc: "Variables for the hook, added to the process's.", kind: envMap},
		{key: "deadline", doc: "The hook has failed after that.", kind: duration, low: milli, def: "30s"},
	},
	check: checkPostStart,
}

var hookSQLKeys = object{
	name: "postStart.sql", doc: "Queries to run.",
	fields: []field{
		{key: "queries", doc: "Queries, in order.", kind: list, of: filled, what: "query", some: true, needed: true},
		driverKey, dsnKey,
	},
}

func checkPostStart(d *decoder, a *at, v any) {
	if p := v.(*PostStart); p.Command == nil && p.SQL == nil {
		d.errorf(a, "", "does nothing: wants command or sql")
	}
}

// dependency is an element of dependsOn, and where.
type dependency struct {
	Dependency
	at *at
}

// dependsOn is an element of [name] or [{name, condition}].
var dependsOn = &kind{name: "name", read: readDependency}

var dependencyKeys = object{
	name: "dependency", doc: "A process that must be there first.",
	fields: []field{
		{key: "name", doc: "Name of the process; the base name of replicas means all of them.", kind: filled, what: "name", needed: true},
		{key: "condition", doc: "What it must have come to.", kind: oneOf, names: []string{string(DependsReady), string(DependsStarted), string(DependsCompleted)}, def: string(DependsReady)},
	},
}

func readDependency(d *decoder, a *at, f *field, to reflect.Value) bool {
	dep := to.Addr().Interface().(*dependency)
	inner := reflect.ValueOf(&dep.Dependency).Elem()
	if a.node.Kind != yaml.ScalarNode {
		ok := d.readMap(a, f.in, inner)
		dep.at = a.first("name")
		return ok && dep.Name != ""
	}
	inner.Set(d.shape(f.in, inner.Type()).fresh)
	dep.at = a
	return readFilled(d, a, &field{what: "name"}, inner.FieldByName("Name"))
}
