package prommerge

import (
	"sync"
)

// Chunks are the units in which spliced output is kept until the page is written. A part begins with small ones, so
// that the unused end of the last is a small share of it; a long part goes on with large ones, which are written
// from where they are.
const (
	chunkSize   = 16 << 10
	chunkLarge  = 128 << 10
	smallChunks = 16
)

type (
	chunk [chunkSize]byte
	large [chunkLarge]byte
)

var (
	chunkPool = sync.Pool{New: func() any { return new(chunk) }}
	largePool = sync.Pool{New: func() any { return new(large) }}
	partPool  = sync.Pool{New: func() any { return new(part) }}
)

// What a seg says about the metadata of its family, beside its bytes.
const (
	segHelp    uint8 = 1 << iota // the target's HELP is the one that the index holds
	segType                      // … its TYPE
	segUnit                      // … its UNIT
	segCreated                   // the bytes are _created series of OpenMetrics
)

// seg is a run of spliced bytes of one family in one chunk of a part. There is one per family and target at least,
// so its size is what grouping costs in cache.
type seg struct {
	fam   int32 // in the index; ^n is the n-th family of part.locals, until commit
	chunk int32
	off   int32
	n     uint32 // length and, in the top byte, flags
}

const segLenMask = 1<<24 - 1

func (g seg) len() int     { return int(g.n & segLenMask) }
func (g seg) flags() uint8 { return uint8(g.n >> 24) }

type metaKind uint8

const (
	metaHelp metaKind = iota // 1<<metaHelp is segHelp, and so on
	metaType
	metaUnit
	metaFirst // not metadata: what the first line of the family looks like, for the index
)

// meta is metadata of a family that differs from what the index holds. Its text lies in part.extra; for a TYPE
// only typ counts.
type meta struct {
	fam    int32
	seg    int32 // where in the page it stands: with this seg
	off, n int32
	kind   metaKind
	typ    typ
}

// local is a family whose name the index did not know when the target was scanned.
type local struct{ off, n int32 }

// part is what one target contributes: its lines (or protobuf records) with the labels already in them, in the
// order of its page, cut into families.
type part struct {
	wire    wire
	chunks  [][]byte
	segs    []seg
	metas   []meta
	locals  []local
	extra   []byte // names of locals, texts of metas
	samples int
	bytes   int // spliced bytes
}

func newPart(w wire) *part {
	p := partPool.Get().(*part)
	p.wire = w
	return p
}

// release hands the memory of p on. Nothing may refer to its bytes afterwards.
func (p *part) release() {
	for i, c := range p.chunks {
		switch cap(c) {
		case chunkSize:
			chunkPool.Put((*chunk)(c[:chunkSize]))
		case chunkLarge:
			largePool.Put((*large)(c[:chunkLarge]))
		}
		p.chunks[i] = nil
	}
	*p = part{chunks: p.chunks[:0], segs: p.segs[:0], metas: p.metas[:0], locals: p.locals[:0], extra: p.extra[:0]}
	if cap(p.segs) > 1<<14 || cap(p.extra) > 1<<18 { // one huge target must not fatten every pooled part
		*p = part{}
	}
	partPool.Put(p)
}

// data returns the bytes of one seg.
func (p *part) data(g seg) []byte {
	if g.len() == 0 { // it may be in a chunk that was never begun
		return nil
	}
	return p.chunks[g.chunk][g.off : int(g.off)+g.len()]
}

// text returns the text of a meta.
func (p *part) text(m meta) []byte { return p.extra[m.off : m.off+m.n] }

// keep copies b into p.extra.
func (p *part) keep(b []byte) (off, n int32) {
	off = int32(len(p.extra))
	p.extra = append(p.extra, b...)
	return off, int32(len(b))
}

// builder appends spliced bytes to a part, family by family.
type builder struct {
	p     *part
	ix    *index
	out   []byte // chunk under construction: len is what is used
	open  int    // where the current seg starts in out
	fam   int32  // current family, noFamily at first
	prev  int32  // last family that the index knew: its successor is tried first
	typ   typ    // its TYPE in this page
	named bool   // fam is set
	meta  bool   // metadata was seen since the last seg: a seg is due even without samples
	flags uint8
	said  uint8  // metadata that the current seg has, as flags: from the index or not
	miss  bool   // the index can learn from this part
	name  string // of the current family
}

func (b *builder) start(p *part, ix *index) {
	*b = builder{p: p, ix: ix, prev: -1}
}

// family makes name the current family: what is appended from now on belongs to it. The caller holds ix.mu.
func (b *builder) family(name []byte) {
	b.cut()
	b.typ = typNone
	b.named = true
	f, ok := b.ix.after(b.prev, name)
	if !ok {
		f, ok = b.ix.byName[string(name)]
		b.miss = true
	}
	if ok {
		b.fam, b.prev, b.name = f, f, b.ix.fams[f].name
		return
	}
	b.name = string(name)
	off, n := b.p.keep(name)
	b.p.locals = append(b.p.locals, local{off, n})
	b.fam = ^int32(len(b.p.locals) - 1)
}

// enter makes a family of the index the current one.
func (b *builder) enter(f int32) {
	b.cut()
	b.typ = typNone
	b.named = true
	b.fam, b.prev, b.name = f, f, b.ix.fams[f].name
}

// cut ends the current seg.
func (b *builder) cut() {
	n := len(b.out) - b.open
	if n == 0 && !b.meta && b.flags == 0 {
		return
	}
	b.p.segs = append(b.p.segs, seg{fam: b.fam, chunk: int32(max(len(b.p.chunks)-1, 0)), off: int32(b.open),
		n: uint32(n) | uint32(b.flags)<<24})
	b.p.bytes += n
	b.open = len(b.out)
	b.flags, b.said, b.meta = 0, 0, false
}

// room returns the chunk under construction with room for n bytes more, starting a new one where there is none.
func (b *builder) room(n int) []byte {
	if cap(b.out)-len(b.out) >= n {
		return b.out
	}
	created := b.flags & segCreated
	if len(b.out) > b.open {
		b.cut()
		b.flags = created
	}
	b.seal()
	switch {
	case n <= chunkSize && len(b.p.chunks) < smallChunks:
		b.out = chunkPool.Get().(*chunk)[:0]
	case n <= chunkLarge:
		b.out = largePool.Get().(*large)[:0]
	default:
		b.out = make([]byte, 0, n) // a record longer than a chunk has one to itself
	}
	b.p.chunks = append(b.p.chunks, b.out)
	b.open = 0
	return b.out
}

// seal stores the length of the chunk under construction.
func (b *builder) seal() {
	if k := len(b.p.chunks); k > 0 {
		b.p.chunks[k-1] = b.out
	}
}

// held is about how much memory the part takes up: its bytes, and what there is for each run, name and text.
func (b *builder) held() int64 {
	p := b.p
	return int64(p.bytes+len(b.out)-b.open+len(p.extra)) + 32*int64(len(p.segs)) + 24*int64(len(p.metas)) + 512*int64(len(p.locals))
}

// append adds raw bytes to the current family.
func (b *builder) append(v []byte) {
	o := b.room(len(v))
	b.out = append(o, v...)
}

// known notes that the index holds what the page says here, unless the page has said something of the kind before: the
// first counts.
func (b *builder) known(flag uint8) bool {
	if b.said&flag != 0 {
		return false
	}
	b.flags |= flag
	b.said |= flag
	return true
}

// note records metadata of the current family that the index does not hold.
func (b *builder) note(k metaKind, t typ, text []byte) {
	b.meta = true
	b.said |= 1 << k
	m := meta{fam: b.fam, seg: int32(len(b.p.segs)), kind: k, typ: t}
	m.off, m.n = b.p.keep(text)
	b.p.metas = append(b.p.metas, m)
}

// finish ends the part: afterwards its segs and chunks are complete. Only a good one adds names to the index.
func (b *builder) finish(good bool) {
	b.cut()
	b.seal()
	if good {
		b.ix.commit(b.p, b.miss)
	}
}
