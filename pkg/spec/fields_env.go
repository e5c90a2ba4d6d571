package spec

import (
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"
)

// goodVar says whether s can be the name of a variable.
func goodVar(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r == '=' || r <= ' ' || r == 0x7f })
}

var varName = &kind{name: "name", form: `{"type":"string","minLength":1,"pattern":"^[^=\\s]+$"}`, read: readText, text: (*decoder).varName}

func (d *decoder) varName(a *at) (string, bool) {
	s, ok := d.scalar(a, "the name of a variable")
	return s, ok && d.checkVar(a, s)
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

var envMap = &kind{name: "map of strings", form: `{"type":"object","additionalProperties":` + scalarForm + `}`, read: readEnvMap}

// readEnvMap reads a map of names and values, in the order of the file.
func readEnvMap(d *decoder, a *at, _ *field, to reflect.Value) bool {
	if !d.members(a, "write NAME: value, one a line; the list form is called env") {
		return false
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
	to.Set(reflect.ValueOf(vars))
	return true
}

var (
	envList   = &kind{name: "list of maps", many: true, read: readEnvList}
	envFrom   = &kind{name: "list of maps", many: true, read: readEnvFrom}
	elsewhere = &kind{name: "any", form: `{}`, read: readElsewhere}
)

// readElsewhere notes a reference of Kubernetes, which is accepted with a
// warning: it cannot be resolved here.
func readElsewhere(d *decoder, a *at, f *field, to reflect.Value) bool {
	d.warnf(a, f.what+", whose environment is inherited", "%s cannot be resolved here", quote(f.key))
	return setText(to, f.key)
}

const (
	elsewhereDoc = "Accepted with a warning: it cannot be resolved here."
	setOutside   = "set the variable on the wrapper's container"
	putOutside   = "put it on the wrapper's container"
)

// rawVar is an element of env.
type rawVar struct {
	Name, Value string
	ValueFrom   *valueFrom
}

type valueFrom struct {
	FieldRef fieldRef
	Other    string // a source that cannot be resolved here
}

type fieldRef struct {
	FieldPath  string
	APIVersion string // there is one
}

var envKeys = object{
	name: "env", doc: "A variable.",
	fields: []field{
		{key: "name", doc: "Name.", kind: varName, needed: true},
		{key: "value", doc: "Value; `$(NAME)` is expanded.", kind: text, kube: true},
		{key: "valueFrom", doc: "Where the value comes from.", kind: block, in: &valueFromKeys, kube: true},
	},
	check: checkRawVar,
}

func checkRawVar(d *decoder, a *at, v any) {
	if v := v.(*rawVar); v.ValueFrom != nil && v.Value != "" {
		d.errorf(a.get("valueFrom").onKey(), "keep one of them", "value and valueFrom exclude each other")
	}
}

var valueFromKeys = object{
	name: "valueFrom", doc: "Source of a value.",
	fields: []field{
		{key: "fieldRef", doc: "A field of the pod.", kind: block, in: &fieldRefKeys, kube: true},
		{key: "secretKeyRef", doc: elsewhereDoc, kind: elsewhere, what: setOutside, to: "Other", kube: true},
		{key: "configMapKeyRef", doc: elsewhereDoc, kind: elsewhere, what: setOutside, to: "Other", kube: true},
		{key: "resourceFieldRef", doc: elsewhereDoc, kind: elsewhere, what: setOutside, to: "Other", kube: true},
		{key: "fileKeyRef", doc: elsewhereDoc, kind: elsewhere, what: setOutside, to: "Other", kube: true},
	},
	one: []string{"fieldRef", "secretKeyRef", "configMapKeyRef", "resourceFieldRef", "fileKeyRef"},
}

var fieldRefKeys = object{
	name: "fieldRef", doc: "A field of the pod.",
	fields: []field{
		{key: "fieldPath", doc: "metadata.name (POD_NAME, else HOSTNAME), metadata.namespace (POD_NAMESPACE) or spec.nodeName (NODE_NAME).", kind: filled, what: "field", needed: true},
		{key: "apiVersion", doc: "v1, as in Kubernetes.", kind: text, to: "APIVersion", kube: true},
	},
	check: checkFieldRef,
}

// checkFieldRef drops a field that cannot be resolved here.
func checkFieldRef(d *decoder, a *at, v any) {
	ref := v.(*fieldRef)
	switch ref.FieldPath {
	case "metadata.name", "metadata.namespace", "spec.nodeName":
	default:
		d.warnf(a.first("fieldPath"), setOutside+", whose environment is inherited", "%s cannot be resolved here", quote(ref.FieldPath))
		ref.FieldPath = ""
	}
}

// readEnvList reads Kubernetes' list of variables. Those whose source cannot be
// resolved here are left out, so that the wrapper's own value shows through.
func readEnvList(d *decoder, a *at, f *field, to reflect.Value) bool {
	if a.node.Kind == yaml.MappingNode {
		d.wrongKind(a, "a list", "the map form is called envs")
		return false
	}
	var raw []rawVar
	if !readList(d, a, &field{of: block, in: f.in}, reflect.ValueOf(&raw).Elem()) {
		return false
	}
	vars := make([]EnvVar, 0, len(raw))
	for _, r := range raw {
		switch {
		case r.ValueFrom == nil:
			vars = append(vars, EnvVar{Name: r.Name, Value: r.Value, Expand: ExpandKubernetes})
		case r.ValueFrom.FieldRef.FieldPath != "":
			vars = append(vars, EnvVar{Name: r.Name, Field: r.ValueFrom.FieldRef.FieldPath})
		}
	}
	to.Set(reflect.ValueOf(vars))
	return true
}

// rawFile is an element of envFrom: ours, or a reference of Kubernetes.
type rawFile struct {
	EnvFile
	Ref string
}

var envFromKeys = object{
	name: "envFrom", doc: "A file with variables.",
	fields: []field{
		{key: "file", doc: "Path of a file with `NAME=value` lines.", kind: filled, what: "path", to: "Path"},
		{key: "prefix", doc: "Put before each name.", kind: text, kube: true},
		{key: "optional", doc: "A missing file is no error.", kind: boolean, def: "false"},
		{key: "configMapRef", doc: elsewhereDoc, kind: elsewhere, what: putOutside, to: "Ref", kube: true},
		{key: "secretRef", doc: elsewhereDoc, kind: elsewhere, what: putOutside, to: "Ref", kube: true},
	},
	one: []string{"file", "configMapRef", "secretRef"},
}

// readEnvFrom reads [{file}]. References of Kubernetes are left out.
func readEnvFrom(d *decoder, a *at, f *field, to reflect.Value) bool {
	var raw []rawFile
	if !readList(d, a, &field{of: block, in: f.in}, reflect.ValueOf(&raw).Elem()) {
		return false
	}
	files := make([]EnvFile, 0, len(raw))
	for _, r := range raw {
		if r.Ref == "" {
			files = append(files, r.EnvFile)
		}
	}
	to.Set(reflect.ValueOf(files))
	return true
}
