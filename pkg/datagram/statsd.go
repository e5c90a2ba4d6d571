package datagram

import (
	"bytes"
	"io"
	"math"
	"strconv"
	"unicode/utf8"
)

// StatsD reads lines of the statsd protocol:
//
//	name:value|c|@rate|#tag:value,tag:value
//
// with the types c (inc), g (set; add with a sign), ms, h and d (obs; ms as
// seconds). Its zero value is ready; it reuses its memory.
type StatsD struct {
	rest   []byte
	m      Message
	labels Decoder // for its sorted labels
}

// Reset makes s read a datagram.
func (s *StatsD) Reset(b []byte) { s.rest = b }

// Next returns the next message, good until the next call. The error is a
// [Reason] for a line that is refused, or io.EOF.
func (s *StatsD) Next() (*Message, error) {
	for len(s.rest) > 0 {
		line, rest, _ := bytes.Cut(s.rest, []byte{'\n'})
		s.rest = rest
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if !utf8.Valid(line) {
			return nil, UTF8
		}
		if why := s.line(line); why != 0 {
			return nil, why
		}
		return &s.m, nil
	}
	return nil, io.EOF
}

func (s *StatsD) line(line []byte) Reason {
	i := bytes.LastIndexByte(beforeTags(line), ':')
	if i <= 0 {
		return Syntax
	}
	if i > maxName {
		return Name
	}
	s.m = Message{Name: text(line[:i])}
	s.labels.soft, s.labels.labels = 0, s.labels.labels[:0]
	value, rest, ok := bytes.Cut(line[i+1:], []byte{'|'})
	if !ok || len(value) == 0 {
		return Syntax
	}
	kind, rest, _ := bytes.Cut(rest, []byte{'|'})
	rate := 1.0
	for len(rest) > 0 {
		var field []byte
		field, rest, _ = bytes.Cut(rest, []byte{'|'})
		if why := s.field(field, &rate); why != 0 {
			return why
		}
	}
	if why := s.value(value, text(kind), rate); why != 0 {
		return why
	}
	s.m.Labels = s.labels.labels
	if reserved(s.m.Labels) {
		return Reserved
	}
	return s.labels.soft
}

// beforeTags returns the line up to its first pipe, as tags hold colons too.
func beforeTags(line []byte) []byte {
	before, _, _ := bytes.Cut(line, []byte{'|'})
	return before
}

func (s *StatsD) field(field []byte, rate *float64) Reason {
	switch {
	case len(field) == 0:
		return Syntax
	case field[0] == '@':
		r, err := strconv.ParseFloat(text(field[1:]), 64)
		if err != nil || !(r > 0 && r <= 1) {
			return Sample
		}
		*rate = r
	case field[0] == '#':
		for tag := range bytes.SplitSeq(field[1:], []byte{','}) {
			if len(tag) == 0 {
				continue
			}
			name, value, _ := bytes.Cut(tag, []byte{':'})
			s.labels.addLabel(text(name), text(value))
		}
	}
	return 0 // others, such as a container's id, say nothing that we keep
}

func (s *StatsD) value(b []byte, kind string, rate float64) Reason {
	v, err := strconv.ParseFloat(text(b), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return Value
	}
	switch kind {
	case "c":
		s.m.Op, v = Inc, v/rate
		if v < 0 {
			return Negative
		}
		if math.IsInf(v, 0) {
			return Value
		}
	case "g":
		s.m.Op = Set
		if b[0] == '+' || b[0] == '-' {
			s.m.Op = Add
		}
	case "ms":
		s.m.Op, v = Obs, v/1000
	case "h", "d":
		s.m.Op = Obs
	default:
		return Sample
	}
	s.m.Value = v
	return 0
}
