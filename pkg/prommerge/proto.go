package prommerge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"unicode/utf8"
)

// Fields of io.prometheus.client messages, as in metrics.proto of prometheus/client_model.
const (
	fieldName   = 1 // MetricFamily
	fieldHelp   = 2
	fieldType   = 3
	fieldMetric = 4
	fieldUnit   = 5

	fieldLabel     = 1 // Metric
	fieldGauge     = 2
	fieldCounter   = 3
	fieldSummary   = 4
	fieldUntyped   = 5
	fieldMillis    = 6
	fieldHistogram = 7
)

// Wire types.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// protoTypes translates MetricType.
var protoTypes = [...]typ{typCounter, typGauge, typSummary, typUntyped, typHistogram, typGaugeHistogram}

// protoType returns the MetricType of t; what protobuf has no word for is untyped.
func protoType(t typ) byte {
	for i, p := range protoTypes {
		if p == t {
			return byte(i)
		}
	}
	return 3
}

var errProto = errors.New("malformed protobuf")

// field is one field of a message: its number, its wire type, its value and the whole record.
type field struct {
	num, wt  int
	val, rec []byte
	n        uint64 // a varint
}

// nextField splits the first field off b.
func nextField(b []byte) (f field, rest []byte, err error) {
	k, n := binary.Uvarint(b)
	if n <= 0 || k>>3 == 0 || k>>3 > 1<<29-1 {
		return f, nil, errProto
	}
	f.num, f.wt = int(k>>3), int(k&7)
	end := n
	switch f.wt {
	case wireVarint:
		v, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return f, nil, errProto
		}
		f.n = v
		end += m
	case wireFixed64:
		end += 8
	case wireFixed32:
		end += 4
	case wireBytes:
		l, m := binary.Uvarint(b[n:])
		if m <= 0 || l > uint64(len(b)-n-m) {
			return f, nil, errProto
		}
		n += m
		end = n + int(l)
	default:
		return f, nil, errProto
	}
	if end > len(b) {
		return f, nil, errProto
	}
	f.val, f.rec = b[n:end], b[:end]
	return f, b[end:], nil
}

func appendField(b []byte, num byte, v []byte) []byte {
	return append(binary.AppendUvarint(append(b, num<<3|wireBytes), uint64(len(v))), v...)
}

// appendLabelPair appends the label field of a Metric.
func appendLabelPair(b, name, value []byte) []byte {
	n := fieldLen(len(name)) + fieldLen(len(value))
	b = binary.AppendUvarint(append(b, fieldLabel<<3|wireBytes), uint64(n))
	return appendField(appendField(b, 1, name), 2, value)
}

// fieldLen returns the length of a field with a number below 16 and n bytes.
func fieldLen(n int) int { return 1 + uvarintLen(uint64(n)) + n }

func uvarintLen(n uint64) int {
	l := 1
	for n >= 0x80 {
		n >>= 7
		l++
	}
	return l
}

var protoPool = sync.Pool{New: func() any { return &protoScanner{seen: map[string]struct{}{}} }}

func newProtoScanner(p *part, ix *index, inj *injection, esc escaping) *protoScanner {
	s := protoPool.Get().(*protoScanner)
	s.start(p, ix)
	s.inj, s.esc = inj, esc
	return s
}

func (s *protoScanner) release() {
	clear(s.labs[:cap(s.labs)]) // they refer to the page
	clear(s.last[:cap(s.last)])
	clear(s.like[:cap(s.like)])
	*s = protoScanner{labs: s.labs[:0], last: s.last[:0], like: s.like[:0], names: s.names[:0], rest: s.rest[:0], seen: s.seen}
	protoPool.Put(s)
}

// protoScanner splices labels into delimited MetricFamily messages. Nothing is decoded that need not be looked at:
// a label pair is appended to each Metric (repeated fields may come in any order) and lengths are rewritten.
type protoScanner struct {
	builder
	inj  *injection
	esc  escaping
	labs []lab
	last []lab // of the metric before, of the same family: mostly the same names
	same bool  // all names so far are those of last, which were good

	alike bool     // the next metric may be compared with like
	like  [][]byte // label names that were good, of the metric before or of an earlier page

	own   bool // the family in hand is called like one of the merger's
	names []byte
	rest  []byte // of a Metric: all but its labels
	seen  map[string]struct{}
}

// head is a MetricFamily without its metrics.
type head struct {
	name, help, unit []byte
	typ              typ
	hasHelp, hasUnit bool
}

// message splices one MetricFamily.
func (s *protoScanner) message(msg []byte) error {
	s.names, s.labs, s.last, s.like, s.alike = s.names[:0], s.labs[:0], s.last[:0], s.like[:0], false // they refer to the message before
	if n := s.knownHead(msg); n > 0 {
		return s.metrics(msg[n:])
	}
	h, err := readHead(msg)
	if err != nil {
		return err
	}
	if s.esc != allowUTF8 && !plainMetric(h.name) {
		s.names = s.esc.appendName(s.names, h.name, isName)
		h.name = s.names
	}
	s.family(h.name)
	s.typ, s.own = h.typ, isOwn(h.name)
	s.metadata(&h)
	return s.metrics(msg)
}

// metrics splices all metrics among the fields b, which are well formed.
func (s *protoScanner) metrics(b []byte) error {
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return err
		}
		if f.num == fieldMetric && !s.fast(f.val) {
			if err := s.metric(f.val); err != nil {
				return fmt.Errorf("%w in %q", err, s.name)
			}
		}
		b = rest
	}
	return nil
}

// readHead reads all of msg but its metrics, and checks it.
func readHead(msg []byte) (h head, err error) {
	for len(msg) > 0 {
		f, rest, err := nextField(msg)
		if err != nil {
			return h, err
		}
		if !familySpec.allows(f) {
			return h, errProto
		}
		switch f.num {
		case fieldName:
			h.name = f.val
		case fieldHelp:
			h.help, h.hasHelp = f.val, true
		case fieldUnit:
			h.unit, h.hasUnit = f.val, true
		case fieldType:
			if f.n >= uint64(len(protoTypes)) {
				return h, errors.New("an unknown metric type")
			}
			h.typ = protoTypes[f.n]
		}
		msg = rest
	}
	if h.typ == typNone {
		h.typ = typCounter // 0, which is not written
	}
	if !goodName(h.name) || !utf8.Valid(h.help) || !utf8.Valid(h.unit) {
		return h, errors.New("a name, help or unit that is empty or not UTF-8")
	}
	return h, nil
}

var unknownFamily family

func (s *protoScanner) metadata(h *head) {
	f := &unknownFamily
	if s.fam >= 0 {
		f = &s.ix.fams[s.fam]
	}
	if h.hasHelp {
		if f.hasHelp && string(f.help) == string(h.help) {
			s.known(segHelp)
		} else {
			s.note(metaHelp, typNone, h.help)
		}
	}
	if f.typ == h.typ {
		s.known(segType)
	} else {
		s.note(metaType, h.typ, nil)
	}
	if h.hasUnit {
		if f.hasUnit && string(f.unit) == string(h.unit) {
			s.known(segUnit)
		} else {
			s.note(metaUnit, typNone, h.unit)
		}
	}
}

// metric splices one Metric.
func (s *protoScanner) metric(m []byte) error {
	canonical, err := s.checkMetric(m)
	if err != nil {
		return err
	}
	s.p.samples++
	if canonical && !s.own && !s.inj.clash(s.labs) {
		s.learn()
		s.splice(m)
		return nil
	}
	s.alike = false
	return s.rewrite(m)
}

// checkMetric reads the labels of m and checks the rest. canonical says that no label needs to be escaped.
func (s *protoScanner) checkMetric(m []byte) (canonical bool, err error) {
	if len(m) >= maxRecord {
		return false, errors.New("a metric that is too long")
	}
	s.labs, s.last = s.last[:0], s.labs
	s.same, canonical = true, true
	values := 0
	for len(m) > 0 {
		f, rest, err := nextField(m)
		switch {
		case err != nil:
			return false, err
		case !metricSpec.allows(f):
			return false, errProto
		case f.num == fieldLabel:
			err = s.label(f.val, &canonical)
		case f.num >= fieldGauge && f.num <= fieldHistogram && f.num != fieldMillis:
			values++
			err = checkValue(f)
		}
		if err != nil {
			return false, err
		}
		m = rest
	}
	if values > 1 {
		return false, errors.New("a metric with several values")
	}
	if s.same && len(s.labs) == len(s.last) {
		return canonical, nil // the one before had the same names
	}
	if what := badLabels(s.labs, s.seen); what != "" {
		return false, errors.New(what)
	}
	return canonical, nil
}

// rewrite writes the labels of m anew, each with the name that it goes out with.
func (s *protoScanner) rewrite(m []byte) error {
	s.rest = s.rest[:0]
	inj := s.inj.forMetric([]byte(s.name), s.labs)
	for i := range inj.labels {
		if l := &inj.labels[i]; inj.honor != HonorKeep || !inj.givesWay(l, s.labs) {
			s.rest = append(s.rest, l.proto...)
		}
	}
	for i := range s.labs {
		if name, drop := inj.resolve(&s.labs[i], s.labs); !drop {
			s.rest = appendLabelPair(s.rest, name, s.labs[i].value)
		}
	}
	for b := m; len(b) > 0; {
		f, rest, err := nextField(b)
		if err != nil {
			return err
		}
		if f.num != fieldLabel {
			s.rest = append(s.rest, f.rec...)
		}
		b = rest
	}
	o := s.room(fieldLen(len(s.rest)))
	s.out = appendField(o, fieldMetric, s.rest)
	return nil
}
