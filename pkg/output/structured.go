package output

import "bytes"

// maxFields is how many fields a line may have; one with more of them is text.
const maxFields = 1024

// found is what is known of a structured line so far.
type found struct {
	msg       []byte
	msgKind   kind
	hasMsg    bool
	hasLevel  bool
	severity  Level
	fields    []byte // all that is neither the message nor the level, as it stands in the record
	noPercent bool   // in the line, so that a key that is bare can be written as it is
}

// keySet tells most keys that are not in it at once: for each first byte it has the lengths of its keys, modulo 32.
type keySet [256]uint32

func (k *keySet) add(key string) {
	if key != "" {
		k[key[0]] |= 1 << (len(key) & 31)
	}
}

func (k *keySet) mayHave(first byte, length int) bool { return k[first]>>(length&31)&1 != 0 }

// ourKeys are the keys that look finds.
var ourKeys = keySet{
	'd': 1 << len("dropped"),
	'l': 1<<len("lvl") | 1<<len("level") | 1<<len("levelname") | 1<<len("log.level"),
	'm': 1<<len("msg") | 1<<len("message"),
	'n': 1 << len("name"),
	'o': 1 << len("out"),
	'p': 1<<len("pid") | 1<<len("partial"),
	's': 1 << len("severity"),
	't': 1 << len("time"),
}

// structured appends the record of a JSON or logfmt line; it appends nothing and returns false for another one.
func (e *encoder) structured(l *label, line []byte) bool {
	json := len(line) > 0 && line[0] == '{'
	if !json {
		if end := indexDelimiter(line, 0); end == len(line) || line[end] == ' ' && end > 0 {
			return false // as most text
		}
	}
	e.found = found{severity: Info, fields: e.found.fields[:0], noPercent: bytes.IndexByte(line, '%') < 0}
	line = e.terminated(line)
	if json && !e.json(l, line) || !json && !(e.logfmt(l, line) && (e.hasMsg || e.hasLevel)) {
		return false
	}
	b := e.appendPrefix(e.out, l, e.severity)
	switch e.msgKind {
	case bareValue, cleanValue:
		b = append(b, e.msg...)
	case escapedValue:
		e.scratch = unescape(e.scratch[:0], e.msg)
		b = appendEscaped(b, e.scratch)
	default:
		b = appendEscaped(b, e.msg)
	}
	b = append(b, l.tail...)
	b = append(b, e.found.fields...)
	e.out = append(b, '\n')
	return true
}

// padding is how many bytes indexDelimiter may look at behind the newline.
const padding = 8

// terminated returns a line with its newline, and some more bytes so that eight can be loaded anywhere. Nearly always all
// that is in the read buffer already.
func (e *encoder) terminated(line []byte) []byte {
	n := len(line)
	if n+padding <= cap(line) {
		if longer := line[:n+padding]; longer[n] == '\n' {
			return longer
		}
	}
	e.copied = append(append(e.copied[:0], line...), "\n       "...)
	return e.copied
}

// field is one key and value of a line, as offsets into it.
type field struct {
	key, keyEnd int
	val, valEnd int
	kind        kind
	keyPlain    bool // the key can be written as it is
	keyEscaped  bool // the key has escape sequences
}

// logfmt finds the fields of a line in which every word is key=value; false for any other line. Neighbours that need no
// change are copied in one piece.
func (e *encoder) logfmt(l *label, line []byte) bool {
	run, runEnd := 0, 0
	for i, n := 0, 0; ; n++ {
		for line[i] == ' ' {
			i++
		}
		if line[i] == '\n' {
			e.copyRun(line[run:runEnd])
			return n > 0
		}
		end, plain := indexDelimiter(line, i), e.noPercent
		for line[end] > 0x7f || line[end] == '\\' {
			end, plain = indexDelimiter(line, end+1), false
		}
		if line[end] != '=' || end == i || n == maxFields {
			return false
		}
		f := field{key: i, keyEnd: end, keyPlain: plain}
		var ok bool
		if i, ok = f.word(line, end+1); !ok {
			return false
		}
		switch {
		case !plain || f.kind > cleanValue || e.known.mayHave(line[f.key], f.keyEnd-f.key):
			e.copyRun(line[run:runEnd])
			e.field(l, line, &f)
			run, runEnd = 0, 0
		case f.key == runEnd+1 && runEnd > 0:
			runEnd = i
		default:
			e.copyRun(line[run:runEnd])
			run, runEnd = f.key, i
		}
	}
}

// word reads the value of a logfmt pair at i and returns the index behind it.
func (f *field) word(line []byte, i int) (next int, ok bool) {
	if line[i] == '"' {
		f.val = i + 1
		f.valEnd, f.kind, ok = scanString(line, i+1, true)
		next = f.valEnd + 1
		return next, ok && (line[next] == ' ' || line[next] == '\n')
	}
	f.val = i
	for i = indexDelimiter(line, i); line[i] != ' ' && line[i] != '\n'; i = indexDelimiter(line, i+1) {
		if line[i] < ' ' || line[i] == '"' {
			return i, false
		}
		f.kind = rawValue
	}
	if f.valEnd = i; f.val == i {
		f.kind = rawValue
	}
	return i, true
}

// copyRun adds fields as they are written in the line.
func (e *encoder) copyRun(run []byte) {
	if len(run) > 0 {
		e.found.fields = append(append(e.found.fields, ' '), run...)
	}
}

// json finds the members of a line that is one JSON object with at least one member; false for any other line. Members
// that are objects or arrays are kept as text.
func (e *encoder) json(l *label, line []byte) bool {
	for i, n := 1, 0; n < maxFields; n++ {
		if i = skipSpace(line, i); line[i] != '"' {
			return false
		}
		f := field{key: i + 1}
		var k kind
		var ok bool
		if f.keyEnd, k, ok = scanString(line, i+1, false); !ok {
			return false
		}
		f.keyPlain, f.keyEscaped = k == bareValue && e.noPercent, k == escapedValue
		if i = skipSpace(line, f.keyEnd+1); line[i] != ':' {
			return false
		}
		if i, ok = f.value(line, skipSpace(line, i+1)); !ok {
			return false
		}
		e.field(l, line, &f)
		i = skipSpace(line, i)
		switch line[i] {
		case ',':
			i++
		case '}':
			return line[skipSpace(line, i+1)] == '\n'
		default:
			return false
		}
	}
	return false
}

// value reads the value of a member at i and returns the index behind it.
func (f *field) value(line []byte, i int) (next int, ok bool) {
	f.val = i
	switch line[i] {
	case '"':
		f.val = i + 1
		f.valEnd, f.kind, ok = scanString(line, i+1, false)
		return f.valEnd + 1, ok
	case '{', '[':
		f.kind = rawValue
		f.valEnd, ok = scanNested(line, i)
	default:
		f.valEnd, ok = scanLiteral(line, i)
	}
	return f.valEnd, ok
}

// field adds a field to what is found.
func (e *encoder) field(l *label, line []byte, f *field) {
	key, value := line[f.key:f.keyEnd], line[f.val:f.valEnd]
	ours := false
	switch {
	case f.keyEscaped:
		e.scratch = unescape(e.scratch[:0], key)
		key = e.scratch
		ours = reserved(key) || l.labels(key)
	case len(key) > 0 && e.known.mayHave(key[0], len(key)):
		var used bool
		if ours, used = e.look(key, value, f.kind); used {
			return
		}
		ours = ours || l.labels(key)
	}
	b := append(e.found.fields, ' ')
	if ours {
		b = append(b, "child_"...)
	}
	if f.keyPlain {
		b = append(b, key...)
	} else {
		b = appendKey(b, key)
	}
	b = append(b, '=')
	switch f.kind {
	case bareValue:
		b = append(b, value...)
	case cleanValue:
		b = append(append(append(b, '"'), value...), '"')
	case rawValue:
		b = appendValue(b, value)
	case escapedValue:
		e.scratch = unescape(e.scratch[:0], value)
		b = appendValue(b, e.scratch)
	}
	e.found.fields = b
}

// look looks at a key that may be one of ours. used says that the field is in the record as its message or level.
func (e *encoder) look(key, value []byte, k kind) (ours, used bool) {
	switch string(key) {
	case "msg", "message":
		if used = !e.hasMsg; used {
			e.hasMsg, e.msg, e.msgKind = true, value, k
		}
		return len(key) == len("msg"), used
	case "level", "lvl", "severity", "levelname", "log.level":
		if !e.hasLevel {
			if level, exact, ok := parseLevel(value); ok {
				e.hasLevel, e.severity, used = true, level, exact
			}
		}
		return string(key) == "level", used
	}
	return reserved(key), false
}
