package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"
)

// parse makes one config of files. name is how the whole is called.
func parse(name string, files []source, o Options) (*Config, error) {
	d := &decoder{}
	err := d.readAll(files)
	if err != nil {
		return nil, err
	}
	d.ignored.warn(d)
	if len(d.errs) == 0 && len(d.entries) == 0 {
		d.warnings = append(d.warnings, &Error{File: name, Msg: "no processes", Hint: "the config is empty: write a list of processes"})
	}
	c := &Config{Processes: d.expand(), Warnings: d.warnings.sorted()}
	if len(d.errs) == 0 {
		return c, nil
	}
	errs := d.errs.sorted()
	if d.more > 0 {
		errs = append(errs, &Error{File: name, Msg: fmt.Sprintf("%d more errors", d.more)})
	}
	return nil, errs
}

// readAll reads all files into d.entries.
func (d *decoder) readAll(files []source) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if r != any(errBudget) {
				panic(r)
			}
			err = Errors{d.problem(d.stuck, "write the values out, or use replicas", errBudget.Error())}
		}
	}()
	for _, f := range files {
		docs, bad := documents(f.name, f.data)
		if bad != nil {
			d.errs, d.unsure = append(d.errs, bad), true
			continue
		}
		for _, doc := range docs {
			d.document(&at{file: f.name, node: doc})
		}
	}
	return nil
}

// document reads one YAML document.
func (d *decoder) document(root *at) {
	d.visit(root)
	switch {
	case root.node.Kind == yaml.SequenceNode:
	case root.node.Tag == "!!null":
		return
	case root.node.Kind == yaml.MappingNode:
		if root = d.containers(root); root == nil {
			return
		}
	default:
		d.errorf(root, `write "- name: …"`, "wants a list of processes, is %s", describe(root.node))
		return
	}
	list, ok := d.elements(root, "a list")
	if !ok {
		return
	}
	for _, a := range list {
		d.entry(a)
	}
}

// containers finds the list of containers in a pasted piece of Kubernetes: the
// map that holds it, a pod, or what has a pod template.
func (d *decoder) containers(a *at) *at {
	if !d.members(a, "") {
		return nil
	}
	before := len(d.errs) + d.more
	for _, path := range []string{"containers", "spec.containers", "spec.template.spec.containers", "spec.jobTemplate.spec.template.spec.containers", "template.spec.containers"} {
		if found := d.walk(a, strings.Split(path, ".")); found != nil || len(d.errs)+d.more > before {
			return found
		}
	}
	hint := `start with "- name: …"; or paste containers: from Kubernetes`
	if a.get("name") != nil || a.get("entrypoint") != nil {
		hint = `write "- " before the first key: a list of one process`
	} else if a.get("processes") != nil || a.get("services") != nil {
		hint = "write the list alone, without a key above it"
	} else if len(a.pairs) > 0 && nearest(a.pairs[0].name, []string{"containers"}) != "" {
		hint = `did you mean "containers"?`
	}
	d.errorf(a, hint, "wants a list of processes, is a map")
	return nil
}

// walk follows keys from a. What is left aside on the way is warned of.
func (d *decoder) walk(a *at, keys []string) *at {
	way := []*at{a}
	for i, k := range keys {
		next := way[i].get(k)
		if next == nil || i < len(keys)-1 && (next.node.Kind != yaml.MappingNode || !d.members(next, "")) {
			return nil
		}
		way = append(way, next)
	}
	for i, k := range keys {
		for _, p := range way[i].pairs {
			m := way[i].member(p)
			switch {
			case p.name == k, strings.HasPrefix(p.name, "x-"):
			case p.name == "initContainers" && len(m.node.Content) > 0:
				d.errorf(m.onKey(), "make them processes with restartPolicy: never, and let the others name them in dependsOn with condition: completed", "are not run")
			case i == len(keys)-1 && len(keys) == 1 && !podField(p.name):
				d.errorf(m.onKey(), didYouMean(p.name, keys), "unknown key beside containers")
			default:
				d.ignored.add(m)
			}
		}
	}
	found := way[len(keys)]
	if found.node.Kind != yaml.SequenceNode {
		d.wrongKind(found, "a list", "")
		return nil
	}
	found.up, found.step = nil, ""
	return found
}

// podField says whether a pod's spec has the key beside its containers.
func podField(name string) bool {
	return strings.Contains(" volumes restartPolicy terminationGracePeriodSeconds serviceAccountName serviceAccount nodeSelector tolerations affinity "+
		"securityContext imagePullSecrets hostNetwork hostPID dnsPolicy dnsConfig priorityClassName schedulerName shareProcessNamespace "+
		"topologySpreadConstraints automountServiceAccountToken enableServiceLinks hostAliases hostname subdomain initContainers ephemeralContainers ", " "+name+" ")
}

// entry reads one process.
func (d *decoder) entry(a *at) {
	if a.node.Kind == yaml.MappingNode {
		a.step = entryName(a.node)
	}
	before := d.visited
	e := new(entry)
	d.readPorts(rawMember(a.node, "ports"))
	if !d.readMap(a, &entryKeys, reflect.ValueOf(e).Elem()) {
		d.unsure = true
		return
	}
	e.at, e.Source = a, fmt.Sprintf("%s:%d:%d", a.file, a.node.Line, a.node.Column)
	e.finishReadiness()
	e.visited = d.visited - before
	d.entries = append(d.entries, e)
}

// entryName returns the name of an entry before it is read, for paths.
func entryName(n *yaml.Node) string {
	if m := rawMember(n, "name"); m != nil && m.node.Kind == yaml.ScalarNode && goodName(m.node.Value) {
		return m.node.Value
	}
	return ""
}

func rawMember(n *yaml.Node, key string) *at {
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		if n.Content[i].Value == key {
			return &at{node: n.Content[i+1]}
		}
	}
	return nil
}

// documents parses the YAML or JSON of one file.
func documents(file string, data []byte) ([]*yaml.Node, *Error) {
	data, bad := plain(file, data)
	if bad != nil {
		return nil, bad
	}
	if looksJSON(data) {
		if n, err := jsonNode(data); err == nil {
			return []*yaml.Node{n}, nil
		}
	}
	docs, err := yamlNodes(data)
	if err == nil {
		return docs, nil
	}
	if looksJSON(data) && !bytes.Contains(data, []byte("\n---")) {
		return nil, jsonError(file, data)
	}
	return nil, yamlError(file, data, err)
}

// yamlNodes parses every document. The parser is not ours: a panic in it is
// one more way to say that the input is bad.
func yamlNodes(data []byte) (docs []*yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("yaml: cannot be read")
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		switch err := dec.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return nil, err
		case len(doc.Content) > 0:
			docs = append(docs, doc.Content[0])
		}
	}
}
