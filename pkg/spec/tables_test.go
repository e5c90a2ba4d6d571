package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// What editors and people read is made here from the tables, so that none of
// it is in a binary.

// form is a piece of JSON Schema.
type form map[string]any

func TestSchemaIsMadeFromTheTables(t *testing.T) {
	defs := map[string]form{}
	defs["processes"] = form{"type": "array", "items": entryKeys.ref(t, defs)}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(form{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"title":       "process-wrapper",
		"description": "The processes of a container: a list, or a pasted containers: block of Kubernetes.",
		"anyOf": []form{
			{"$ref": "#/$defs/processes"},
			{"type": "object", "required": []string{"containers"}, "properties": form{"containers": form{"$ref": "#/$defs/processes"}}},
			{"type": "object", "required": []string{"spec"}, "properties": form{"spec": form{"type": "object"}}},
			{"type": "null"},
		},
		"$defs": defs,
	}); err != nil {
		t.Fatal(err)
	}
	// One line each for git, and no indentation for the binary.
	lines := strings.Split(b.String(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimLeft(line, " ")
	}
	golden(t, "schema.json", strings.Join(lines, "\n"))
}

func TestDocumentationIsMadeFromTheTables(t *testing.T) {
	golden(t, "testdata/keys.md", markdown())
}

func TestNamesAreAsLongInTheSchemaAsInTheDecoder(t *testing.T) {
	if want := fmt.Sprintf(`"maxLength":%d}`, maxName); !strings.HasSuffix(processName.form, want) {
		t.Errorf("%s, want %s", processName.form, want)
	}
}

func TestSchemaIsIndented(t *testing.T) {
	if s := string(Schema()); !strings.HasPrefix(s, "{\n  \"$defs\": {\n    \"amqp\": {\n") || !strings.HasSuffix(s, "\n}\n") {
		t.Errorf("%.100s", s)
	}
}

// ref adds the map to defs and returns a reference to it.
func (o *object) ref(t *testing.T, defs map[string]form) form {
	ref := form{"$ref": "#/$defs/" + o.name}
	if defs[o.name] != nil {
		return ref
	}
	def, properties := form{"type": "object", "description": o.doc}, form{}
	defs[o.name] = def
	var needed []string
	for _, f := range o.all() {
		properties[f.key] = f.schema(t, defs)
		if f.needed {
			needed = append(needed, f.key)
		}
	}
	for _, key := range o.inert {
		properties[key] = form{"description": "Accepted and ignored: it makes no sense for a process."}
	}
	def["properties"] = properties
	if !o.rest {
		def["additionalProperties"] = false
		def["patternProperties"] = form{"^x-": form{}}
	}
	if needed != nil {
		def["required"] = needed
	}
	if o.one != nil {
		var each []form
		for _, k := range o.one {
			each = append(each, form{"required": []string{k}})
		}
		def["oneOf"] = each
	}
	return ref
}

func (f *field) schema(t *testing.T, defs map[string]form) form {
	s := f.form(t, defs)
	plain := s["type"]
	if f.kube && len(s) > 0 {
		s = form{"anyOf": []form{s, {"type": "null"}}}
	}
	s["description"] = f.meaning()
	switch {
	case f.def == "":
	case plain == "integer", plain == "number", plain == "boolean":
		s["default"] = json.RawMessage(f.def)
	default:
		s["default"] = f.def
	}
	return s
}

func (f *field) meaning() string {
	return f.doc
}

// form is the field without what stands around it.
func (f *field) form(t *testing.T, defs map[string]form) form {
	s := form{}
	switch {
	case f.kind == list:
		one := *f
		one.kind = f.of
		s = form{"type": "array", "items": one.form(t, defs)}
		if f.some {
			s["minItems"] = 1
		}
		return s
	case f.kind == dependsOn:
		return form{"anyOf": []form{(&field{kind: text}).form(t, defs), f.in.ref(t, defs)}}
	case f.in != nil && f.kind.many:
		return form{"type": "array", "items": f.in.ref(t, defs)}
	case f.in != nil:
		return f.in.ref(t, defs)
	}
	if err := json.Unmarshal([]byte(f.kind.form), &s); err != nil {
		t.Fatalf("%s: %v", f.kind.name, err)
	}
	switch f.kind {
	case integer, mebi, number:
		s["minimum"], s["maximum"] = f.low, f.high
	case seconds:
		s["minimum"] = f.low / second
	case oneOf:
		s["anyOf"] = []form{{"enum": f.names}, {"pattern": "^(" + anyCase(f.names) + ")$"}}
	}
	if f.zero {
		s["minimum"] = 0
	}
	return s
}

// anyCase matches names in any case; an editor offers the canonical one.
func anyCase(names []string) string {
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteByte('|')
		}
		for _, r := range name {
			fmt.Fprintf(&b, "[%s%s]", strings.ToUpper(string(r)), strings.ToLower(string(r)))
		}
	}
	return b.String()
}

// markdown is the table of all keys for the documentation.
func markdown() string {
	var b strings.Builder
	b.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	var walk func(o *object, prefix string)
	walk = func(o *object, prefix string) {
		for _, f := range o.all() {
			def := cell.Replace(f.def)
			if def != "" {
				def = "`" + def + "`"
			}
			if f.needed {
				def = "required"
			}
			fmt.Fprintf(&b, "| `%s%s` | %s | %s | %s |\n", prefix, f.key, cell.Replace(f.typ()), def, cell.Replace(f.meaning()))
			if f.in != nil {
				walk(f.in, prefix+f.below())
			}
		}
	}
	walk(&entryKeys, "")
	return b.String()
}

// typ is the kind for people.
func (f *field) typ() string {
	switch f.kind {
	case list:
		one := *f
		one.kind = f.of
		return "list of " + strings.ReplaceAll(one.typ()+"s", "ys", "ies")
	case filled:
		return f.what
	case oneOf:
		return strings.Join(f.names, ", ")
	}
	return f.kind.name
}

// Tables are data: what the compiler cannot check of them is checked here.
func TestEveryFieldHasAPlaceAKindAndAMeaning(t *testing.T) {
	d := &decoder{}
	count := 0
	var walk func(o *object, typ reflect.Type)
	walk = func(o *object, typ reflect.Type) {
		if theirs, _ := o.foreign(); !slices.IsSorted(theirs) || strings.Join(theirs, "") != plainKey(strings.Join(theirs, "")) {
			t.Errorf("%s: hints are not sorted and folded", o.name)
		}
		for _, f := range o.all() {
			count++
			name := o.name + "." + f.key
			index := f.place(typ)
			if index == nil || f.kind == nil || f.doc == "" || (f.kind == list) != (f.of != nil) {
				t.Fatalf("%s has no place in %v, no kind or no meaning", name, typ)
			}
			to := typ.FieldByIndex(index).Type
			if err := tryField(d, f, to); err != "" {
				t.Errorf("%s into %v: %s", name, to, err)
			}
			if f.in != nil {
				walk(f.in, structOf(f, to))
			}
		}
		d.shape(o, typ)
	}
	walk(&entryKeys, reflect.TypeFor[entry]())
	if len(d.errs) > 0 || count < 180 {
		t.Errorf("%d fields; a default is refused: %v", count, d.errs)
	}
}

// structOf returns the type that holds the map of f.
func structOf(f *field, to reflect.Type) reflect.Type {
	switch {
	case f.kind == ownCommand:
		return reflect.TypeFor[rawExec]()
	case f.kind == ownExec:
		return reflect.TypeFor[rawCheck]()
	case f.kind == envList:
		return reflect.TypeFor[rawVar]()
	case f.kind == envFrom:
		return reflect.TypeFor[rawFile]()
	case f.of == dependsOn:
		return reflect.TypeFor[Dependency]()
	}
	for to.Kind() != reflect.Struct {
		to = to.Elem()
	}
	return to
}

// tryField reads values of all sorts, of which each kind takes one, and
// returns how one does not fit into to.
func tryField(d *decoder, f *field, to reflect.Type) (problem string) {
	defer func() {
		if r := recover(); r != nil {
			problem = fmt.Sprint(r)
		}
	}()
	took := f.in != nil
	for _, text := range []string{
		"text", "5", "0", "true", "10s", "10%", "1Mi", "SIGTERM", "http://a", "a:80", "[KILL]", "{a: b}", "{nofile: 5}", "[]", "{}", "[a]", "[5]", f.def, strings.Join(f.names[:min(len(f.names), 1)], ""),
	} {
		docs, err := yamlNodes([]byte("a: " + text))
		if err != nil {
			return err.Error()
		}
		root := &at{file: "x", node: docs[0]}
		if before := len(d.errs); d.members(root, "") {
			d.readField(root.get("a"), f, reflect.New(to).Elem())
			took = took || len(d.errs) == before
			d.errs = d.errs[:before]
		}
	}
	if !took {
		return "takes nothing"
	}
	return ""
}
