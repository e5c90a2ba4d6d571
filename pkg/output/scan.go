package output

import "bytes"

// maxFields bounds what one line may cost; a line with more of them is text.
const maxFields = 1024

// kind says how the bytes of a value are to be written.
type kind uint8

const (
	bareValue    kind = iota // as they are: a number, a literal, a word
	cleanValue               // a string that needs quotes but no escapes
	rawValue                 // a string that may need escapes; the bytes are the value
	escapedValue             // a string with escape sequences, to be decoded
)

// field is one key and value of a line, as offsets into it.
type field struct {
	key, keyEnd uint32
	val, valEnd uint32
	kind        kind
	keyPlain    bool // the key can be written as it is
	keyEscaped  bool // the key has escape sequences
	ours        bool // the key is one of ours: see classify
	verbatim    bool // may be copied from key to end as it is written
	end         uint32
}

// scanLogfmt appends the fields of a line in which every word is key=value; false for any other line.
func scanLogfmt(line []byte, fields []field) ([]field, bool) {
	percent := bytes.IndexByte(line, '%') >= 0
	for i := 0; ; {
		for i < len(line) && line[i] == ' ' {
			i++
		}
		if i == len(line) {
			return fields, len(fields) > 0
		}
		if len(fields) == maxFields {
			return fields, false
		}
		fields = append(fields, field{keyPlain: !percent})
		f := &fields[len(fields)-1]
		var ok bool
		if i, ok = scanKey(line, i, f); !ok {
			return fields, false
		}
		if i < len(line) && line[i] == '"' {
			i, ok = scanString(line, i, f, true)
			ok = ok && (i == len(line) || line[i] == ' ')
		} else {
			i, ok = scanWord(line, i, f)
		}
		if !ok {
			return fields, false
		}
		f.end = uint32(i)
		f.verbatim = f.kind <= cleanValue && f.keyPlain
	}
}

// scanKey reads key= and returns the index behind it.
func scanKey(line []byte, i int, f *field) (next int, ok bool) {
	f.key = uint32(i)
	i = indexDelimiter(line, i)
	for i < len(line) && (line[i] > 0x7f || line[i] == '\\') {
		i = indexDelimiter(line, i+1)
		f.keyPlain = false
	}
	f.keyEnd = uint32(i)
	return i + 1, i < len(line) && line[i] == '=' && f.keyEnd > f.key
}

// scanWord reads an unquoted value up to the next space.
func scanWord(line []byte, i int, f *field) (next int, ok bool) {
	f.val = uint32(i)
	for i = indexDelimiter(line, i); i < len(line) && line[i] != ' '; i = indexDelimiter(line, i+1) {
		if c := line[i]; c < ' ' || c == '"' {
			return i, false
		}
		f.kind = rawValue
	}
	f.valEnd = uint32(i)
	if f.val == f.valEnd {
		f.kind = rawValue
	}
	return i, true
}

// scanString reads the quoted string at line[i] into the field's value and returns the index behind it.
func scanString(line []byte, i int, f *field, goStyle bool) (next int, ok bool) {
	i++
	f.val, f.kind = uint32(i), bareValue
	if i = indexDelimiter(line, i); i < len(line) && line[i] == '"' {
		if f.valEnd = uint32(i); f.val == f.valEnd {
			f.kind = cleanValue
		}
		return i + 1, true
	}
	f.kind = cleanValue
	for {
		i += indexUnsafe(line[i:])
		if i == len(line) {
			return i, false
		}
		switch c := line[i]; {
		case c == '"':
			f.valEnd = uint32(i)
			return i + 1, true
		case c == '\\':
			n := escapeLen(line[i:], goStyle)
			if n == 0 {
				return i, false
			}
			f.kind = escapedValue
			i += n
		case c < ' ' && !goStyle:
			return i, false
		default:
			f.kind = max(f.kind, rawValue)
			i++
		}
	}
}

// scanJSON appends the members of a line that is one JSON object with at least one member; false for any other line.
// Members that are objects or arrays are only checked for balance, because they are kept as text.
func scanJSON(line []byte, fields []field) ([]field, bool) {
	for len(line) > 0 && (line[len(line)-1] == ' ' || line[len(line)-1] == '\r' || line[len(line)-1] == '\t') {
		line = line[:len(line)-1]
	}
	if len(line) < 2 || line[0] != '{' || line[len(line)-1] != '}' {
		return fields, false
	}
	percent := bytes.IndexByte(line, '%') >= 0
	for i := 1; ; i++ {
		if len(fields) == maxFields {
			return fields, false
		}
		fields = append(fields, field{keyPlain: !percent})
		var ok bool
		if i, ok = scanMember(line, i, &fields[len(fields)-1]); !ok {
			return fields, false
		}
		if i = skipSpace(line, i); i == len(line) {
			return fields, false
		}
		if line[i] == '}' {
			return fields, i == len(line)-1
		}
		if line[i] != ',' {
			return fields, false
		}
	}
}

// scanMember reads "key": value.
func scanMember(line []byte, i int, f *field) (next int, ok bool) {
	if i = skipSpace(line, i); i == len(line) || line[i] != '"' {
		return i, false
	}
	if i, ok = scanString(line, i, f, false); !ok {
		return i, false
	}
	f.key, f.keyEnd, f.keyEscaped = f.val, f.valEnd, f.kind == escapedValue
	f.keyPlain = f.keyPlain && f.kind == bareValue
	if i = skipSpace(line, i); i == len(line) || line[i] != ':' {
		return i, false
	}
	if i = skipSpace(line, i+1); i == len(line) {
		return i, false
	}
	switch line[i] {
	case '"':
		return scanString(line, i, f, false)
	case '{', '[':
		return scanNested(line, i, f)
	}
	return scanLiteral(line, i, f)
}

func skipSpace(line []byte, i int) int {
	for i < len(line) && (line[i] == ' ' || line[i] == '\t' || line[i] == '\r') {
		i++
	}
	return i
}

// scanNested reads an object or array up to its matching bracket.
func scanNested(line []byte, i int, f *field) (next int, ok bool) {
	start, depth := i, 0
	for i < len(line) {
		switch line[i] {
		case '"':
			var inner field
			if i, ok = scanString(line, i, &inner, false); !ok {
				return i, false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if i++; depth == 0 {
			f.val, f.valEnd, f.kind = uint32(start), uint32(i), rawValue
			return i, true
		}
	}
	return i, false
}

// scanLiteral reads a number, true, false or null.
func scanLiteral(line []byte, i int, f *field) (next int, ok bool) {
	start := i
	for i < len(line) && (line[i] >= '0' && line[i] <= '9' || letter(line[i]) || line[i] == '-' || line[i] == '+' || line[i] == '.') {
		i++
	}
	f.val, f.valEnd, f.kind = uint32(start), uint32(i), bareValue
	switch word := line[start:i]; {
	case len(word) == 0:
		return i, false
	case word[0] == '-' || word[0] >= '0' && word[0] <= '9':
		return i, true
	default:
		return i, string(word) == "true" || string(word) == "false" || string(word) == "null"
	}
}
