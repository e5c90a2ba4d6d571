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

// Eight bytes at once: in a result, the high bit of a byte is set where that byte is a hit. Subtracting n from a byte
// below 0x80 sets its high bit where it is below n, adding 1 where it is 0x7f. One of the terms does so for any byte
// that is not ASCII. Borrows and carries come from hits only, so the lowest hit is right, and only that counts.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

func unsafeBits(x uint64) uint64 {
	low := (x ^ 2*ones) - 0x21*ones // c^2 < 0x21: the control characters and '"'
	return (low | ((x ^ '\\'*ones) - ones) | (x + ones)) & highs
}

func delimiterBits(x uint64) uint64 {
	low := (x &^ (2 * ones)) - 0x21*ones // c&^2 < 0x21: the control characters, ' ' and '"'
	return (low | ((x ^ '='*ones) - ones) | ((x ^ '\\'*ones) - ones) | (x + ones)) & highs
}

// tail returns the last n < 8 bytes of b, which has at least 8, and zeros, which are hits, behind them.
func tail(b []byte, n int) uint64 {
	return binary.LittleEndian.Uint64(b[len(b)-8:]) >> ((64 - 8*n) & 63)
}

// indexUnsafe returns the index of the first unsafeByte, or len(b).
func indexUnsafe(b []byte) int {
	i := 0
	for ; i <= len(b)-8; i += 8 {
		if hit := unsafeBits(binary.LittleEndian.Uint64(b[i:])); hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	if i < len(b) && len(b) >= 8 {
		return i + bits.TrailingZeros64(unsafeBits(tail(b, len(b)-i)))/8
	}
	for i < len(b) && !unsafeByte(b[i]) {
		i++
	}
	return i
}

// indexDelimiter returns the index of the first byte at or after i ≥ 0 that is not bare, or len(b).
func indexDelimiter(b []byte, i int) int {
	for ; i >= 0 && i <= len(b)-8; i += 8 {
		if hit := delimiterBits(binary.LittleEndian.Uint64(b[i:])); hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	if i < len(b) && len(b) >= 8 {
		return i + bits.TrailingZeros64(delimiterBits(tail(b, len(b)-i)))/8
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
