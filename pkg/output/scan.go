package output

// kind says how the bytes of a key or value are to be written.
type kind uint8

const (
	bareValue    kind = iota // as they are: a number, a literal, a word
	cleanValue               // a string that needs quotes but no escapes
	rawValue                 // a string that may need escapes; the bytes are the value
	escapedValue             // a string with escape sequences, to be decoded
)

// What follows scans a line that ends with a newline, so that nearly no place needs a test for the end.

// scanString returns the index of the quote that ends the string that begins at i.
func scanString(line []byte, i int, goStyle bool) (end int, k kind, ok bool) {
	end = indexDelimiter(line, i)
	if line[end] == '"' && end > i {
		return end, bareValue, true
	}
	return scanQuoted(line, end, goStyle)
}

// scanQuoted is scanString for the rest, from i on, of a string that is not bare.
func scanQuoted(line []byte, i int, goStyle bool) (end int, k kind, ok bool) {
	for k = cleanValue; ; {
		i += indexUnsafe(line[i:])
		switch c := line[i]; {
		case c == '"':
			return i, k, true
		case c == '\\':
			n := escapeLen(line[i:], goStyle)
			if n == 0 {
				return i, k, false
			}
			k = escapedValue
			i += n
		case c == '\n', c < ' ' && !goStyle:
			return i, k, false
		default:
			k = max(k, rawValue)
			i++
		}
	}
}

// skipSpace returns the index of the first byte at or after i that is not white space.
func skipSpace(line []byte, i int) int {
	for line[i] <= ' ' && (line[i] == ' ' || line[i] == '\t' || line[i] == '\r') {
		i++
	}
	return i
}

// scanNested returns the index behind the bracket that matches the one at i. What is between is only checked for balance.
func scanNested(line []byte, i int) (next int, ok bool) {
	for depth := 0; ; {
		switch line[i] {
		case '\n':
			return i, false
		case '"':
			if i, _, ok = scanString(line, i+1, false); !ok {
				return i, false
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if i++; depth == 0 {
			return i, true
		}
	}
}

// inLiteral says which bytes a number, true, false or null may have.
var inLiteral = [256]bool{
	'0': true, '1': true, '2': true, '3': true, '4': true, '5': true, '6': true, '7': true, '8': true, '9': true,
	'-': true, '+': true, '.': true, 'E': true,
	'a': true, 'e': true, 'f': true, 'l': true, 'n': true, 'r': true, 's': true, 't': true, 'u': true,
}

// scanLiteral returns the index behind a number, true, false or null.
func scanLiteral(line []byte, i int) (end int, ok bool) {
	start := i
	for inLiteral[line[i]] {
		i++
	}
	switch word := line[start:i]; {
	case len(word) == 0:
		return i, false
	case word[0] == '-' || word[0] >= '0' && word[0] <= '9':
		return i, true
	default:
		return i, string(word) == "true" || string(word) == "false" || string(word) == "null"
	}
}
