package prommerge

import (
	"encoding/binary"
)

// knownHead handles the fields of a message before its metrics, if they are exactly those which the index expects
// here and nothing but metrics comes after them. It returns their length, or 0.
func (s *protoScanner) knownHead(msg []byte) int {
	next := s.ix.guess(s.prev)
	if next < 0 {
		return 0
	}
	f := &s.ix.fams[next]
	if !isLine(msg, f.lines) || !f.plain && s.esc != allowUTF8 || !onlyMetrics(msg[len(f.lines):]) {
		return 0
	}
	s.enter(next)
	s.known(segHelp | segType)
	s.typ, s.own = f.typ, isOwn([]byte(f.name))
	if f.first != nil && !s.own && !s.inj.clashes(f.labels) {
		s.alike = true
		s.like = append(s.like, f.labels...)
	}
	return len(f.lines)
}

// onlyMetrics reports whether b is a sequence of fields that hold a metric.
func onlyMetrics(b []byte) bool {
	for len(b) > 1 {
		if b[0] != fieldMetric<<3|wireBytes {
			return false
		}
		l, n := uint64(b[1]), 1
		if l >= 0x80 {
			l, n = binary.Uvarint(b[1:])
		}
		if n <= 0 || l > uint64(len(b)-1-n) {
			return false
		}
		b = b[1+n+int(l):]
	}
	return len(b) == 0
}

// fast splices a metric whose labels are called like those of the one before and whose value is one number. It
// reports whether it did.
func (s *protoScanner) fast(m []byte) bool {
	if !s.alike || len(m) >= maxRecord {
		return false
	}
	j := 0
	for _, name := range s.like {
		// A label of n bytes: 0a n (0a len name) (12 len value), the lengths below 128.
		p := m[j:]
		k := 4 + len(name)
		if len(p) < 2+k || p[0] != fieldLabel<<3|wireBytes || p[2] != 1<<3|wireBytes || int(p[3]) != len(name) ||
			string(p[4:k]) != string(name) || p[k] != 2<<3|wireBytes {
			return false
		}
		n, v := int(p[1]), int(p[k+1])
		if n >= 0x80 || v != n-k || len(p) < 2+n {
			return false
		}
		j += 2 + n
	}
	if !asciiOnly(m[:j]) || !plainValue(m[j:]) {
		return false
	}
	s.p.samples++
	s.splice(m)
	return true
}

// plainValue reports whether b is a gauge, a counter or an untyped value that is nothing but a number.
func plainValue(b []byte) bool {
	if len(b) != 11 || b[1] != 9 || b[2] != 1<<3|wireFixed64 {
		return false
	}
	return b[0] == fieldGauge<<3|wireBytes || b[0] == fieldCounter<<3|wireBytes || b[0] == fieldUntyped<<3|wireBytes
}

// learn notes the label names of the metric in hand, which are good, for the next one and for the index.
func (s *protoScanner) learn() {
	s.alike = true
	s.like = s.like[:0]
	for i := range s.labs {
		s.like = append(s.like, s.labs[i].name)
	}
	if s.fam >= 0 && s.ix.fams[s.fam].first != nil || len(s.out) > s.open || !plainMetric(s.name) {
		return
	}
	b := append(s.rest[:0], s.name...)
	for _, name := range s.like {
		if !plainLabel(name) {
			return
		}
		b = append(append(b, '\n'), name...)
	}
	s.rest = b
	meta := s.meta
	s.note(metaFirst, typNone, b)
	s.meta, s.miss = meta, true
}

// splice appends the added labels to m as it stands.
func (s *protoScanner) splice(m []byte) {
	n := len(m) + len(s.inj.proto)
	o := s.out
	if cap(o)-len(o) < n+1+binary.MaxVarintLen32 {
		o = s.room(n + 1 + binary.MaxVarintLen32)
	}
	o = append(o, fieldMetric<<3|wireBytes)
	if n < 0x80 {
		o = append(o, byte(n))
	} else {
		o = binary.AppendUvarint(o, uint64(n))
	}
	s.out = append(append(o, m...), s.inj.proto...)
}

// protoLines returns the fields of a message before its metrics, as Go and most others write them.
func (f *family) protoLines() []byte {
	b := appendField(nil, fieldName, []byte(f.name))
	b = appendField(b, fieldHelp, f.help)
	return append(b, fieldType<<3|wireVarint, protoType(f.typ))
}
