package spec

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

const (
	maxProcesses = 10_000
	maxCopied    = 10_000_000 // values that replicas copy
)

// checkNames finds names that are there twice, after replicas made theirs, and
// returns the entry behind each name: of a process, or the base of replicas.
func (d *decoder) checkNames() map[string]*entry {
	byName := map[string]*entry{}
	total, copied := 0, 0
	for _, e := range d.entries {
		if e.Name == "" {
			d.unsure = true
			continue
		}
		n := 1
		if e.Replicas != nil {
			n = *e.Replicas
		}
		place := e.at.get("name")
		total, copied = total+n, copied+n*e.visited
		if total > maxProcesses || copied > maxCopied {
			d.errorf(e.at.first("replicas"), "", "makes more than %d processes, or too large ones, with those before it", maxProcesses)
			d.unsure = true
			return byName
		}
		for _, name := range e.names() {
			if other := byName[name]; other != nil {
				d.duplicate(place, e, other, name)
				break
			}
			byName[name] = e
		}
	}
	return byName
}

func (d *decoder) duplicate(place *at, e, other *entry, name string) {
	where := fmt.Sprintf("first in line %d", other.at.node.Line)
	if other.at.file != e.at.file {
		where = "first in " + other.Source
	}
	if e.Name != other.Name {
		d.errorf(place, "replicas take name_0, name_1, … and the base name", "the name %s is taken twice, %s", quote(name), where)
		return
	}
	d.errorf(place, "give it another name, or use replicas", "the name %s is there twice, %s", quote(name), where)
}

// names are the names that an entry takes: with replicas the base name too.
func (e *entry) names() []string {
	names := []string{e.Name}
	if e.Replicas != nil {
		names = append(names, e.replicaNames()...)
	}
	return names
}

func (e *entry) replicaNames() []string {
	if e.Replicas == nil {
		return []string{e.Name}
	}
	names := make([]string, *e.Replicas)
	for i := range names {
		names[i] = e.Name + "_" + strconv.Itoa(i)
	}
	return names
}

// expand checks names and dependencies and returns the processes, or nil where
// there are errors.
func (d *decoder) expand() []*Process {
	byName := d.checkNames()
	if !d.unsure {
		d.cycles(d.resolve(byName), byName)
	}
	if len(d.errs) > 0 {
		return nil
	}
	var all []*Process
	for _, e := range d.entries {
		all = append(all, e.processes()...)
	}
	return all
}

// processes returns the process of e, or its replicas.
func (e *entry) processes() []*Process {
	names, base, deps := e.replicaNames(), e.Name, e.DependsOn
	e.DependsOn = nil
	out := make([]*Process, len(names))
	for i, name := range names {
		p := clone(&e.Process) // also of the last: e holds the whole file
		p.Name, p.Base, p.Replica, p.DependsOn = name, base, i, slices.Clone(deps)
		if l := p.Readiness.Lock; l != nil && l.Key == "" {
			l.Key = name
		}
		out[i] = p
	}
	return out
}

// resolve finds the processes of each dependency.
func (d *decoder) resolve(byName map[string]*entry) map[*entry][]dependency {
	graph := make(map[*entry][]dependency, len(d.entries))
	targets := map[string][]string{} // shared by all who depend on it
	for _, e := range d.entries {
		seen := map[string]bool{}
		for _, dep := range e.Deps {
			on := byName[dep.Name]
			switch {
			case on == nil:
				d.unknownDependency(dep, byName)
				continue
			case seen[dep.Name]:
				d.errorf(dep.at, "keep one of them", "%s is there twice", quote(dep.Name))
				continue
			}
			seen[dep.Name] = true
			if targets[dep.Name] == nil {
				targets[dep.Name] = []string{dep.Name}
				if dep.Name == on.Name {
					targets[dep.Name] = on.replicaNames()
				}
			}
			dep.Processes = targets[dep.Name]
			graph[e] = append(graph[e], dep)
			e.DependsOn = append(e.DependsOn, dep.Dependency)
			d.neverComes(dep, on)
		}
	}
	return graph
}

// neverComes warns of waiting for the end of what is started again.
func (d *decoder) neverComes(dep dependency, on *entry) {
	if dep.Condition == DependsCompleted && on.RestartPolicy == RestartAlways {
		d.warnf(dep.at, "give it restartPolicy: onFailure or never", "%s never completes: it is restarted always", quote(dep.Name))
	}
}

func (d *decoder) unknownDependency(dep dependency, byName map[string]*entry) {
	known := slices.Sorted(maps.Keys(byName))
	hint := didYouMean(dep.Name, known)
	if hint == "" {
		const most = 8
		hint = "known are " + strings.Join(known[:min(len(known), most)], ", ")
		if len(known) > most {
			hint += fmt.Sprintf(" and %d more", len(known)-most)
		}
	}
	d.errorf(dep.at, hint, "there is no process %s", quote(dep.Name))
}

// cycles reports each cycle of dependencies once. Replicas are copies, so a
// cycle of entries is one of processes and the other way round.
func (d *decoder) cycles(graph map[*entry][]dependency, byName map[string]*entry) {
	const walking, done = 1, 2
	state := map[*entry]int{}
	var way []*entry
	var visit func(e *entry)
	visit = func(e *entry) {
		state[e] = walking
		way = append(way, e)
		for _, dep := range graph[e] {
			switch on := byName[dep.Name]; state[on] {
			case walking:
				d.cycle(way[slices.Index(way, on):], dep)
			case 0:
				visit(on)
			}
		}
		way = way[:len(way)-1]
		state[e] = done
	}
	for _, e := range d.entries {
		if state[e] == 0 {
			visit(e)
		}
	}
}

func (d *decoder) cycle(way []*entry, dep dependency) {
	if len(way) == 1 {
		d.errorf(dep.at, "take it out", "%s depends on itself", way[0].Name)
		return
	}
	var names []string
	for _, e := range way[:min(len(way), 20)] {
		names = append(names, e.Name)
	}
	if len(way) > 20 {
		names = append(names, "…")
	}
	d.errorf(dep.at, "take one of these dependencies out", "depends on itself in a circle: %s → %s", strings.Join(names, " → "), way[0].Name)
}

// clone copies p and everything that it points to.
func clone(p *Process) *Process {
	c := *p
	own(reflect.ValueOf(&c).Elem())
	return &c
}

// own replaces in v what it shares with others by copies.
func own(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			to := reflect.New(v.Type().Elem())
			to.Elem().Set(v.Elem())
			own(to.Elem())
			v.Set(to)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			own(v.Field(i))
		}
	case reflect.Slice:
		if !v.IsNil() {
			to := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(to, v)
			for i := range to.Len() {
				own(to.Index(i))
			}
			v.Set(to)
		}
	case reflect.Map:
		if !v.IsNil() {
			to := reflect.MakeMapWithSize(v.Type(), v.Len())
			for it := v.MapRange(); it.Next(); {
				to.SetMapIndex(it.Key(), it.Value())
			}
			v.Set(to)
		}
	}
}
