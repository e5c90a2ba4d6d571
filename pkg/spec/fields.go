package spec

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gopkg.in/yaml.v3"
)

type sig = syscall.Signal

const sigTerm = syscall.SIGTERM

func backoffObject() *object[Backoff] {
	return &object[Backoff]{
		name: "backoff", doc: "Exponential back-off.",
		fields: []field[Backoff]{
			keyOr("initial", "First pause.", duration(time.Millisecond), time.Second, func(b *Backoff) *time.Duration { return &b.Initial }),
			keyOr("max", "Longest pause.", duration(time.Millisecond), time.Minute, func(b *Backoff) *time.Duration { return &b.Max }),
			keyOr("factor", "Each pause is so many times the one before.", number(1, 100), 2, func(b *Backoff) *float64 { return &b.Factor }),
			keyOr("jitter", "Share by which a pause varies, so that replicas do not restart in step.", jitter(), 0.1, func(b *Backoff) *float64 { return &b.Jitter }),
			keyOr("resetAfter", "A longer run starts over at initial; the first restart after it comes at once.", duration(time.Millisecond), 10*time.Minute, func(b *Backoff) *time.Duration { return &b.ResetAfter }),
		},
		check: func(d *decoder, a *at, b *Backoff) {
			if b.Initial > b.Max {
				d.errorf(a.first("initial", "max"), "", "initial %s is above max %s", showDuration(b.Initial), showDuration(b.Max))
			}
		},
	}
}

// jitter is a share: 0.1 or "10%".
func jitter() kind[float64] {
	f := form{"type": []string{"number", "string"}, "minimum": 0, "maximum": 1, "pattern": `^[0-9.]+ ?%?$`}
	show := func(v float64) any { return strconv.FormatFloat(v*100, 'g', -1, 64) + "%" }
	return kind[float64]{name: "share", form: formOf(f), show: show, read: func(d *decoder, a *at) (float64, bool) {
		s, ok := d.scalar(a, `a share like "10%"`)
		if !ok {
			return 0, false
		}
		digits, percent := strings.CutSuffix(s, "%")
		v, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if percent {
			v /= 100
		}
		if err == nil && v >= 0 && v <= 1 {
			return v, true
		}
		hint := `write "10%" or 0.1`
		if err == nil && !percent && v > 1 && v <= 100 {
			hint = fmt.Sprintf("write %q", s+"%")
		}
		d.errorf(a, hint, "wants a share from 0 to 1, is %s", quote(s))
		return 0, false
	}}
}

func maxRestartsObject() *object[MaxRestarts] {
	return &object[MaxRestarts]{
		name: "maxRestarts", doc: "Bound of restarts.",
		fields: []field[MaxRestarts]{
			key("count", "So many restarts are allowed.", integer(1, 1_000_000), func(m *MaxRestarts) *int { return &m.Count }).require(),
			key("within", "In this time; ever by default.", duration(time.Millisecond), func(m *MaxRestarts) *time.Duration { return &m.Within }),
		},
	}
}

func logObject() *object[Log] {
	lines := func(r *Rate) *int64 { return &r.Lines }
	rate := &object[Rate]{name: "rate", doc: "Bounds per second; what is beyond is dropped and counted.", fields: []field[Rate]{
		key("lines", "Lines per second.", size(1), lines),
		key("bytes", "Bytes per second.", size(1), func(r *Rate) *int64 { return &r.Bytes }),
	}}
	return &object[Log]{
		name: "log", doc: "Bounds of output.",
		fields: []field[Log]{
			keyOr("maxLineBytes", "Longer lines are split and marked.", size(64), 256<<10, func(l *Log) *int64 { return &l.MaxLineBytes }),
			sub("rate", "Bounds per second; none by default.", rate, func(l *Log) *Rate { return &l.Rate }),
		},
		check: func(d *decoder, a *at, l *Log) {
			if l.MaxLineBytes > 64<<20 {
				d.errorf(a.first("maxLineBytes"), "", "is more than 64MiB, which is memory per process and stream")
			}
		},
	}
}

// rawExec is a command as postStart and readiness.exec write it.
type rawExec struct {
	entrypoint string
	args       []string
	envs       []EnvVar
}

// ownCommand is {entrypoint, args, envs}.
func ownCommand() kind[*Exec] {
	o := &object[rawExec]{name: "command", doc: "A command.", fields: []field[rawExec]{
		key("entrypoint", "Program to run: a path, or a name that is looked up in PATH.", filled("program"), func(r *rawExec) *string { return &r.entrypoint }).require(),
		key("args", "Arguments.", list(text()), func(r *rawExec) *[]string { return &r.args }),
		key("envs", "Variables, added to the process's.", envMap(), func(r *rawExec) *[]EnvVar { return &r.envs }),
	}}
	k := o.kind()
	return kind[*Exec]{name: "map", form: k.form, rows: k.rows, read: func(d *decoder, a *at) (*Exec, bool) {
		r, ok := k.read(d, a)
		if !ok {
			return nil, false
		}
		return &Exec{Command: append([]string{r.entrypoint}, r.args...), Expand: ExpandKnown, Envs: r.envs}, true
	}}
}

func postStartObject() *object[PostStart] {
	queries := func(s *SQLHook) *[]string { return &s.Queries }
	sql := &object[SQLHook]{name: "postStart.sql", doc: "Queries to run.", fields: []field[SQLHook]{
		key("queries", "Queries, in order.", some(filled("query")), queries).require(),
	}}
	return &object[PostStart]{
		name: "postStart", doc: "A hook. When it fails the process is restarted.",
		fields: []field[PostStart]{
			key("command", "Command to run.", ownCommand(), func(p *PostStart) **Exec { return &p.Command }),
			block("sql", "Queries to run, with MYSQL_DSN or POSTGRES_DSN.", sql, func(p *PostStart) **SQLHook { return &p.SQL }),
			key("envs", "Variables for the hook, added to the process's.", envMap(), func(p *PostStart) *[]EnvVar { return &p.Envs }),
			keyOr("deadline", "The hook has failed after that.", duration(time.Millisecond), 30*time.Second, func(p *PostStart) *time.Duration { return &p.Deadline }),
		},
		check: func(d *decoder, a *at, p *PostStart) {
			if p.Command == nil && p.SQL == nil {
				d.errorf(a, "", "does nothing: wants command or sql")
			}
		},
	}
}

// dependency is an element of dependsOn, and where.
type dependency struct {
	Dependency
	at *at
}

// dependencies is [name] or [{name, condition}].
func dependencies() kind[[]dependency] {
	o := &object[Dependency]{name: "dependency", doc: "A process that must be there first.", fields: []field[Dependency]{
		key("name", "Name of the process; the base name of replicas means all of them.", filled("name"), func(x *Dependency) *string { return &x.Name }).require(),
		keyOr("condition", "What it must have come to.", oneOf(DependsReady, DependsStarted, DependsCompleted), DependsReady, func(x *Dependency) *Condition { return &x.Condition }),
	}}
	one := kind[dependency]{
		name: "name", rows: o.rows,
		form: func(defs map[string]form) form { return form{"anyOf": []form{scalarForm(defs), o.ref(defs)}} },
		read: func(d *decoder, a *at) (dependency, bool) {
			dep := dependency{Dependency: o.fresh(), at: a}
			if a.node.Kind != yaml.ScalarNode {
				ok := o.read(d, a, &dep.Dependency)
				dep.at = a.first("name")
				return dep, ok && dep.Name != ""
			}
			name, ok := filled("name").read(d, a)
			dep.Name = name
			return dep, ok
		},
	}
	return list(one)
}
