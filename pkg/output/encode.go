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

// Eight bytes at once: in a result, the high bit of a byte is set where that byte is a hit. For a byte below 0x80, adding
// 0x80-n sets the high bit where it is at least n, without a carry. One that is higher may spoil those above it, but is
// itself a hit, and only the lowest hit counts.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
	low7  = 0x7f * ones
)

func unsafeBits(x uint64) uint64 {
	fine := (x + (0x80-' ')*ones) & ((x ^ '"'*ones) + low7) & ((x ^ '\\'*ones) + low7)
	return (^fine | x | (x + ones)) & highs
}

func delimiterBits(x uint64) uint64 {
	fine := (x + (0x7f-' ')*ones) & ((x ^ '"'*ones) + low7) & ((x ^ '\\'*ones) + low7) & ((x ^ '='*ones) + low7)
	return (^fine | x | (x + ones)) & highs
}

// indexUnsafe returns the index of the first unsafeByte, or len(b).
func indexUnsafe(b []byte) int {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		if hit := unsafeBits(binary.LittleEndian.Uint64(b[i:])); hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	if rest := len(b) - i; rest > 0 && len(b) >= 8 { // the zeros that are shifted in are hits at the end
		hit := unsafeBits(binary.LittleEndian.Uint64(b[len(b)-8:]) >> (64 - 8*rest))
		return i + min(bits.TrailingZeros64(hit)/8, rest)
	}
	for i < len(b) && !unsafeByte(b[i]) {
		i++
	}
	return i
}

// indexDelimiter returns the index of the first byte at or after i that is not bare, or len(b).
func indexDelimiter(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		if hit := delimiterBits(binary.LittleEndian.Uint64(b[i:])); hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	for i < len(b) && bare(b[i]) {
		i++
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

func allBare(s []byte) bool { return indexDelimiter(s, 0) == len(s) }

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
