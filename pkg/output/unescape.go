package output

import (
	"unicode/utf16"
	"unicode/utf8"
)

// escapeLen returns the length of the escape sequence at the start of b, 0 where it is not one. JSON's are always taken,
// those that only Go's %q writes where goStyle is set.
func escapeLen(b []byte, goStyle bool) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		return hexLen(b, 4)
	}
	if !goStyle {
		return 0
	}
	switch b[1] {
	case 'a', 'v':
		return 2
	case 'x':
		return hexLen(b, 2)
	case 'U':
		if n := hexLen(b, 8); n > 0 && utf8.ValidRune(hexValue(b[2:n])) {
			return n
		}
	}
	return 0
}

// hexLen returns 2+n where n hex digits follow the two bytes of an escape, else 0.
func hexLen(b []byte, n int) int {
	if len(b) < 2+n {
		return 0
	}
	for _, c := range b[2 : 2+n] {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return 0
		}
	}
	return 2 + n
}

func hexValue(b []byte) (r rune) {
	for _, c := range b {
		d := rune(c)
		if c > '9' {
			d = rune(c|0x20) - 'a' + 10 + '0'
		}
		r = r<<4 | (d - '0')
	}
	return r
}

// unescape appends s, whose escapes escapeLen has accepted, without them.
func unescape(b, s []byte) []byte {
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			b = append(b, s[i])
			i++
			continue
		}
		n := max(escapeLen(s[i:], true), 1)
		switch esc := s[i : i+n]; n {
		case 2:
			b = append(b, simpleEscape(esc[1]))
		case 4:
			b = append(b, byte(hexValue(esc[2:])))
		case 6:
			b, n = appendRune16(b, s[i:])
		case 10:
			b = utf8.AppendRune(b, hexValue(esc[2:]))
		default:
			b = append(b, esc...)
		}
		i += n
	}
	return b
}

func simpleEscape(c byte) byte {
	switch c {
	case 'a':
		return '\a'
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'v':
		return '\v'
	}
	return c
}

// appendRune16 decodes \uXXXX or a pair of them and says how many bytes of s that took. A lone surrogate, which UTF-8
// cannot hold, is kept as it is written.
func appendRune16(b, s []byte) ([]byte, int) {
	const one, two = 6, 12
	r := hexValue(s[2:one])
	if !utf16.IsSurrogate(r) {
		return utf8.AppendRune(b, r), one
	}
	if len(s) >= two && s[one] == '\\' && s[one+1] == 'u' && escapeLen(s[one:], false) == one {
		if r = utf16.DecodeRune(r, hexValue(s[one+2:two])); r != utf8.RuneError {
			return utf8.AppendRune(b, r), two
		}
	}
	return append(b, s[:one]...), one
}
