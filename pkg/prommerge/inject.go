package prommerge

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// HonorLabels says what happens to a label of a target's series that has the name of a label which the merge adds.
type HonorLabels uint8

// The names are those of Prometheus: HonorRename is its honor_labels: false, HonorKeep its honor_labels: true.
const (
	HonorRename   HonorLabels = iota // the target's label becomes exported_<name>
	HonorKeep                        // the target's label stays, the added one is left out
	HonorOverride                    // the target's label is dropped
)

const exported = "exported_"

// label is one label that is added to every series of a target.
type label struct {
	name  string // escaped for the answer
	value string // as it is
	pair  []byte // in a text page: name="value"
	proto []byte // in protobuf: the whole LabelPair field of a Metric
}

// injection is all that is added to the series of one target.
type injection struct {
	labels []label
	text   []byte // all pairs, with commas between
	proto  []byte // all LabelPair fields
	honor  HonorLabels

	target  string            // what it was made from
	from    map[string]string // …
	renamer *injection        // the same with HonorRename, for series called like the merger's own
	claimer *injection        // … that do not say which target they are about
}

// newInjection prepares the labels of t: process_name first, the others by name.
func newInjection(t *Target, honor HonorLabels, esc escaping) *injection {
	in := &injection{honor: honor, labels: make([]label, 0, 1+len(t.Labels)), target: t.Name, from: maps.Clone(t.Labels)}
	in.add(LabelName, t.Name, esc)
	if len(t.Labels) > 0 {
		names := make([]string, 0, len(t.Labels))
		for n := range t.Labels {
			names = append(names, n)
		}
		slices.Sort(names)
		for _, n := range names {
			if n != LabelName {
				in.add(n, t.Labels[n], esc)
			}
		}
	}
	in.join()
	in.renamer = in
	if honor != HonorRename {
		in.renamer = in.copy()
	}
	in.claimer = in.copy()
	about := exported + LabelName
	for in.adds([]byte(about)) {
		about = exported + about
	}
	in.claimer.add(about, t.Name, esc)
	in.claimer.join()
	return in
}

// copy returns in with HonorRename.
func (in *injection) copy() *injection {
	return &injection{honor: HonorRename, labels: slices.Clone(in.labels), text: in.text, proto: in.proto}
}

// join puts the labels together.
func (in *injection) join() {
	in.text, in.proto = nil, nil
	for i, l := range in.labels {
		if i > 0 {
			in.text = append(in.text, ',')
		}
		in.text = append(in.text, l.pair...)
		in.proto = append(in.proto, l.proto...)
	}
}

func (in *injection) add(name, value string, esc escaping) {
	name = string(esc.appendName(nil, []byte(name), isLabel))
	if !goodName([]byte(name)) || name == "__name__" || in.adds([]byte(name)) {
		return // it would make every line of the page invalid
	}
	l := label{name: name, value: strings.ToValidUTF8(value, "\uFFFD")}
	if plainLabel(name) {
		l.pair = append(l.pair, name...)
	} else {
		l.pair = appendQuoted(l.pair, name)
	}
	l.pair = appendQuoted(append(l.pair, '='), l.value)
	l.proto = appendLabelPair(nil, []byte(l.name), []byte(l.value))
	in.labels = append(in.labels, l)
}

// fits reports whether in is what newInjection would return for t.
func (in *injection) fits(t *Target) bool {
	if t.Name != in.target || len(t.Labels) != len(in.from) {
		return false
	}
	for n, v := range t.Labels {
		if w, ok := in.from[n]; !ok || w != v {
			return false
		}
	}
	return true
}

// forMetric returns what to add to a series called name. A target may have series that are called like ours, for it is
// a merger itself or pretends to be one. Theirs keep the name and say with one more label whom they are about.
func (in *injection) forMetric(name []byte, labs []lab) *injection {
	if !bytes.HasPrefix(name, []byte(ownPrefix)) {
		return in
	}
	about := slices.ContainsFunc(labs, func(l lab) bool { return string(l.name) == LabelName && len(l.value) > 0 })
	if isOwn(name) && !about {
		return in.claimer
	}
	return in.renamer
}

// clash reports whether one of labs has a name that is added.
func (in *injection) clash(labs []lab) bool {
	for i := range labs {
		if in.adds(labs[i].name) {
			return true
		}
	}
	return false
}

// clashes is clash for names alone.
func (in *injection) clashes(names [][]byte) bool {
	for _, n := range names {
		if in.adds(n) {
			return true
		}
	}
	return false
}

func (in *injection) adds(name []byte) bool {
	for i := range in.labels {
		if in.labels[i].name == string(name) {
			return true
		}
	}
	return false
}

// kept reports whether l makes the added label of its name give way.
func (in *injection) kept(l *lab) bool { return in.honor == HonorKeep && len(l.value) > 0 }

// appendTo appends the added labels that labs do not keep out.
func (in *injection) appendTo(w []byte, labs []lab) []byte {
	if in.honor != HonorKeep {
		return append(w, in.text...)
	}
	at := len(w)
	for i := range in.labels {
		if in.givesWay(&in.labels[i], labs) {
			continue
		}
		if len(w) > at {
			w = append(w, ',')
		}
		w = append(w, in.labels[i].pair...)
	}
	return w
}

func (in *injection) givesWay(l *label, labs []lab) bool {
	for i := range labs {
		if string(labs[i].name) == l.name && in.kept(&labs[i]) {
			return true
		}
	}
	return false
}

// resolve returns the name under which l goes out, and whether it is dropped. An empty label is none.
func (in *injection) resolve(l *lab, labs []lab) (name []byte, drop bool) {
	if !in.adds(l.name) {
		return l.name, false
	}
	if in.kept(l) {
		return l.name, false
	}
	if in.honor == HonorOverride || len(l.value) == 0 {
		return nil, true
	}
	name = append([]byte(exported), l.name...)
	for in.adds(name) || in.taken(name, l, labs) {
		name = append([]byte(exported), name...)
	}
	return name, false
}

// taken reports whether one of labs is called name, or will be when it is renamed. Shorter names are renamed first.
func (in *injection) taken(name []byte, l *lab, labs []lab) bool {
	for i := range labs {
		o := &labs[i]
		if bytes.Equal(o.name, name) {
			return true
		}
		if len(o.name) < len(l.name) && in.adds(o.name) {
			if n, drop := in.resolve(o, labs); !drop && bytes.Equal(n, name) {
				return true
			}
		}
	}
	return false
}
