package prommerge

import (
	"encoding/binary"
	"math"
	"strconv"
)

// protoText is the state of turning protobuf metrics into lines of text.
type protoText struct {
	labels []byte // of the metric in hand, as they stand between braces
	millis []byte // its timestamp with a blank before it, or nothing
}

// protoSeg converts the Metric records of one family. They were checked before.
func (c *converter) protoSeg(name string, s *slot, b []byte) error {
	t := s.typ
	if t == typGaugeHistogram {
		t = typHistogram
	}
	c.open(name, s, t)
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return err
		}
		if err := c.protoMetric(f.val, t); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

func (c *converter) protoMetric(m []byte, t typ) error {
	c.proto.labels, c.proto.millis = c.proto.labels[:0], c.proto.millis[:0]
	var value field
	for b := m; len(b) > 0; {
		f, rest, err := nextField(b)
		if err != nil {
			return err
		}
		switch f.num {
		case fieldLabel:
			c.proto.labels = appendPairText(c.proto.labels, f.val)
		case fieldMillis:
			if int64(f.n) < 0 {
				return errNegative
			}
			if f.n > 0 { // as Prometheus sees it, 0 is none
				c.proto.millis = strconv.AppendUint(append(c.proto.millis, ' '), f.n, 10)
			}
		case fieldGauge, fieldCounter, fieldUntyped, fieldSummary, fieldHistogram:
			value = f
		}
		b = rest
	}
	switch t {
	case typHistogram:
		c.histogram(value.val)
	case typSummary:
		c.summary(value.val)
	default:
		c.number("", "", 0, first64(value.val, 1))
	}
	return nil
}

var errNegative = &targetError{reason: reasonConvert, err: errProto}

func appendPairText(w, pair []byte) []byte {
	var name, value []byte
	for len(pair) > 0 {
		f, rest, err := nextField(pair)
		if err != nil {
			return w
		}
		if f.num == 1 {
			name = f.val
		} else if f.num == 2 {
			value = f.val
		}
		pair = rest
	}
	if len(w) > 0 {
		w = append(w, ',')
	}
	if plainLabel(name) {
		w = append(w, name...)
	} else {
		w = appendQuoted(w, name)
	}
	return appendQuoted(append(w, '='), value)
}

// number writes one line: the name of the family and suffix, the labels of the metric and one more if key is set.
func (c *converter) number(suffix, key string, bound, v float64) {
	w := c.begin(suffix, key, bound)
	w = appendFloat(append(w, ' '), v)
	c.end(w)
}

func (c *converter) count(suffix, key string, bound float64, n uint64) {
	w := c.begin(suffix, key, bound)
	w = strconv.AppendUint(append(w, ' '), n, 10)
	c.end(w)
}

func (c *converter) begin(suffix, key string, bound float64) []byte {
	w := c.line[:0]
	if plainMetric(c.name) {
		w = append(append(append(w, c.name...), suffix...), '{')
	} else {
		w = append(append(appendEscaped(append(w, '{', '"'), c.name), suffix...), '"', ',')
	}
	w = append(w, c.proto.labels...)
	if key != "" {
		w = append(append(append(w, ','), key...), '=', '"')
		w = append(appendFloat(w, bound), '"')
	}
	return append(w, '}')
}

func (c *converter) end(w []byte) {
	c.line = append(append(w, c.proto.millis...), '\n')
	c.append(c.line)
}

func appendFloat(w []byte, v float64) []byte {
	switch {
	case math.IsInf(v, 1):
		return append(w, "+Inf"...)
	case math.IsInf(v, -1):
		return append(w, "-Inf"...)
	}
	return strconv.AppendFloat(w, v, 'g', -1, 64)
}

// summary writes the lines of a summary.
func (c *converter) summary(b []byte) {
	var n uint64
	var sum float64
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return
		}
		switch f.num {
		case 1:
			n = f.n
		case 2:
			sum = double(f.val)
		case 3:
			c.number("", "quantile", first64(f.val, 1), first64(f.val, 2))
		}
		b = rest
	}
	c.number("_sum", "", 0, sum)
	c.count("_count", "", 0, n)
}

// histogram writes the lines of a histogram. What is native about it has no form in text.
func (c *converter) histogram(b []byte) {
	h := tally{}
	var sum float64
	inf := false
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return
		}
		switch f.num {
		case 1:
			h.n = f.n
		case 4:
			h.float = double(f.val)
		case 2:
			sum = double(f.val)
		case 3:
			le := first64(f.val, 2)
			inf = inf || math.IsInf(le, 1)
			c.tally("_bucket", "le", le, bucketTally(f.val))
		}
		b = rest
	}
	if !inf {
		c.tally("_bucket", "le", math.Inf(1), h)
	}
	c.number("_sum", "", 0, sum)
	c.tally("_count", "", 0, h)
}

// tally is a count that is an integer or, where that is above zero, a float.
type tally struct {
	n     uint64
	float float64
}

func (c *converter) tally(suffix, key string, bound float64, t tally) {
	if t.float > 0 {
		c.number(suffix, key, bound, t.float)
		return
	}
	c.count(suffix, key, bound, t.n)
}

func bucketTally(b []byte) (t tally) {
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return t
		}
		switch f.num {
		case 1:
			t.n = f.n
		case 4:
			t.float = double(f.val)
		}
		b = rest
	}
	return t
}

// first64 returns the double in field num of b, or 0.
func first64(b []byte, num int) (v float64) {
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil {
			return v
		}
		if f.num == num && f.wt == wireFixed64 {
			v = double(f.val)
		}
		b = rest
	}
	return v
}

func double(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) }
