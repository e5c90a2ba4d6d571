package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// kind is a type of value: how it is read and how an editor is told.
type kind[T any] struct {
	name string // for people: duration, list of strings
	form func(defs map[string]form) form
	read func(*decoder, *at) (T, bool)
	show func(T) any               // a default as one would write it; nil: as it is
	rows func(prefix string) []row // of a map: its own keys
}

// field is one key of a map of the config. The tables of fields are the only
// place that knows the keys: the decoder, the schema and the documentation are
// made from them.
type field[S any] struct {
	key, doc string
	typ      string
	form     func(defs map[string]form) form
	def      any  // default, as one would write it; nil: none
	needed   bool // must be there
	kube     bool // a name of Kubernetes: null means absent, as there
	ignored  bool // accepted, does nothing
	hidden   bool // known only to explain why it is refused
	preset   func(*S)
	read     func(*decoder, *at, *S)
	rows     func(prefix string) []row // of a map: its own keys
}

// object is a map with known keys.
type object[T any] struct {
	name   string // also its place in the schema's $defs
	doc    string
	fields []field[T]
	hints  map[string]string // what other tools call a key → ours
	rest   bool              // unknown keys are accepted and ignored
	one    []string          // exactly one of these keys must be there
	check  func(*decoder, *at, *T)
}

// key is a field without a default.
func key[S, T any](name, doc string, k kind[T], to func(*S) *T) field[S] {
	return field[S]{
		key: name, doc: doc, typ: k.name, form: k.form, rows: k.rows,
		read: func(d *decoder, a *at, s *S) {
			if v, ok := k.read(d, a); ok {
				*to(s) = v
			}
		},
	}
}

// keyOr is a field with a default.
func keyOr[S, T any](name, doc string, k kind[T], def T, to func(*S) *T) field[S] {
	f := key(name, doc, k, to)
	f.preset = func(s *S) { *to(s) = def }
	f.def = any(def)
	if k.show != nil {
		f.def = k.show(def)
	}
	return f
}

// sub is a map whose defaults hold also where it is absent.
func sub[S, T any](name, doc string, o *object[T], to func(*S) *T) field[S] {
	return field[S]{
		key: name, doc: doc, typ: "map", form: o.ref, rows: o.rows,
		preset: func(s *S) { *to(s) = o.fresh() },
		read:   func(d *decoder, a *at, s *S) { o.read(d, a, to(s)) },
	}
}

// block is a map that is nil where it is absent.
func block[S, T any](name, doc string, o *object[T], to func(*S) **T) field[S] {
	return key(name, doc, o.kind(), to)
}

// inert is a key that is accepted and does nothing.
func inert[S any](name string) field[S] {
	return field[S]{
		key: name, doc: "Accepted and ignored: it makes no sense for a process.", typ: "any", kube: true, ignored: true,
		form: func(map[string]form) form { return form{} },
		read: func(*decoder, *at, *S) {},
	}
}

func (f field[S]) require() field[S] { f.needed = true; return f }
func (f field[S]) asKube() field[S]  { f.kube = true; return f }

// kind makes a value of the map.
func (o *object[T]) kind() kind[*T] {
	return kind[*T]{name: "map", form: o.ref, rows: o.rows, read: func(d *decoder, a *at) (*T, bool) {
		v := o.fresh()
		return &v, o.read(d, a, &v)
	}}
}

// fresh returns a T with all defaults.
func (o *object[T]) fresh() T {
	var v T
	for _, f := range o.fields {
		if f.preset != nil {
			f.preset(&v)
		}
	}
	return v
}

// read reads a map into v and reports whether it is one; what is wrong inside
// is collected by d.
func (o *object[T]) read(d *decoder, a *at, v *T) bool {
	if !d.members(a, o.mapHint()) {
		return false
	}
	before := len(d.errs) + d.more
	for _, p := range a.pairs {
		i := slices.IndexFunc(o.fields, func(f field[T]) bool { return f.key == p.name })
		if i < 0 {
			o.unknown(d, a.member(p))
			continue
		}
		o.readField(d, a.member(p), &o.fields[i], v)
	}
	for _, f := range o.fields {
		if f.needed && a.get(f.key) == nil {
			d.errorf(a, "", "%q is missing", f.key)
		}
	}
	o.checkOne(d, a)
	if o.check != nil && len(d.errs)+d.more == before {
		o.check(d, a, v)
	}
	return true
}

func (o *object[T]) readField(d *decoder, a *at, f *field[T], v *T) {
	switch {
	case f.ignored:
		d.ignored.add(a)
	case f.kube && a.node.Tag == "!!null":
	default:
		if d.notYet[o.name+"."+f.key] && !d.later {
			d.errorf(a.onKey(), "take it out until a later version brings it", "is not supported yet")
		}
		f.read(d, a, v)
	}
}

func (o *object[T]) unknown(d *decoder, a *at) {
	if strings.HasPrefix(a.step, "x-") {
		return // a note of the user's own, or a home for anchors
	}
	if o.rest {
		d.ignored.add(a)
		return
	}
	if len(d.errs) >= maxProblems {
		d.more++
		return
	}
	known := o.keys()
	hint := ""
	if ours, ok := o.hints[plainKey(a.step)]; ok {
		hint = fmt.Sprintf("it is called %q here", ours)
	} else if hint = didYouMean(a.step, known); hint == "" {
		hint = o.farHint(a.step, known)
	}
	d.errorf(a.onKey(), hint, "unknown key")
}

// farHint looks for an unknown key among the names of other tools and in the
// maps below.
func (o *object[T]) farHint(key string, known []string) string {
	theirs := nearest(key, slices.Sorted(maps.Keys(o.hints)))
	if theirs != "" {
		return fmt.Sprintf("did you mean %q?", o.hints[theirs])
	}
	var last, full []string
	for _, r := range o.rows("") {
		last, full = append(last, r.key[strings.LastIndexByte(r.key, '.')+1:]), append(full, r.key)
	}
	if below := nearest(key, last); below != "" {
		return fmt.Sprintf("did you mean %q?", full[slices.Index(last, below)])
	}
	if len(known) <= 12 {
		return "known are " + strings.Join(known, ", ")
	}
	return "process-wrapper schema prints all keys"
}

// mapHint says how to write a map with one main key.
func (o *object[T]) mapHint() string {
	main := ""
	if len(o.one) > 0 {
		main = o.one[0]
	}
	for _, f := range o.fields {
		if f.needed && main == "" {
			main = f.key
		}
	}
	if main == "" {
		return ""
	}
	return fmt.Sprintf("write {%s: …}", main)
}

// checkOne demands exactly one of o.one.
func (o *object[T]) checkOne(d *decoder, a *at) {
	if len(o.one) == 0 {
		return
	}
	var got []string
	for _, k := range o.one {
		if m := a.get(k); m != nil && m.node.Tag != "!!null" {
			got = append(got, k)
		}
	}
	switch {
	case len(got) == 0:
		d.errorf(a, "", "wants one of %s", strings.Join(o.one, ", "))
	case len(got) > 1:
		d.errorf(a.get(got[1]).onKey(), "keep one of them", "%s exclude each other", strings.Join(got, " and "))
	}
}

// keys returns the keys that do something, in the order of the table.
func (o *object[T]) keys() []string {
	keys := make([]string, 0, len(o.fields))
	for _, f := range o.fields {
		if !f.ignored && !f.hidden {
			keys = append(keys, f.key)
		}
	}
	return keys
}
