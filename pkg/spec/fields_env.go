package spec

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// goodVar says whether s can be the name of a variable.
func goodVar(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r == '=' || r <= ' ' || r == 0x7f })
}

func varName() kind[string] {
	f := form{"type": "string", "minLength": 1, "pattern": "^[^=\\s]+$"}
	return kind[string]{name: "name", form: formOf(f), read: func(d *decoder, a *at) (string, bool) {
		s, ok := d.scalar(a, "the name of a variable")
		return s, ok && d.checkVar(a, s)
	}}
}

func (d *decoder) checkVar(a *at, name string) bool {
	switch {
	case name == "":
		d.errorf(a, "", "the name of a variable is empty")
	case strings.Contains(name, "="):
		d.errorf(a, "write NAME: value", "the name of a variable holds =")
	case !goodVar(name):
		d.errorf(a, "", "the name of a variable holds a space or control character")
	default:
		return true
	}
	return false
}

// envMap is a map of names and values, in the order of the file.
func envMap() kind[[]EnvVar] {
	f := form{"type": "object", "additionalProperties": scalarForm(nil)}
	return kind[[]EnvVar]{name: "map of strings", form: formOf(f), read: func(d *decoder, a *at) ([]EnvVar, bool) {
		if !d.members(a, "write NAME: value, one a line; the list form is called env") {
			return nil, false
		}
		vars := make([]EnvVar, 0, len(a.pairs))
		for _, p := range a.pairs {
			m := a.member(p)
			if !d.checkVar(m.onKey(), p.name) {
				continue
			}
			if m.node.Tag == "!!null" {
				d.errorf(m, `write "" for an empty value`, "has no value")
				continue
			}
			if v, ok := d.scalar(m, "a string"); ok {
				vars = append(vars, EnvVar{Name: p.name, Value: v, Expand: ExpandKnown})
			}
		}
		return vars, true
	}}
}

// rawVar is an element of env.
type rawVar struct {
	name, value string
	from        *valueFrom
}

type valueFrom struct {
	field   string
	other   string // a source that cannot be resolved here
	version string // of the field's API; there is one
}

// envList is Kubernetes' list of variables. Those whose source cannot be
// resolved here are left out, so that the wrapper's own value shows through.
func envList() kind[[]EnvVar] {
	o := &object[rawVar]{
		name: "env", doc: "A variable.",
		fields: []field[rawVar]{
			key("name", "Name.", varName(), func(v *rawVar) *string { return &v.name }).require(),
			key("value", "Value; `$(NAME)` is expanded.", text(), func(v *rawVar) *string { return &v.value }).asKube(),
			block("valueFrom", "Where the value comes from.", valueFromObject(), func(v *rawVar) **valueFrom { return &v.from }).asKube(),
		},
		check: func(d *decoder, a *at, v *rawVar) {
			if v.from != nil && v.value != "" {
				d.errorf(a.get("valueFrom").onKey(), "keep one of them", "value and valueFrom exclude each other")
			}
		},
	}
	all := list(o.kind())
	return kind[[]EnvVar]{name: "list of maps", form: all.form, rows: all.rows, read: func(d *decoder, a *at) ([]EnvVar, bool) {
		if a.node.Kind == yaml.MappingNode {
			d.wrongKind(a, "a list", "the map form is called envs")
			return nil, false
		}
		raw, ok := all.read(d, a)
		vars := make([]EnvVar, 0, len(raw))
		for _, r := range raw {
			switch {
			case r.from == nil:
				vars = append(vars, EnvVar{Name: r.name, Value: r.value, Expand: ExpandKubernetes})
			case r.from.field != "":
				vars = append(vars, EnvVar{Name: r.name, Field: r.from.field})
			}
		}
		return vars, ok
	}}
}

func valueFromObject() *object[valueFrom] {
	fieldRef := &object[valueFrom]{name: "fieldRef", doc: "A field of the pod.", fields: []field[valueFrom]{
		key("fieldPath", "metadata.name (POD_NAME, else HOSTNAME), metadata.namespace (POD_NAMESPACE) or spec.nodeName (NODE_NAME).", filled("field"), func(v *valueFrom) *string { return &v.field }).require(),
		key("apiVersion", "v1, as in Kubernetes.", text(), func(v *valueFrom) *string { return &v.version }).asKube(),
	}}
	o := &object[valueFrom]{
		name: "valueFrom", doc: "Source of a value.",
		fields: []field[valueFrom]{{
			key: "fieldRef", doc: "A field of the pod.", typ: "map", form: fieldRef.ref, rows: fieldRef.rows, kube: true,
			read: readFieldRef(fieldRef),
		}},
		one: []string{"fieldRef", "secretKeyRef", "configMapKeyRef", "resourceFieldRef", "fileKeyRef"},
	}
	for _, name := range o.one[1:] {
		o.fields = append(o.fields, field[valueFrom]{
			key: name, doc: "Accepted with a warning: it cannot be resolved here.", typ: "any", kube: true,
			form: formOf(form{}),
			read: func(d *decoder, a *at, v *valueFrom) { d.unresolved(a, v, name) },
		})
	}
	return o
}

func readFieldRef(o *object[valueFrom]) func(*decoder, *at, *valueFrom) {
	return func(d *decoder, a *at, v *valueFrom) {
		if !o.read(d, a, v) {
			return
		}
		switch v.field {
		case "metadata.name", "metadata.namespace", "spec.nodeName", "":
		default:
			d.unresolved(a.first("fieldPath"), v, v.field)
			v.field = ""
		}
	}
}

func (d *decoder) unresolved(a *at, v *valueFrom, what string) {
	v.other = what
	d.warnf(a, "set the variable on the wrapper's container, whose environment is inherited", "%s cannot be resolved here", quote(what))
}

// rawFile is an element of envFrom: ours, or a reference of Kubernetes.
type rawFile struct {
	EnvFile
	ref string
}

// envFrom is [{file}]. References of Kubernetes are accepted with a warning.
func envFrom() kind[[]EnvFile] {
	o := &object[rawFile]{
		name: "envFrom", doc: "A file with variables.",
		fields: []field[rawFile]{
			key("file", "Path of a file with `NAME=value` lines.", filled("path"), func(f *rawFile) *string { return &f.Path }),
			key("prefix", "Put before each name.", text(), func(f *rawFile) *string { return &f.Prefix }).asKube(),
			keyOr("optional", "A missing file is no error.", boolean(), false, func(f *rawFile) *bool { return &f.Optional }),
		},
		one: []string{"file", "configMapRef", "secretRef"},
	}
	for _, name := range o.one[1:] {
		o.fields = append(o.fields, field[rawFile]{
			key: name, doc: "Accepted with a warning: it cannot be resolved here.", typ: "any", kube: true, form: formOf(form{}),
			read: func(d *decoder, a *at, f *rawFile) {
				f.ref = name
				d.warnf(a, "put it on the wrapper's container, whose environment is inherited", "%q cannot be resolved here", name)
			},
		})
	}
	all := list(o.kind())
	return kind[[]EnvFile]{name: "list of maps", form: all.form, rows: all.rows, read: func(d *decoder, a *at) ([]EnvFile, bool) {
		raw, ok := all.read(d, a)
		files := make([]EnvFile, 0, len(raw))
		for _, r := range raw {
			if r.ref == "" {
				files = append(files, r.EnvFile)
			}
		}
		return files, ok
	}}
}
