package prommerge

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

// fieldSpec is what may stand in a field.
type fieldSpec struct {
	num, wt int
	packed  bool     // numbers that may also come packed into bytes
	text    bool     // bytes that must be UTF-8
	sub     *message // bytes that are a message
}

// message is the wire-level schema of a message: enough to be sure that a decoder takes it, no more.
type message struct{ fields []fieldSpec }

func (m *message) spec(num int) *fieldSpec {
	for i := range m.fields {
		if m.fields[i].num == num {
			return &m.fields[i]
		}
	}
	return nil
}

// allows reports whether f has the wire type that its number calls for. Unknown fields pass, as in any decoder.
func (m *message) allows(f field) bool {
	s := m.spec(f.num)
	return s == nil || s.wt == f.wt || s.packed && f.wt == wireBytes
}

func num(n, wt int) fieldSpec             { return fieldSpec{num: n, wt: wt} }
func nums(n, wt int) fieldSpec            { return fieldSpec{num: n, wt: wt, packed: true} }
func str(n int) fieldSpec                 { return fieldSpec{num: n, wt: wireBytes, text: true} }
func msg(n int, sub *message) fieldSpec   { return fieldSpec{num: n, wt: wireBytes, sub: sub} }
func schema(fields ...fieldSpec) *message { return &message{fields: fields} }

var (
	labelSpec     = schema(str(1), str(2))
	timestampSpec = schema(num(1, wireVarint), num(2, wireVarint))
	exemplarSpec  = schema(msg(1, labelSpec), num(2, wireFixed64), msg(3, timestampSpec))
	spanSpec      = schema(num(1, wireVarint), num(2, wireVarint))
	bucketSpec    = schema(num(1, wireVarint), num(2, wireFixed64), msg(3, exemplarSpec), num(4, wireFixed64))
	quantileSpec  = schema(num(1, wireFixed64), num(2, wireFixed64))
	plainSpec     = schema(num(1, wireFixed64))
	counterSpec   = schema(num(1, wireFixed64), msg(2, exemplarSpec), msg(3, timestampSpec))
	summarySpec   = schema(num(1, wireVarint), num(2, wireFixed64), msg(3, quantileSpec), msg(4, timestampSpec))
	histogramSpec = schema(num(1, wireVarint), num(2, wireFixed64), msg(3, bucketSpec), num(4, wireFixed64),
		num(5, wireVarint), num(6, wireFixed64), num(7, wireVarint), num(8, wireFixed64),
		msg(9, spanSpec), nums(10, wireVarint), nums(11, wireFixed64),
		msg(12, spanSpec), nums(13, wireVarint), nums(14, wireFixed64), msg(15, timestampSpec), msg(16, exemplarSpec))
	metricSpec = schema(msg(fieldLabel, labelSpec), msg(fieldGauge, plainSpec), msg(fieldCounter, counterSpec),
		msg(fieldSummary, summarySpec), msg(fieldUntyped, plainSpec), num(fieldMillis, wireVarint),
		msg(fieldHistogram, histogramSpec))
	familySpec = schema(str(fieldName), str(fieldHelp), num(fieldType, wireVarint), msg(fieldMetric, metricSpec), str(fieldUnit))
)

// check walks b and all messages in it.
func (m *message) check(b []byte) error {
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return err
		}
		b = rest
		s := m.spec(f.num)
		if s == nil {
			continue
		}
		if err := s.check(f); err != nil {
			return err
		}
	}
	return nil
}

func (s *fieldSpec) check(f field) error {
	switch {
	case s.packed && f.wt == wireBytes:
		if _, ok := packedCount(f.val, s.wt); !ok {
			return errProto
		}
	case s.wt != f.wt:
		return errProto
	case s.sub != nil:
		return s.sub.check(f.val)
	case s.text && !utf8.Valid(f.val):
		return errors.New("text that is not UTF-8")
	}
	return nil
}

// packedCount returns how many numbers are packed in b.
func packedCount(b []byte, wt int) (int, bool) {
	if wt == wireFixed64 {
		return len(b) / 8, len(b)%8 == 0
	}
	n := 0
	for len(b) > 0 {
		_, k := binary.Uvarint(b)
		if k <= 0 {
			return 0, false
		}
		b = b[k:]
		n++
	}
	return n, true
}

// checkValue checks the value of a Metric.
func checkValue(f field) error {
	if err := metricSpec.spec(f.num).check(f); err != nil {
		return err
	}
	if f.num == fieldHistogram {
		return checkBuckets(f.val)
	}
	return nil
}

// checkBuckets refuses a native histogram whose spans promise more or fewer buckets than it has: Prometheus would
// refuse the whole page for it.
func checkBuckets(b []byte) error {
	var h bucketCount
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return err
		}
		b = rest
		h.add(f)
	}
	have := h.deltas
	if h.float || h.counts != [2]uint64{} {
		have = h.counts
	}
	if h.native && h.spans != have {
		return errors.New("a native histogram whose spans do not match its buckets")
	}
	return nil
}

// bucketCount counts the buckets of a native histogram, negative and positive ones.
type bucketCount struct {
	spans, deltas, counts [2]uint64
	native, float         bool
}

func (h *bucketCount) add(f field) {
	switch f.num {
	case 4, 8:
		h.float = h.float || positive(f.val)
	case 6:
		h.native = h.native || positive(f.val)
	case 7:
		h.native = h.native || f.n > 0
	case 9, 12:
		h.native = true
		h.spans[(f.num-9)/3] += spanLength(f.val)
	case 10, 13:
		h.deltas[(f.num-10)/3] += numbers(f)
	case 11, 14:
		h.counts[(f.num-11)/3] += numbers(f)
	}
}

// positive reports whether the little-endian double b is above zero.
func positive(b []byte) bool {
	bits := binary.LittleEndian.Uint64(b)
	return bits>>63 == 0 && bits != 0 && bits <= 0x7ff0000000000000
}

func numbers(f field) uint64 {
	if f.wt != wireBytes {
		return 1
	}
	wt := wireVarint
	if f.num == 11 || f.num == 14 {
		wt = wireFixed64
	}
	n, _ := packedCount(f.val, wt)
	return uint64(n)
}

func spanLength(b []byte) uint64 {
	n := uint64(0)
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return n
		}
		if f.num == 2 {
			n = f.n & (1<<32 - 1)
		}
		b = rest
	}
	return n
}
