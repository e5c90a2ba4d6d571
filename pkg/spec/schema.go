package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// form is a piece of JSON Schema.
type form map[string]any

func formOf(f form) func(map[string]form) form {
	return func(map[string]form) form {
		copied := make(form, len(f)+2)
		for k, v := range f {
			copied[k] = v
		}
		return copied
	}
}

// scalarForm is a text: numbers and booleans are taken as they are written.
func scalarForm(map[string]form) form {
	return form{"type": []string{"string", "number", "boolean"}}
}

// enumForm is one of names. They are accepted in any case; an editor offers
// the canonical one.
func enumForm(names []string) form {
	anyCase := make([]string, len(names))
	for i, n := range names {
		var b strings.Builder
		for _, r := range n {
			fmt.Fprintf(&b, "[%s%s]", strings.ToUpper(string(r)), strings.ToLower(string(r)))
		}
		anyCase[i] = b.String()
	}
	return form{"type": "string", "anyOf": []form{{"enum": names}, {"pattern": "^(" + strings.Join(anyCase, "|") + ")$"}}}
}

// Schema returns the JSON Schema (draft 2020-12) of a config, for editors.
func Schema() []byte {
	defs := map[string]form{}
	list := form{"type": "array", "items": entryObject().ref(defs)}
	defs["processes"] = list
	schema := form{
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
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(schema); err != nil {
		return []byte("{}\n") // the tables hold nothing that JSON cannot; a test reads the result
	}
	return b.Bytes()
}

// ref adds the map to defs and returns a reference to it.
func (o *object[T]) ref(defs map[string]form) form {
	ref := form{"$ref": "#/$defs/" + o.name}
	if defs[o.name] != nil {
		return ref
	}
	def := form{"type": "object", "description": o.doc}
	defs[o.name] = def
	properties := form{}
	var needed []string
	later := notYet()
	for _, f := range o.fields {
		if f.hidden {
			continue
		}
		properties[f.key] = f.schema(defs, later[o.name+"."+f.key])
		if f.needed {
			needed = append(needed, f.key)
		}
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

func (f field[S]) schema(defs map[string]form, later bool) form {
	s := f.form(defs)
	if f.kube && len(s) > 0 {
		s = form{"anyOf": []form{s, {"type": "null"}}}
	}
	s["description"] = f.doc
	if later {
		s["description"] = f.doc + " Not supported yet."
	}
	if f.def != nil {
		s["default"] = f.def
	}
	return s
}

// row is a line of the documentation.
type row struct{ key, typ, def, doc string }

func (o *object[T]) rows(prefix string) []row {
	var rows []row
	later := notYet()
	for _, f := range o.fields {
		if f.ignored || f.hidden {
			continue
		}
		r := row{key: prefix + f.key, typ: f.typ, doc: f.doc}
		if f.def != nil {
			r.def = fmt.Sprint(f.def)
		}
		if f.needed {
			r.def = "required"
		}
		if later[o.name+"."+f.key] {
			r.doc += " Not supported yet."
		}
		rows = append(rows, r)
		if f.rows != nil {
			rows = append(rows, f.rows(prefix+f.key+".")...)
		}
	}
	return rows
}

// Markdown returns the table of all keys for the documentation.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	for _, r := range entryObject().rows("") {
		def := cell.Replace(r.def)
		if def != "" && def != "required" {
			def = "`" + def + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.key, cell.Replace(r.typ), def, cell.Replace(r.doc))
	}
	return b.String()
}
