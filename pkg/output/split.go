package output

import (
	"bytes"
	"unicode/utf8"
)

// part says which part of a line a record is.
type part uint8

const (
	whole part = iota
	first
	middle
	last
)

// keepBytes is the largest buffer that a stream keeps while it holds no partial line.
const keepBytes = 256

// splitter cuts a stream into lines of at most max bytes. Where it cuts depends on the bytes only, not on how they were
// read. It holds at most max+1 bytes.
type splitter struct {
	max     int
	partial []byte
	spent   int  // so many bytes of partial were handed out as a record
	inside  bool // the line has been cut before
}

// next returns the first record of chunk and what follows it. It is valid until the next call. ok is false when there is
// no whole record; the rest is kept then.
func (s *splitter) next(chunk []byte) (rec, rest []byte, p part, ok bool) {
	end := bytes.IndexByte(chunk, '\n')
	if end >= 0 && end <= s.max && len(s.partial) == 0 {
		return chunk[:end], chunk[end+1:], s.close(), true
	}
	return s.join(chunk, end)
}

// join is next where a record is not simply a piece of the chunk.
func (s *splitter) join(chunk []byte, end int) (rec, rest []byte, p part, ok bool) {
	if s.spent > 0 {
		s.forget()
		return s.next(chunk)
	}
	have := len(s.partial)
	switch terminated := end >= 0; {
	case !terminated && have+len(chunk) <= s.max:
		s.keep(chunk)
		return nil, nil, whole, false
	case terminated && have+end <= s.max:
		s.keep(chunk[:end])
		s.spent = len(s.partial)
		return s.partial, chunk[end+1:], s.close(), true
	case have == 0:
		cut := runeCut(chunk, s.max)
		return chunk[:cut], chunk[cut:], s.cut(), true
	default:
		more := s.max + 1 - have
		s.keep(chunk[:more])
		s.spent = runeCut(s.partial, s.max)
		return s.partial[:s.spent], chunk[more:], s.cut(), true
	}
}

// end returns what follows the last newline.
func (s *splitter) end() (rec []byte, p part, ok bool) {
	s.forget()
	rec = s.partial
	s.partial = nil
	if len(rec) == 0 {
		return nil, whole, false
	}
	return rec, s.close(), true
}

// empty reports whether nothing of a line is held.
func (s *splitter) empty() bool { return len(s.partial) == s.spent && !s.inside }

func (s *splitter) close() part {
	if s.inside {
		s.inside = false
		return last
	}
	return whole
}

func (s *splitter) cut() part {
	if s.inside {
		return middle
	}
	s.inside = true
	return first
}

func (s *splitter) keep(b []byte) {
	if need := len(s.partial) + len(b); need > cap(s.partial) {
		grown := make([]byte, len(s.partial), min(max(need, 2*cap(s.partial), 64), s.max+1))
		copy(grown, s.partial)
		s.partial = grown
	}
	s.partial = append(s.partial, b...)
}

func (s *splitter) forget() {
	s.partial = s.partial[:copy(s.partial, s.partial[s.spent:])]
	if s.spent = 0; len(s.partial) == 0 && cap(s.partial) > keepBytes {
		s.partial = nil
	}
}

// runeCut returns the last index ≤ n at which no rune of b is torn; n itself where b is not UTF-8 there. b is longer than n.
func runeCut(b []byte, n int) int {
	for cut := n; cut > 0 && cut > n-utf8.UTFMax; cut-- {
		if utf8.RuneStart(b[cut]) {
			return cut
		}
	}
	return n
}
