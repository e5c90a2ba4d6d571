package prommerge

import (
	"bytes"
	"slices"
	"strings"
	"sync"
)

// family is what all targets of a merge share about one metric family. The index outlives a merge, so that a page
// which looks as it did last time is recognised line by line (helpLine, typeLine) without any parsing, and its
// families are found by trying the one that followed last time (succ).
type family struct {
	name  string // unescaped
	plain bool   // it needs no quotes
	succ  int32  // family that followed this one in some page, or -1

	help, unit         []byte // texts, as they stand in a page
	typ                typ
	helpLine, typeLine []byte // whole lines with their end, as they stand in a page; nil: unknown
	lines              []byte // both in a row, where both are known; in protobuf: the fields with name, help and type
	hasHelp, hasUnit   bool

	base   int32 // see index.base
	baseOf int   // how many families there were when base was looked for

	first  []byte   // metric name of its first line, where that can be compared with
	labels [][]byte // label names of that line
	shape  shape
}

// maxFamilies is how many names an index may know before it is thrown away instead of being used again: a target
// that invents names must not make it grow for ever.
const maxFamilies = 1 << 16

// index maps family names to small numbers. Scanners read it under RLock while they work on a block of bytes;
// new names go in under Lock, once per target that brought some.
type index struct {
	mu     sync.RWMutex
	byName map[string]int32
	fams   []family
	group  grouping
}

func newIndex() *index { return &index{byName: make(map[string]int32)} }

// after returns the family that followed prev in an earlier page, if its name is name.
func (ix *index) after(prev int32, name []byte) (int32, bool) {
	c := ix.guess(prev)
	if c < 0 || ix.fams[c].name != string(name) {
		return 0, false
	}
	return c, true
}

// guess returns the family that is likely to follow prev (-1: the first of a page), or -1.
func (ix *index) guess(prev int32) int32 {
	if prev >= 0 {
		return ix.fams[prev].succ
	}
	if len(ix.fams) > 0 {
		return 0
	}
	return -1
}

// base returns the family whose name is that of f without its last word, or -1.
func (ix *index) base(id int32) int32 {
	f := &ix.fams[id]
	if f.baseOf == len(ix.fams) {
		return f.base
	}
	f.base, f.baseOf = -1, len(ix.fams)
	if i := strings.LastIndexByte(f.name, '_'); i > 0 {
		if base, ok := ix.byName[f.name[:i]]; ok {
			f.base = base
		}
	}
	return f.base
}

// commit gives the families of p that were new their numbers.
func (ix *index) commit(p *part, relink bool) {
	if len(p.locals) == 0 && !relink {
		return
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if len(p.locals) > 0 {
		ix.resolve(p)
	}
	for _, m := range p.metas {
		if f := &ix.fams[m.fam]; m.kind == metaFirst && f.first == nil {
			f.learnFirst(bytes.Clone(p.text(m)))
		}
	}
	prev := int32(-1)
	for _, g := range p.segs {
		if prev >= 0 && prev != g.fam && ix.fams[prev].succ < 0 {
			ix.fams[prev].succ = g.fam
		}
		prev = g.fam
	}
}

func (ix *index) resolve(p *part) {
	ids := make([]int32, len(p.locals))
	for i, l := range p.locals {
		ids[i] = ix.add(p.extra[l.off : l.off+l.n])
	}
	for i := range p.segs {
		if f := p.segs[i].fam; f < 0 {
			p.segs[i].fam = ids[^f]
		}
	}
	for i := range p.metas {
		if f := p.metas[i].fam; f < 0 {
			p.metas[i].fam = ids[^f]
		}
	}
	for _, m := range p.metas { // the first page teaches the index, so that the next ones match
		f := &ix.fams[m.fam]
		if m.kind == metaHelp && f.helpLine == nil || m.kind == metaType && f.typeLine == nil || m.kind == metaUnit && !f.hasUnit {
			f.learn(m, p.text(m), p.wire)
		}
	}
}

// learnFirst makes the line that text describes what first lines of the family are compared with.
func (f *family) learnFirst(text []byte) {
	first, rest, more := bytes.Cut(text, []byte{'\n'})
	f.first = first
	for more {
		var t []byte
		t, rest, more = bytes.Cut(rest, []byte{'\n'})
		f.shape.add(t)
		f.labels = append(f.labels, t)
	}
}

func (ix *index) add(name []byte) int32 {
	if f, ok := ix.byName[string(name)]; ok {
		return f
	}
	f := int32(len(ix.fams))
	s := string(name)
	ix.byName[s] = f
	ix.fams = append(ix.fams, family{name: s, plain: plainMetric(s), succ: -1})
	return f
}

// learn makes m what pages are compared with.
func (f *family) learn(m meta, text []byte, w wire) {
	switch m.kind {
	case metaHelp:
		f.help, f.hasHelp = append([]byte(nil), text...), true
		f.helpLine = appendMetaLine(nil, "HELP", f.name, f.help)
	case metaType:
		f.typ = m.typ
		f.typeLine = appendMetaLine(nil, "TYPE", f.name, []byte(m.typ.name(w)))
	case metaUnit:
		f.unit, f.hasUnit = append([]byte(nil), text...), true
	}
	switch {
	case m.kind == metaUnit || f.helpLine == nil || f.typeLine == nil:
	case w == wireProto:
		f.lines = f.protoLines()
	default:
		f.lines = slices.Concat(f.helpLine, f.typeLine)
	}
}

func appendMetaLine(b []byte, what, name string, text []byte) []byte {
	b = append(append(append(b, "# "...), what...), ' ')
	b = append(appendMetricName(b, name), ' ')
	return append(append(b, text...), '\n')
}
