package spec

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// ignored are the keys that were accepted and do nothing, for one warning.
type ignored struct {
	first *at
	keys  []string // in the order of their first place
	who   map[string][]string
}

// add notes a key, by its path below the process.
func (g *ignored) add(a *at) {
	process, key := "", a.path()
	top := a
	for top.up != nil && top.up.up != nil {
		top = top.up
	}
	if top.up != nil && top.up.node.Kind == yaml.SequenceNode {
		process = top.path()
		key = strings.TrimPrefix(key[len(process):], ".")
	}
	if g.who == nil {
		g.first, g.who = a, map[string][]string{}
	}
	if _, ok := g.who[key]; !ok {
		g.keys = append(g.keys, key)
	}
	g.who[key] = append(g.who[key], process)
}

// warn adds the one warning that lists them all.
func (g *ignored) warn(d *decoder) {
	if len(g.keys) == 0 {
		return
	}
	const most = 5
	var parts []string
	for _, k := range g.keys {
		who := g.who[k]
		part := k
		if who[0] != "" {
			names := strings.Join(who[:min(len(who), most)], ", ")
			if len(who) > most {
				names += fmt.Sprintf(" and %d more", len(who)-most)
			}
			part += " (" + names + ")"
		}
		parts = append(parts, part)
		if len(parts) == 50 {
			parts = append(parts, "…")
			break
		}
	}
	w := d.problem(g.first.onKey(), "", "ignored, since it does nothing for a process: "+strings.Join(parts, ", "))
	w.Path = ""
	d.warnings = append(d.warnings, w)
}
