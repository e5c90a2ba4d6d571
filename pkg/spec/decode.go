package spec

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// maxAliased bounds the values that are reached through aliases, in all files
// of one load together.
const maxAliased = 200_000

// at is a place in a config: a value, and how one gets there.
type at struct {
	up      *at
	file    string
	step    string // key, or name of the process; "" for an element of a list
	index   int
	key     *yaml.Node // of a pair, else nil
	node    *yaml.Node // never an alias
	aliased bool
	pairs   []pair // of a map, once read
}

type pair struct {
	name       string
	key, value *yaml.Node
	aliased    bool
}

// path names the place: api.readiness.http.url, api.args[2].
func (a *at) path() string {
	if a.up == nil {
		return a.step
	}
	up := a.up.path()
	switch {
	case a.step == "" && a.key != nil:
		return up + `.""`
	case a.step == "":
		return up + "[" + strconv.Itoa(a.index) + "]"
	}
	step, value, _ := strings.Cut(a.step, "=")
	if value != "" {
		step += "=…" // {PASSWORD=hunter2} is a key
	}
	if len(step) > maxName || strings.ContainsFunc(step, func(r rune) bool { return !unicode.IsPrint(r) }) {
		step = quote(step)
	}
	return strings.TrimPrefix(up+"."+step, ".")
}

// get returns the value of a key of a map that has been read, or nil. It and
// those below have so many callers that copies in each are 10 KB of binary.
//
//go:noinline
func (a *at) get(key string) *at {
	for _, p := range a.pairs {
		if p.name == key {
			return a.member(p)
		}
	}
	return nil
}

// first returns the value of the first of keys that is there, else a.
func (a *at) first(keys ...string) *at {
	for _, k := range keys {
		if m := a.get(k); m != nil {
			return m
		}
	}
	return a
}

//go:noinline
func (a *at) member(p pair) *at {
	return &at{up: a, file: a.file, step: p.name, key: p.key, node: p.value, aliased: p.aliased}
}

// onKey is the same place, to be reported at its key.
//
//go:noinline
func (a *at) onKey() *at {
	if a.key == nil {
		return a
	}
	c := *a
	c.node = a.key
	return &c
}

// decoder collects what is found in the files of one load.
type decoder struct {
	unsure   bool // of names: something that has one could not be read
	stuck    *at  // where aliases became too many
	errs     Errors
	more     int // errors beyond maxProblems
	warnings Errors
	ignored  ignored
	aliased  int
	visited  int
	entries  []*entry
	ports    map[string]int // named ports of the process being read
	shapes   map[*object]*shape
}

func (d *decoder) problem(a *at, hint, msg string) *Error {
	return &Error{File: a.file, Line: a.node.Line, Column: a.node.Column, Path: a.path(), Msg: msg, Hint: hint}
}

func (d *decoder) errorf(a *at, hint, format string, args ...any) {
	if len(d.errs) >= maxProblems {
		d.more++
		return
	}
	d.errs = append(d.errs, d.problem(a, hint, fmt.Sprintf(format, args...)))
}

func (d *decoder) warnf(a *at, hint, format string, args ...any) {
	if len(d.warnings) < maxProblems {
		d.warnings = append(d.warnings, d.problem(a, hint, fmt.Sprintf(format, args...)))
	}
}

// visit follows an alias at a and counts the value. It panics with errBudget
// when aliases multiply beyond reason; the load recovers that.
func (d *decoder) visit(a *at) {
	for hops := 0; a.node.Kind == yaml.AliasNode && hops < 100; hops++ {
		a.node, a.aliased = a.node.Alias, true
	}
	d.visited++
	if a.aliased {
		if d.aliased++; d.aliased > maxAliased {
			d.stuck = a
			panic(errBudget)
		}
	}
}

// elements returns the places of a list.
func (d *decoder) elements(a *at, want string) ([]*at, bool) {
	if a.node.Kind != yaml.SequenceNode {
		hint := ""
		if a.node.Kind == yaml.ScalarNode && a.node.Tag != "!!null" {
			hint = "write it as a list: [a, b]"
		}
		d.wrongKind(a, want, hint)
		return nil, false
	}
	list := make([]*at, len(a.node.Content))
	for i, n := range a.node.Content {
		list[i] = &at{up: a, file: a.file, index: i, node: n, aliased: a.aliased}
		d.visit(list[i])
	}
	return list, true
}

// members reads the pairs of a map into a. Duplicate keys are reported. hint
// is for what is no map.
func (d *decoder) members(a *at, hint string) bool {
	if a.node.Kind != yaml.MappingNode {
		d.wrongKind(a, "a map", hint)
		return false
	}
	seen := map[string]*yaml.Node{}
	a.pairs = d.ownPairs(a, a.node, seen, nil, 0)
	return true
}

func (d *decoder) ownPairs(a *at, n *yaml.Node, seen map[string]*yaml.Node, pairs []pair, depth int) []pair {
	var merges []*yaml.Node
	own := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		k := &at{up: a, file: a.file, step: key.Value, node: key, aliased: a.aliased || depth > 0}
		d.visit(k)
		switch {
		case k.node.Tag == "!!merge":
			merges = append(merges, value)
		case k.node.Kind != yaml.ScalarNode || k.node.Tag == "!!null":
			k.step = "?"
			d.errorf(k, "write a name before the colon", "a key wants to be a string, not %s", describe(k.node))
		case own[k.node.Value]:
			k.step = k.node.Value
			d.errorf(k, "keep one of them", "is there twice, first in line %d", seen[k.node.Value].Line)
		default:
			own[k.node.Value] = true
			if seen[k.node.Value] != nil {
				continue // merged in, and overridden here
			}
			seen[k.node.Value] = key
			p := pair{name: k.node.Value, key: key, value: value, aliased: k.aliased}
			m := a.member(p)
			d.visit(m)
			p.value, p.aliased = m.node, m.aliased
			pairs = append(pairs, p)
		}
	}
	for _, m := range merges {
		pairs = d.merge(a, m, seen, pairs, depth+1)
	}
	return pairs
}

// merge adds the pairs of a "<<" value: a map or a list of maps.
func (d *decoder) merge(a *at, n *yaml.Node, seen map[string]*yaml.Node, pairs []pair, depth int) []pair {
	m := &at{up: a, file: a.file, step: "<<", node: n, aliased: true}
	d.visit(m)
	switch {
	case depth > 10:
		d.errorf(m, "", "merges are nested more than ten deep")
	case m.node.Kind == yaml.MappingNode:
		return d.ownPairs(a, m.node, seen, pairs, depth)
	case m.node.Kind == yaml.SequenceNode:
		for _, e := range m.node.Content {
			pairs = d.merge(a, e, seen, pairs, depth+1)
		}
	default:
		d.errorf(m, "merge an alias of a map: <<: *name", "wants a map, is %s", describe(m.node))
	}
	return pairs
}

// scalar returns the text of a value as it is written.
func (d *decoder) scalar(a *at, want string) (string, bool) {
	if a.node.Kind != yaml.ScalarNode || a.node.Tag == "!!null" {
		d.wrongKind(a, want, "")
		return "", false
	}
	if tag := a.node.Tag; a.node.Style&yaml.TaggedStyle != 0 && tag != "!!str" || tag == "!!binary" {
		d.errorf(a, "quote a value that starts with !", "has a tag, which means nothing here")
		return "", false
	}
	if strings.ContainsRune(a.node.Value, 0) {
		d.errorf(a, "take it out", "holds a NUL byte")
		return "", false
	}
	return a.node.Value, true
}

// wrongKind never shows the value: it may be a secret in the wrong place.
func (d *decoder) wrongKind(a *at, want, hint string) {
	if a.node.Kind == yaml.ScalarNode && a.node.Tag == "!!null" {
		empty := map[string]string{"a map": "write {} or ", "a list": "write [] or "}
		hint = empty[want] + "take the key out"
		if a.key == nil {
			hint = "take it out"
		}
		d.errorf(a, hint, "is empty, wants %s", want)
		return
	}
	d.errorf(a, hint, "wants %s, is %s", want, describe(a.node))
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a map"
	case yaml.AliasNode:
		return "an alias of itself"
	}
	switch n.Tag {
	case "!!null":
		return "empty"
	case "!!bool":
		return "a boolean"
	case "!!int", "!!float":
		return "a number"
	}
	return "a string"
}
