package output

import (
	"bytes"
	"fmt"
	"strings"
)

// Format says what becomes of a child's line.
type Format uint8

// The formats, see the package comment.
const (
	Wrap  Format = iota // one logfmt record a line; structured lines keep their level
	Plain               // bytes pass through
	Auto                // as Wrap, and the severity of text lines is detected
)

// ParseFormat reads LOG_FORMAT or logFormat, in any case: "" and "wrap", "free" and "plain", "auto".
func ParseFormat(s string) (Format, error) {
	switch strings.ToLower(s) {
	case "", "wrap":
		return Wrap, nil
	case "free", "plain":
		return Plain, nil
	case "auto":
		return Auto, nil
	}
	return Wrap, fmt.Errorf("log format %q is unknown: use wrap, auto, plain or free", s)
}

// String returns the name that ParseFormat takes.
func (f Format) String() string {
	switch f {
	case Plain:
		return "plain"
	case Auto:
		return "auto"
	default:
		return "wrap"
	}
}

// Level is the normalised severity of a line.
type Level uint8

// The levels, in ascending order.
const (
	Debug Level = iota
	Info
	Warn
	Error
	Fatal

	levels = int(Fatal) + 1
)

// String returns debug, info, warn, error or fatal.
func (l Level) String() string {
	switch l {
	case Debug:
		return "debug"
	case Warn:
		return "warn"
	case Error:
		return "error"
	case Fatal:
		return "fatal"
	default:
		return "info"
	}
}

// parseLevel knows the spellings of the common loggers, in any case, and the numbers of pino and bunyan. exact is false
// when the normal form says less than the word.
func parseLevel(word []byte) (l Level, exact, ok bool) {
	switch string(word) { // as nearly all write them
	case "info":
		return Info, true, true
	case "debug":
		return Debug, true, true
	case "warn":
		return Warn, true, true
	case "error":
		return Error, true, true
	}
	var buf [13]byte
	if len(word) == 0 || len(word) > len(buf) {
		return Info, false, false
	}
	low := buf[:len(word)]
	for i, c := range word {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		low[i] = c
	}
	switch string(low) {
	case "info", "inf", "i", "information", "informational", "30":
		return Info, true, true
	case "debug", "dbg", "debu", "d", "20":
		return Debug, true, true
	case "warn", "warning", "wrn", "w", "40":
		return Warn, true, true
	case "error", "err", "erro", "eror", "e", "50":
		return Error, true, true
	case "fatal", "ftl", "fata", "f", "60":
		return Fatal, true, true
	}
	l, ok = coarseLevel(string(low))
	return l, false, ok
}

func coarseLevel(word string) (Level, bool) {
	switch word {
	case "trace", "trc", "t", "verbose", "10":
		return Debug, true
	case "notice":
		return Info, true
	case "severe":
		return Error, true
	case "critical", "crit", "panic", "pani", "dpanic", "alert", "emerg", "emergency":
		return Fatal, true
	}
	return Info, false
}

const (
	detectWords = 8   // how many words of a text line may carry its severity,
	detectBytes = 160 // within so many bytes
)

// detectLevel finds the severity of a text line; Info where there is none.
func detectLevel(line []byte) Level {
	if l, ok := headerLevel(line); ok {
		return l
	}
	head := line[:min(len(line), detectBytes)]
	for range detectWords {
		for len(head) > 0 && (head[0] == ' ' || head[0] == '\t') {
			head = head[1:]
		}
		end := bytes.IndexByte(head, ' ')
		if end < 0 {
			end = len(head)
		}
		if tab := bytes.IndexByte(head[:end], '\t'); tab >= 0 {
			end = tab
		}
		if end >= 3 && maybeLevel(head[0], head[end-1]) {
			if l, ok := wordLevel(head[:end]); ok {
				return l
			}
		}
		head = head[end:]
	}
	return pairLevel(line)
}

// maybeLevel rejects most words of a text by their first and last byte.
func maybeLevel(first, last byte) bool {
	switch {
	case first >= 'a' && first <= 'z':
		return last == ':'
	case first >= 'A' && first <= 'Z', first == '[', first == '<', first == '(', first == '|', first == '\x1b':
		return true
	}
	return false
}

// headerLevel reads klog's "E0102 15:04:05" and the "<3>" prefix of syslog and systemd.
func headerLevel(line []byte) (Level, bool) {
	if len(line) >= 3 && line[0] == '<' && line[2] == '>' && '0' <= line[1] && line[1] <= '7' {
		return [8]Level{Fatal, Fatal, Fatal, Error, Warn, Info, Info, Debug}[line[1]-'0'], true
	}
	if len(line) < 8 || line[5] != ' ' || !digits(line[1:5]) || !digits(line[6:8]) {
		return Info, false
	}
	switch line[0] {
	case 'I', 'W', 'E', 'F':
		l, _, ok := parseLevel(line[:1])
		return l, ok
	}
	return Info, false
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// wordLevel takes ERROR, [error], error:, ERROR:root:text and the same in colours, but not the word error in a sentence.
func wordLevel(word []byte) (Level, bool) {
	word = skipColour(word)
	marked := false
	for len(word) > 0 && (word[0] == '[' || word[0] == '<' || word[0] == '(' || word[0] == '|') {
		marked = marked || word[0] != '|'
		word = skipColour(word[1:])
	}
	end := 0
	for end < len(word) && letter(word[end]) {
		end++
	}
	rest := word[end:]
	if word = word[:end]; end < 3 {
		return Info, false
	}
	if rest = skipColour(rest); len(rest) > 0 {
		switch rest[0] {
		case ':', ']':
			marked = true
		case ')', '>', '|', ',', '[':
		default:
			return Info, false
		}
	}
	if !marked && !upper(word) {
		return Info, false
	}
	l, _, ok := parseLevel(word)
	return l, ok
}

// pairLevel reads the first level=word, or level="word", of a line that is not all logfmt.
func pairLevel(line []byte) Level {
	const key = "level"
	for from := 0; ; {
		equals := bytes.IndexByte(line[from:], '=')
		if equals < 0 {
			return Info
		}
		equals += from
		from = equals + 1
		start := equals - len(key)
		if start < 0 || string(line[start:equals]) != key || start > 0 && (letter(line[start-1]) || line[start-1] == '_') {
			continue
		}
		word := bytes.TrimPrefix(line[from:], []byte{'"'})
		end := 0
		for end < len(word) && letter(word[end]) {
			end++
		}
		l, _, _ := parseLevel(word[:end])
		return l
	}
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func upper(word []byte) bool {
	for _, c := range word {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

// skipColour cuts leading escape sequences of the form ESC [ … m.
func skipColour(b []byte) []byte {
	for len(b) > 2 && b[0] == '\x1b' && b[1] == '[' {
		end := bytes.IndexByte(b, 'm')
		if end < 0 {
			break
		}
		b = b[end+1:]
	}
	return b
}
