package prommerge

import (
	"math/bits"
	"slices"
	"strings"
)

// slot is what one merge knows about one family.
type slot struct {
	help, unit       []byte
	lines            []byte // HELP and TYPE as they are written, where the index has them
	hasHelp, hasUnit bool
	seen             bool
	folded           bool // its series go to the family into
	typ              typ
	types            uint16 // every TYPE that was seen, as bits
	into             int32
	count, at        int32 // segs, and where they begin in grouping.refs
	bytes            int
}

// ref is a seg with the part that it is in.
type ref struct {
	part, chunk, off int32
	n                uint32
}

// grouping brings the segs of all parts into the order of the page: family by family, within a family target by
// target. It is a counting sort: two walks over the segs, which lie in memory as they are walked.
type grouping struct {
	ix    *index
	slots []slot  // by family
	order []int32 // families in the order in which they were first seen; later: as they are written
	refs  []ref
	parts []*part

	touched byte // keeps the compiler from removing the look ahead
}

func (g *grouping) reset(ix *index) {
	g.ix = ix
	g.order, g.refs = g.order[:0], g.refs[:0]
	clear(g.parts)
	g.parts = g.parts[:0]
	g.slots = g.slots[:0]
	g.grow()
}

// grow makes a slot for every family of the index.
func (g *grouping) grow() {
	n := len(g.slots)
	g.slots = slices.Grow(g.slots, len(g.ix.fams)-n)[:len(g.ix.fams)]
	clear(g.slots[n:])
}

// add counts the segs of p and takes from its metadata what no earlier part had.
func (g *grouping) add(p *part) {
	g.grow()
	g.parts = append(g.parts, p)
	metas := p.metas
	for i := range p.segs {
		q := &p.segs[i]
		s := &g.slots[q.fam]
		if !s.seen {
			s.seen = true
			s.into = q.fam
			g.order = append(g.order, q.fam)
		}
		s.count++
		s.bytes += q.len()
		if fl := q.flags(); fl&(segHelp|segType|segUnit) != 0 {
			s.known(&g.ix.fams[q.fam], fl)
		}
		for len(metas) > 0 && int(metas[0].seg) == i {
			s.meta(metas[0], p.text(metas[0]))
			metas = metas[1:]
		}
	}
}

// known notes metadata that a part has in common with the index.
func (s *slot) known(f *family, flags uint8) {
	if flags&segHelp != 0 && !s.hasHelp {
		s.help, s.hasHelp = f.help, true
	}
	if flags&segUnit != 0 && !s.hasUnit {
		s.unit, s.hasUnit = f.unit, true
	}
	if flags&segType != 0 {
		s.setType(f.typ)
	}
}

func (s *slot) meta(m meta, text []byte) {
	switch {
	case m.kind == metaType:
		s.setType(m.typ)
	case m.kind == metaHelp && !s.hasHelp:
		s.help, s.hasHelp = text, true
	case m.kind == metaUnit && !s.hasUnit:
		s.unit, s.hasUnit = text, true
	}
}

func (s *slot) setType(t typ) {
	s.types |= 1 << t
	if s.typ == typNone {
		s.typ = t
	}
}

// conflicts returns how many TYPEs are left out because another target said otherwise.
func (g *grouping) conflicts() int {
	n := 0
	for _, f := range g.order {
		s := &g.slots[f]
		k := bits.OnesCount16(s.types)
		if k > 0 && !s.folded {
			k--
		}
		n += k
	}
	return n
}

// fold gives families whose name is that of a child of a histogram or summary (counter, …) to that family: one
// target may have x_count on its own where x is a summary of another. Its own TYPE would contradict that of x.
func (g *grouping) fold(w wire) {
	if w == wireProto {
		return
	}
	for _, f := range g.order {
		if into, ok := g.parent(f, w); ok {
			g.slots[f].folded, g.slots[f].into = true, into
		}
	}
	for _, f := range g.order {
		if s := &g.slots[f]; s.folded {
			g.slots[s.into].count += s.count
			g.slots[s.into].bytes += s.bytes
		}
	}
	g.order = slices.DeleteFunc(g.order, func(f int32) bool { return g.slots[f].folded })
}

// parent returns the family that f is a child of.
func (g *grouping) parent(f int32, w wire) (int32, bool) {
	base := g.ix.base(f)
	if base < 0 || !g.slots[base].seen {
		return 0, false
	}
	suffix := g.ix.fams[f].name[len(g.ix.fams[base].name):]
	if !slices.Contains(g.slots[base].typ.suffixes(w), suffix) {
		return 0, false
	}
	if _, child := g.parent(base, w); child {
		return 0, false
	}
	return base, true
}

// finish brings the segs into their order.
func (g *grouping) finish(sorted bool) {
	if sorted {
		slices.SortFunc(g.order, func(a, b int32) int { return strings.Compare(g.ix.fams[a].name, g.ix.fams[b].name) })
	}
	at := int32(0)
	for _, f := range g.order {
		g.slots[f].at = at
		at += g.slots[f].count
	}
	g.refs = slices.Grow(g.refs[:0], int(at))[:at]
	for pi, p := range g.parts {
		for i := range p.segs {
			q := &p.segs[i]
			s := &g.slots[g.slots[q.fam].into]
			g.refs[s.at] = ref{part: int32(pi), chunk: q.chunk, off: q.off, n: uint32(q.len())}
			s.at++
		}
	}
	for _, f := range g.order { // s.at is where the family ends now
		g.slots[f].at -= g.slots[f].count
	}
}

// shield gives a family without a TYPE that follows a histogram or summary one that says nothing: Prometheus 3 goes
// on to normalise the labels le and quantile until it sees another TYPE.
func (g *grouping) shield(w wire) {
	if w == wireProto {
		return
	}
	before := typNone
	for _, f := range g.order {
		s := &g.slots[f]
		if s.typ == typNone && (before == typHistogram || before == typSummary) {
			s.typ = typUntyped
		}
		if s.typ != typNone {
			before = s.typ
		}
	}
}

// relearn makes what this merge chose what the next one compares pages with.
func (g *grouping) relearn(w wire) {
	for _, id := range g.order {
		s, f := &g.slots[id], &g.ix.fams[id]
		if s.hasHelp && (!f.hasHelp || string(f.help) != string(s.help)) {
			f.learn(meta{kind: metaHelp}, s.help, w)
		}
		if s.typ != typNone && s.typ != f.typ {
			f.learn(meta{kind: metaType, typ: s.typ}, nil, w)
		}
		if s.hasHelp && s.typ != typNone {
			s.lines = f.lines
		}
		if s.hasUnit && (!f.hasUnit || string(f.unit) != string(s.unit)) {
			f.learn(meta{kind: metaUnit}, s.unit, w)
		}
	}
}
