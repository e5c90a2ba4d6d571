package output

import (
	"encoding/binary"
	"math/bits"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// bare reports whether a byte may stand in a value without quotes.
func bare(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '=' && c != '\\' }

// unsafeByte reports whether a byte may need an escape inside quotes.
func unsafeByte(c byte) bool { return c < ' ' || c >= 0x7f || c == '"' || c == '\\' }

// indexUnsafe returns the index of the first unsafeByte, or len(b). It looks at eight bytes at once: a borrow between
// bytes can only spoil bytes above a true hit, and the lowest hit is the one that counts.
func indexUnsafe(b []byte) int {
	const (
		ones = 0x0101010101010101
		high = 0x8080808080808080
	)
	i := 0
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash, del := x^(ones*'"'), x^(ones*'\\'), x^(ones*0x7f)
		hit := (x-ones*' ')&^x | (quote-ones)&^quote | (slash-ones)&^slash | (del-ones)&^del | x
		if hit &= high; hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	for ; i < len(b); i++ {
		if unsafeByte(b[i]) {
			return i
		}
	}
	return i
}

// appendEscaped appends s as it stands between quotes.
func appendEscaped(b, s []byte) []byte {
	for {
		i := indexUnsafe(s)
		b = append(b, s[:i]...)
		if i == len(s) {
			return b
		}
		n := 1
		if s[i] >= utf8.RuneSelf {
			var r rune
			if r, n = utf8.DecodeRune(s[i:]); r != utf8.RuneError || n > 1 {
				b = append(b, s[i:i+n]...)
			} else {
				b = append(b, '\\', 'x', hexDigits[s[i]>>4], hexDigits[s[i]&15])
			}
		} else {
			b = appendEscape(b, s[i])
		}
		s = s[i+n:]
	}
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// appendValue appends s, in quotes where it needs them.
func appendValue(b, s []byte) []byte {
	if len(s) > 0 && allBare(s) {
		return append(b, s...)
	}
	return append(appendEscaped(append(b, '"'), s), '"')
}

func allBare(s []byte) bool {
	for _, c := range s {
		if !bare(c) {
			return false
		}
	}
	return true
}

// appendKey appends s as a key: what a key cannot hold, and %, becomes %XX.
func appendKey(b, s []byte) []byte {
	if len(s) == 0 {
		return append(b, '%')
	}
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			if r, n := utf8.DecodeRune(s[i:]); r != utf8.RuneError || n > 1 {
				b = append(b, s[i:i+n]...)
				i += n
				continue
			}
		}
		if c >= 0x7f || c <= ' ' || c == '"' || c == '=' || c == '%' {
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		} else {
			b = append(b, c)
		}
		i++
	}
	return b
}

// appendTime appends RFC 3339 in UTC with milliseconds.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	b = t.AppendFormat(b, time.RFC3339) // this layout has a fast path; one with milliseconds has none
	ms := t.Nanosecond() / int(time.Millisecond)
	return append(b[:len(b)-1], '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}
