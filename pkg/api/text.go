package api

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clip returns s in one line of printable characters, at most limit bytes and
// an ellipsis. What came from outside, such as the error of a probe, must not
// draw on somebody's terminal.
func clip(s string, limit int) string {
	if len(s) <= limit && plain(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		part := s[i : i+n]
		if !unicode.IsPrint(r) || r == utf8.RuneError && n == 1 {
			part = strconv.QuoteToASCII(part)
			part = part[1 : len(part)-1]
		}
		if b.Len()+len(part) > limit {
			b.WriteString("…")
			break
		}
		b.WriteString(part)
		i += n
	}
	return b.String()
}

// plain reports whether s is printable ASCII.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
