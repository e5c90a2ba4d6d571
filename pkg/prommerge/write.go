package prommerge

import (
	"encoding/binary"
	"io"
	"sync"
)

const (
	writeSize   = 128 << 10 // how much is gathered before it is written
	directWrite = 64 << 10  // longer runs are written from where they are
	ahead       = 8         // how many runs are touched before they are copied
)

const endOfPage = "# EOF\n" // of OpenMetrics

var writePool = sync.Pool{New: func() any { b := make([]byte, 0, writeSize); return &b }}

// pageWriter gathers small runs of bytes and counts what it writes.
type pageWriter struct {
	w   io.Writer
	buf []byte
	n   int64
	err error
}

func (w *pageWriter) flush() {
	if w.err == nil && len(w.buf) > 0 {
		var n int
		n, w.err = w.w.Write(w.buf)
		w.n += int64(n)
	}
	w.buf = w.buf[:0]
}

func (w *pageWriter) direct(b []byte) {
	w.flush()
	if w.err == nil {
		var n int
		n, w.err = w.w.Write(b)
		w.n += int64(n)
	}
}

// write writes the page of g in the syntax of wi.
func (g *grouping) write(to io.Writer, wi wire, omitMeta bool) (int64, error) {
	buf := writePool.Get().(*[]byte)
	w := pageWriter{w: to, buf: (*buf)[:0]}
	for _, f := range g.order {
		s := &g.slots[f]
		if len(w.buf) > writeSize/2 {
			w.flush()
		}
		switch {
		case wi == wireProto:
			w.buf = appendFamilyHead(w.buf, g.ix.fams[f].name, s, omitMeta)
		case !omitMeta:
			w.buf = appendMetadata(w.buf, g.ix.fams[f].name, s, wi)
		}
		g.copy(&w, s)
		if w.err != nil {
			break
		}
	}
	if wi == wireOpenMetrics {
		w.buf = append(w.buf, endOfPage...)
	}
	w.flush()
	*buf = w.buf
	if cap(w.buf) <= 2*writeSize {
		writePool.Put(buf)
	}
	return w.n, w.err
}

// size returns how many bytes write will write.
func (g *grouping) size(wi wire, omitMeta bool) int64 {
	var scratch [256]byte
	n := 0
	for _, f := range g.order {
		s := &g.slots[f]
		n += s.bytes
		switch {
		case s.lines != nil && wi != wireProto && !omitMeta && !s.hasUnit:
			n += len(s.lines)
		case wi == wireProto:
			n += len(appendFamilyHead(scratch[:0], g.ix.fams[f].name, s, omitMeta))
		case !omitMeta:
			n += len(appendMetadata(scratch[:0], g.ix.fams[f].name, s, wi))
		}
	}
	if wi == wireOpenMetrics {
		n += len(endOfPage)
	}
	return int64(n)
}

// copy writes the segs of one family. They lie all over memory, so the next few are touched before they are
// needed: the processor fetches them side by side instead of one after the other.
func (g *grouping) copy(w *pageWriter, s *slot) {
	refs := g.refs[s.at : s.at+s.count]
	var touched byte
	for len(refs) > 0 {
		batch := refs[:min(ahead, len(refs))]
		refs = refs[len(batch):]
		if len(refs) > 0 {
			for _, r := range batch {
				if r.n > 0 {
					touched ^= g.parts[r.part].chunks[r.chunk][r.off]
				}
			}
		}
		for _, r := range batch {
			b := g.bytes(r)
			if len(b) >= directWrite {
				w.direct(b)
				continue
			}
			if len(w.buf)+len(b) > writeSize {
				w.flush()
			}
			w.buf = append(w.buf, b...)
		}
		if w.err != nil {
			return
		}
	}
	g.touched = touched
}

func (g *grouping) bytes(r ref) []byte {
	if r.n == 0 {
		return nil
	}
	return g.parts[r.part].chunks[r.chunk][r.off : uint32(r.off)+r.n]
}

func appendMetadata(b []byte, name string, s *slot, w wire) []byte {
	b = append(b, s.lines...)
	if s.lines == nil && s.hasHelp {
		b = appendMetaLine(b, "HELP", name, s.help)
	}
	if s.lines == nil && s.typ != typNone {
		b = appendMetaLine(b, "TYPE", name, []byte(s.typ.name(w)))
	}
	if s.hasUnit && w == wireOpenMetrics {
		b = appendMetaLine(b, "UNIT", name, s.unit)
	}
	return b
}

// appendFamilyHead appends the length of a MetricFamily message and all of it but the metrics.
func appendFamilyHead(b []byte, name string, s *slot, omitMeta bool) []byte {
	if s.lines != nil && !omitMeta && !s.hasUnit {
		b = binary.AppendUvarint(b, uint64(len(s.lines)+s.bytes))
		return append(b, s.lines...)
	}
	var h [256]byte
	head := appendField(h[:0], 1, []byte(name))
	if s.hasHelp && !omitMeta {
		head = appendField(head, 2, s.help)
	}
	head = append(head, 3<<3, protoType(s.typ))
	if s.hasUnit && !omitMeta {
		head = appendField(head, 5, s.unit)
	}
	b = binary.AppendUvarint(b, uint64(len(head)+s.bytes))
	return append(b, head...)
}
