package spec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// kind is a type of value: how it is read and how an editor is told.
type kind struct {
	name string // for people: duration, list of strings
	form string // JSON Schema; bounds, names and keys come from the field
	many bool   // a list: the keys of its field are those of the elements

	// read sets to, and reports whether it could; what is wrong is collected
	// by the decoder.
	read func(d *decoder, a *at, f *field, to reflect.Value) bool
	text func(d *decoder, a *at) (string, bool) // for readText
}

// field is one key of a map of the config. The tables of fields are the only
// place that knows the keys: the decoder, the schema and the documentation are
// made from them. They are plain data, which the compiler lays out and nothing
// changes.
type field struct {
	key, doc  string
	kind      *kind
	to        string   // Go field, or a path of them; "": key with a capital
	def       string   // default, as one would write it; "": none
	what      string   // of filled: what it is; of elsewhere: the way out
	names     []string // of oneOf
	of        *kind    // of a list: its elements
	in        *object  // of a map, or of a list of maps
	low, high int64    // bounds of a number; a duration's are nanoseconds

	needed bool // must be there
	some   bool // of a list: not empty
	kube   bool // a name of Kubernetes: null means absent, as there
	zero   bool // 0 stands for the default, as in Kubernetes
}

// object is a map with known keys.
type object struct {
	name    string // also its place in the schema's $defs
	doc     string
	base    *object // its fields come first
	fields  []field
	inert   []string // accepted, and do nothing
	refused []refusal
	hints   string   // what other tools call a key, folded: theirs=ours
	rest    bool     // unknown keys are accepted and ignored
	one     []string // exactly one of these keys must be there
	check   func(d *decoder, a *at, v any)
}

// refusal are keys that would break what the wrapper promises.
type refusal struct {
	why  string
	keys []string
}

// shape is an object as the fields of a Go struct.
type shape struct {
	fields []*field
	index  [][]int       // of each field's place in the struct
	fresh  reflect.Value // the struct with all defaults
	hint   string        // how to write such a map
}

// shape returns the shape of o in t, which is always the same for an o. A load
// makes those that it needs.
func (d *decoder) shape(o *object, t reflect.Type) *shape {
	if s := d.shapes[o]; s != nil {
		return s
	}
	s := &shape{fields: o.all(), fresh: reflect.New(t).Elem(), hint: o.mapHint()}
	for _, f := range s.fields {
		index := f.place(t)
		s.index = append(s.index, index)
		switch to := s.fresh.FieldByIndex(index); {
		case f.def != "":
			f.kind.read(d, written(f.def), f, to)
		case f.in != nil && to.Kind() == reflect.Struct:
			to.Set(d.shape(f.in, to.Type()).fresh)
		}
	}
	if d.shapes == nil {
		d.shapes = map[*object]*shape{}
	}
	d.shapes[o] = s
	return s
}

// place returns where in t the field is kept.
func (f *field) place(t reflect.Type) []int {
	to := f.to
	if to == "" {
		to = strings.ToUpper(f.key[:1]) + f.key[1:]
	}
	var index []int
	for step := range strings.SplitSeq(to, ".") {
		sf, ok := t.FieldByName(step)
		if !ok {
			return nil // a test looks at every field
		}
		index, t = append(index, sf.Index...), sf.Type
	}
	return index
}

// all returns the fields in the order of the table.
func (o *object) all() []*field {
	var all []*field
	if o.base != nil {
		all = o.base.all()
	}
	for i := range o.fields {
		all = append(all, &o.fields[i])
	}
	return all
}

// readMap reads a map into v, a struct, and reports whether it is one; what is
// wrong inside is collected by d.
func (d *decoder) readMap(a *at, o *object, v reflect.Value) bool {
	s := d.shape(o, v.Type())
	v.Set(s.fresh)
	if !d.members(a, s.hint) {
		return false
	}
	before := len(d.errs) + d.more
	for _, p := range a.pairs {
		i := slices.IndexFunc(s.fields, func(f *field) bool { return f.key == p.name })
		if i < 0 {
			d.odd(o, a.member(p))
			continue
		}
		d.readField(a.member(p), s.fields[i], v.FieldByIndex(s.index[i]))
	}
	for _, f := range s.fields {
		if f.needed && a.get(f.key) == nil {
			d.errorf(a, "", "%q is missing", f.key)
		}
	}
	o.checkOne(d, a)
	if o.check != nil && len(d.errs)+d.more == before {
		o.check(d, a, v.Addr().Interface())
	}
	return true
}

func (d *decoder) readField(a *at, f *field, to reflect.Value) {
	if f.kube && a.node.Tag == "!!null" {
		return
	}
	if to.Kind() != reflect.Pointer {
		f.kind.read(d, a, f, to)
		return
	}
	if v := reflect.New(to.Type().Elem()); f.kind.read(d, a, f, v.Elem()) {
		to.Set(v)
	}
}

// odd reads a key that is not in the table.
func (d *decoder) odd(o *object, a *at) {
	switch {
	case slices.Contains(o.inert, a.step):
		d.ignored.add(a)
		return
	case strings.HasPrefix(a.step, "x-"):
		return // a note of the user's own, or a home for anchors
	}
	for _, r := range o.refused {
		if slices.Contains(r.keys, a.step) {
			d.errorf(a.onKey(), "take it out", "cannot be honoured: %s", r.why)
			return
		}
	}
	switch {
	case o.rest:
		d.ignored.add(a)
	case len(d.errs) >= maxProblems:
		d.more++
	default:
		d.errorf(a.onKey(), o.hint(a.step), "unknown key")
	}
}

// hint says what an unknown key was probably meant to be: a key, what another
// tool calls one, or a key of a map below.
func (o *object) hint(key string) string {
	theirs, ours := o.foreign()
	if i := slices.Index(theirs, plainKey(key)); i >= 0 {
		return fmt.Sprintf("it is called %q here", ours[i])
	}
	known := o.keys()
	if hint := didYouMean(key, known); hint != "" {
		return hint
	}
	if near := nearest(key, theirs); near != "" {
		return fmt.Sprintf("did you mean %q?", ours[slices.Index(theirs, near)])
	}
	full := o.paths("")
	last := make([]string, len(full))
	for i, path := range full {
		last[i] = path[strings.LastIndexByte(path, '.')+1:]
	}
	if below := nearest(key, last); below != "" {
		return fmt.Sprintf("did you mean %q?", full[slices.Index(last, below)])
	}
	if len(known) <= 12 {
		return "known are " + strings.Join(known, ", ")
	}
	return "process-wrapper schema prints all keys"
}

// foreign returns what other tools call keys, and what they are called here.
func (o *object) foreign() (theirs, ours []string) {
	for hint := range strings.FieldsSeq(o.hints) {
		their, our, _ := strings.Cut(hint, "=")
		theirs, ours = append(theirs, their), append(ours, our)
	}
	return theirs, ours
}

// keys returns the keys that do something, in the order of the table.
func (o *object) keys() []string {
	var keys []string
	for _, f := range o.all() {
		keys = append(keys, f.key)
	}
	return keys
}

// paths returns the keys and those below them: readiness.http.url.
func (o *object) paths(prefix string) []string {
	var paths []string
	for _, f := range o.all() {
		paths = append(paths, prefix+f.key)
		if f.in != nil {
			paths = append(paths, f.in.paths(prefix+f.below())...)
		}
	}
	return paths
}

// below is how a path goes on into the map of f.
func (f *field) below() string {
	if f.kind.many {
		return f.key + "[]."
	}
	return f.key + "."
}

// mapHint says how to write a map with one main key.
func (o *object) mapHint() string {
	main := ""
	if len(o.one) > 0 {
		main = o.one[0]
	}
	for _, f := range o.all() {
		if f.needed && main == "" {
			main = f.key
		}
	}
	if main == "" {
		return ""
	}
	return "write {" + main + ": …}"
}

// checkOne demands exactly one of o.one.
func (o *object) checkOne(d *decoder, a *at) {
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
