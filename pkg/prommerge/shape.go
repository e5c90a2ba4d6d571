package prommerge

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// shape is what the labels of a line look like, without their values: `a="` `,b="`. Lines of a family mostly share
// it. Its tokens are compared as machine words.
type shape struct {
	text []byte
	toks []token
}

// token is one label name with what surrounds it: its first 16 bytes as two words under masks, and where it ends
// in shape.text.
type token struct {
	words, masks [2]uint64
	start, end   int
}

func (h *shape) reset() { h.text, h.toks = h.text[:0], h.toks[:0] }

// add appends a label name.
func (h *shape) add(name []byte) {
	t := token{start: len(h.text)}
	if t.start > 0 {
		h.text = append(h.text, ',')
	}
	h.text = append(append(h.text, name...), '=', '"')
	t.end = len(h.text)
	var w, m [16]byte
	for i := range copy(w[:], h.text[t.start:]) {
		m[i] = 0xff
	}
	for i := range t.words {
		t.words[i] = binary.LittleEndian.Uint64(w[8*i:])
		t.masks[i] = binary.LittleEndian.Uint64(m[8*i:])
	}
	h.toks = append(h.toks, t)
}

// match compares the labels at b[j:] and returns the index after the closing brace; 0 where they differ or need a
// closer look.
func (h *shape) match(b []byte, j int) int {
	if len(h.toks) == 0 {
		return 0
	}
	for i := range h.toks {
		t := &h.toks[i]
		if len(b)-j < 16 {
			return 0
		}
		if (le64(b[j:])^t.words[0])&t.masks[0]|(le64(b[j+8:])^t.words[1])&t.masks[1] != 0 {
			return 0
		}
		k := t.end - t.start
		if k > 16 && (j+k > len(b) || string(b[j+16:j+k]) != string(h.text[t.start+16:t.end])) {
			return 0
		}
		if j = valueEnd(b, j+k); j == 0 {
			return 0
		}
	}
	if b[j] != '}' {
		return 0
	}
	return j + 1
}

const quotes = 0x2222222222222222

// valueEnd returns the index after the quote that ends the label value at b[j:]; 0 where a closer look is needed.
func valueEnd(b []byte, j int) int {
	if len(b)-j < 8 {
		return 0
	}
	w := le64(b[j:]) ^ quotes
	w = (w - 0x0101010101010101) & ^w & 0x8080808080808080
	k := j + bits.TrailingZeros64(w)>>3
	if w == 0 {
		k = bytes.IndexByte(b[j+8:], '"')
		if k < 0 {
			return 0
		}
		k += j + 8
	}
	if k >= len(b) || k > j && (b[k-1] == '\\' || b[k-1] == 0) {
		return 0
	}
	return k + 1
}

func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// asciiOnly reports whether b holds no byte above 127.
func asciiOnly(b []byte) bool {
	var or uint64
	for len(b) >= 64 {
		or |= le64(b) | le64(b[8:]) | le64(b[16:]) | le64(b[24:]) | le64(b[32:]) | le64(b[40:]) | le64(b[48:]) | le64(b[56:])
		b = b[64:]
	}
	for ; len(b) >= 8; b = b[8:] {
		or |= le64(b)
	}
	for _, c := range b {
		or |= uint64(c)
	}
	return or&0x8080808080808080 == 0
}

// validIn reports whether labels are UTF-8 and have no newline, which the answer must escape.
func (s *scanner) validIn(labels []byte) bool {
	return bytes.IndexByte(labels, '\n') < 0 && (s.ascii || utf8.Valid(labels))
}
