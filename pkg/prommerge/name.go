package prommerge

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// Classes of bytes in names.
const (
	isLabel uint8 = 1 << iota // may stand in a plain label name
	isName                    // may stand in a plain metric name
	isFirst                   // … and begin one
)

var class = [256]uint8{
	'a': 7, 'b': 7, 'c': 7, 'd': 7, 'e': 7, 'f': 7, 'g': 7, 'h': 7, 'i': 7, 'j': 7, 'k': 7, 'l': 7, 'm': 7,
	'n': 7, 'o': 7, 'p': 7, 'q': 7, 'r': 7, 's': 7, 't': 7, 'u': 7, 'v': 7, 'w': 7, 'x': 7, 'y': 7, 'z': 7,
	'A': 7, 'B': 7, 'C': 7, 'D': 7, 'E': 7, 'F': 7, 'G': 7, 'H': 7, 'I': 7, 'J': 7, 'K': 7, 'L': 7, 'M': 7,
	'N': 7, 'O': 7, 'P': 7, 'Q': 7, 'R': 7, 'S': 7, 'T': 7, 'U': 7, 'V': 7, 'W': 7, 'X': 7, 'Y': 7, 'Z': 7,
	'0': 3, '1': 3, '2': 3, '3': 3, '4': 3, '5': 3, '6': 3, '7': 3, '8': 3, '9': 3, '_': 7, ':': isName | isFirst,
}

func isDigit(c byte) bool { return c-'0' <= 9 }

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// nameEnd returns the index after the plain metric name at b[j:], j itself where there is none.
func nameEnd(b []byte, j int) int {
	if j >= len(b) || class[b[j]]&isFirst == 0 {
		return j
	}
	for j < len(b) && class[b[j]]&isName != 0 {
		j++
	}
	return j
}

// labelEnd is nameEnd for a label name.
func labelEnd(b []byte, j int) int {
	if j >= len(b) || class[b[j]]&(isFirst|isLabel) != isFirst|isLabel {
		return j
	}
	for j < len(b) && class[b[j]]&isLabel != 0 {
		j++
	}
	return j
}

// goodName reports whether s is a name that Prometheus takes between quotes.
func goodName(s []byte) bool {
	return len(s) > 0 && utf8.Valid(s) && bytes.IndexByte(s, 0) < 0
}

func plainMetric[T string | []byte](s T) bool { return plain(s, isName) }
func plainLabel[T string | []byte](s T) bool  { return plain(s, isLabel) }

// plain reports whether s may be written without quotes.
func plain[T string | []byte](s T, in uint8) bool {
	if len(s) == 0 || class[s[0]]&(isFirst|in) != isFirst|in {
		return false
	}
	for i := range len(s) {
		if class[s[i]]&in == 0 {
			return false
		}
	}
	return true
}

// appendMetricName appends name as it stands in a HELP or TYPE line: quoted where it must be.
func appendMetricName(b []byte, name string) []byte {
	if plainMetric(name) {
		return append(b, name...)
	}
	return appendQuoted(b, name)
}

// appendQuoted appends s in double quotes with the escapes of the text formats.
func appendQuoted[T string | []byte](b []byte, s T) []byte {
	return append(appendEscaped(append(b, '"'), s), '"')
}

func appendEscaped[T string | []byte](b []byte, s T) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\', '"':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = append(b, c)
		}
	}
	return b
}

// appendUnescaped appends s with \\, \" and \n resolved; other escapes stay as they stand, as in Prometheus.
func appendUnescaped(b, s []byte) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			switch s[i+1] {
			case '\\', '"':
				i++
			case 'n':
				b = append(b, '\n')
				i++
				continue
			}
		}
		b = append(b, s[i])
	}
	return b
}

// escaping is what happens to a name that is not plain.
type escaping uint8

const (
	escapeUnderscores escaping = iota // every odd character becomes _
	escapeDots                        // . becomes _dot_, _ becomes __
	escapeValues                      // U__ and hexadecimal code points
	allowUTF8                         // written in quotes
)

var escapingNames = [...]string{"underscores", "dots", "values", "allow-utf-8"}

func parseEscaping(s string) (escaping, bool) {
	for i, n := range escapingNames {
		if n == s {
			return escaping(i), true
		}
	}
	return 0, false
}

// appendName appends the quoted name s as e wants it. in is isName or isLabel.
func (e escaping) appendName(b, s []byte, in uint8) []byte {
	if e == allowUTF8 || plain(s, in) {
		return append(b, s...)
	}
	if e == escapeValues {
		b = append(b, "U__"...)
	}
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRune(s[i:])
		ok := n == 1 && class[s[i]]&in != 0 && (i > 0 || e == escapeValues || class[s[i]]&isFirst != 0)
		if ok && (r != '_' || e == escapeUnderscores) {
			b = append(b, s[i])
		} else {
			b = e.appendRune(b, r)
		}
		i += n
	}
	return b
}

// appendRune appends what stands for a character that cannot stand for itself.
func (e escaping) appendRune(b []byte, r rune) []byte {
	switch {
	case e == escapeUnderscores:
		return append(b, '_')
	case e == escapeDots && r == '.':
		return append(b, "_dot_"...)
	case e == escapeDots || r == '_':
		return append(b, "__"...)
	}
	return append(strconv.AppendInt(append(b, '_'), int64(r), 16), '_')
}
