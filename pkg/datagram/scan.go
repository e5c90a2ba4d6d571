package datagram

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// text returns a view of b, which must not change while it is in use.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plain returns how many bytes of b, from its start, are neither a quote, a
// backslash, a control character nor beyond ASCII.
func plain(b []byte) int {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote := w ^ (ones * '"')
		slash := w ^ (ones * '\\')
		// The lowest bit found is right; those above it may be carries.
		found := ((quote - ones) &^ quote) | ((slash - ones) &^ slash) | ((w - ones*0x20) &^ w) | w
		if found &= highs; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c == '"' || c == '\\' || c < 0x20 || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

func (d *Decoder) space() {
	for d.pos < len(d.buf) {
		switch d.buf[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

// next returns the next byte that is no white space, 0 at the end.
func (d *Decoder) next() byte {
	if d.pos < len(d.buf) && d.buf[d.pos] > ' ' {
		return d.buf[d.pos]
	}
	d.space()
	if d.pos < len(d.buf) {
		return d.buf[d.pos]
	}
	return 0
}

// wrong says why what is at pos is not what the format wants there.
func (d *Decoder) wrong() Reason {
	if d.pos >= len(d.buf) {
		return Truncated
	}
	return Syntax
}

// str reads a string whose quote is at pos.
func (d *Decoder) str() (string, Reason) {
	d.pos++
	from := d.pos
	d.pos += plain(d.buf[from:])
	if d.pos < len(d.buf) && d.buf[d.pos] == '"' {
		s := text(d.buf[from:d.pos])
		d.pos++
		return s, 0
	}
	return d.longStr(from)
}

// longStr is str for strings with escapes or letters beyond ASCII.
func (d *Decoder) longStr(from int) (string, Reason) {
	start := -1 // in the arena, once something was unescaped
	for {
		if d.pos >= len(d.buf) {
			return "", Truncated
		}
		switch c := d.buf[d.pos]; {
		case c == '"':
			part := d.buf[from:d.pos]
			d.pos++
			s := text(part)
			if start >= 0 {
				d.arena = append(d.arena, part...)
				s = text(d.arena[start:])
			}
			if !utf8.ValidString(s) {
				d.refuse(UTF8)
			}
			return s, 0
		case c == '\\':
			if start < 0 {
				start = len(d.arena)
			}
			d.arena = append(d.arena, d.buf[from:d.pos]...)
			if r := d.escape(); r != 0 {
				return "", r
			}
			from = d.pos
		case c < 0x20:
			return "", Syntax
		default:
			d.pos++
		}
		d.pos += plain(d.buf[d.pos:])
	}
}

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape adds what the escape at pos stands for to the arena.
func (d *Decoder) escape() Reason {
	if d.pos+1 >= len(d.buf) {
		return Truncated
	}
	c := d.buf[d.pos+1]
	if c != 'u' {
		if escapes[c] == 0 {
			return Syntax
		}
		d.arena = append(d.arena, escapes[c])
		d.pos += 2
		return 0
	}
	r, why := d.hex4(d.pos + 2)
	if why != 0 {
		return why
	}
	d.pos += 6
	if utf16.IsSurrogate(r) {
		r = d.pair(r)
	}
	d.arena = utf8.AppendRune(d.arena, r)
	return 0
}

// pair returns the rune of the surrogate high and the one at pos.
func (d *Decoder) pair(high rune) rune {
	if d.pos+6 <= len(d.buf) && d.buf[d.pos] == '\\' && d.buf[d.pos+1] == 'u' {
		if low, why := d.hex4(d.pos + 2); why == 0 {
			if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
				d.pos += 6
				return r
			}
		}
	}
	d.refuse(UTF8)
	return utf8.RuneError
}

func (d *Decoder) hex4(at int) (rune, Reason) {
	var r rune
	for i := range 4 {
		if at+i >= len(d.buf) {
			return 0, Truncated
		}
		c := d.buf[at+i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, Syntax
		}
		r = r<<4 | rune(c)
	}
	return r, 0
}

// number reads a number at pos; it is not finite where it does not fit.
func (d *Decoder) number() (float64, Reason) {
	b, from := d.buf, d.pos
	i := from
	if i < len(b) && b[i] == '-' {
		i++
	}
	digits := i
	var n uint64
	for i < len(b) && b[i]-'0' <= 9 {
		n = n*10 + uint64(b[i]-'0')
		i++
	}
	d.pos = i
	switch {
	case i == digits:
		return 0, d.wrong()
	case b[digits] == '0' && i > digits+1:
		return 0, Syntax
	case i >= len(b) || b[i] != '.' && b[i]|0x20 != 'e':
		if i-digits > 15 {
			break
		}
		if digits > from {
			return -float64(n), 0
		}
		return float64(n), 0
	default:
		if r := d.fraction(); r != 0 {
			return 0, r
		}
	}
	v, err := strconv.ParseFloat(text(b[from:d.pos]), 64)
	if err != nil {
		return math.Inf(1), 0
	}
	return v, 0
}

// fraction goes over what follows the whole part of a number.
func (d *Decoder) fraction() Reason {
	if d.buf[d.pos] == '.' {
		d.pos++
		if !d.digits() {
			return d.wrong()
		}
	}
	if d.pos < len(d.buf) && d.buf[d.pos]|0x20 == 'e' {
		d.pos++
		if d.pos < len(d.buf) && (d.buf[d.pos] == '+' || d.buf[d.pos] == '-') {
			d.pos++
		}
		if !d.digits() {
			return d.wrong()
		}
	}
	return 0
}

func (d *Decoder) digits() bool {
	from := d.pos
	for d.pos < len(d.buf) && d.buf[d.pos]-'0' <= 9 {
		d.pos++
	}
	return d.pos > from
}

// word goes over null, true or false.
func (d *Decoder) word(w string) Reason {
	have := d.buf[d.pos:min(len(d.buf), d.pos+len(w))]
	if text(have) != w[:len(have)] {
		return Syntax
	}
	d.pos += len(have)
	if len(have) < len(w) {
		return Truncated
	}
	return 0
}

const maxDepth = 64

// skip goes over any value.
func (d *Decoder) skip(depth int) Reason {
	if depth > maxDepth {
		return Syntax
	}
	switch d.next() {
	case '"':
		_, r := d.str()
		return r
	case '{':
		return d.members(func(string) Reason { return d.skip(depth + 1) })
	case '[':
		return d.elements(func() Reason { return d.skip(depth + 1) })
	case 't':
		return d.word("true")
	case 'f':
		return d.word("false")
	case 'n':
		return d.word("null")
	}
	_, r := d.number()
	return r
}

// members calls f at each value of the object at pos.
func (d *Decoder) members(f func(key string) Reason) Reason {
	d.pos++
	if d.next() == '}' {
		d.pos++
		return 0
	}
	for {
		if d.next() != '"' {
			return d.wrong()
		}
		key, r := d.str()
		if r != 0 {
			return r
		}
		if d.next() != ':' {
			return d.wrong()
		}
		d.pos++
		d.space()
		if r := f(key); r != 0 {
			return r
		}
		switch d.next() {
		case ',':
			d.pos++
		case '}':
			d.pos++
			return 0
		default:
			return d.wrong()
		}
	}
}

// elements calls f at each element of the array at pos.
func (d *Decoder) elements(f func() Reason) Reason {
	d.pos++
	if d.next() == ']' {
		d.pos++
		return 0
	}
	for {
		if r := f(); r != 0 {
			return r
		}
		switch d.next() {
		case ',':
			d.pos++
		case ']':
			d.pos++
			return 0
		default:
			return d.wrong()
		}
	}
}
