package datagram

// broken returns where a message that starts at start and is no JSON ends: where
// its braces balance, or before a line that begins with a brace. It is -1 where
// neither comes.
func broken(b []byte, start int) int {
	depth, quoted := 0, false
	for i := start; i < len(b); i++ {
		switch b[i] {
		case '\n':
			if i+1 < len(b) && b[i+1] == '{' {
				return i + 1
			}
			quoted = false // no string goes over a line
		case '"':
			quoted = !quoted
		case '\\':
			if quoted && i+1 < len(b) && b[i+1] != '\n' {
				i++
			}
		case '{':
			if !quoted {
				depth++
			}
		case '}':
			if !quoted {
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	return -1
}

// garbage returns where something that is no object ends: at the end of the line,
// or at a comma or closing bracket. It is -1 where none comes.
func garbage(b []byte, start int) int {
	quoted := false
	for i := start; i < len(b); i++ {
		switch b[i] {
		case '\n':
			return i
		case '"':
			quoted = !quoted
		case '\\':
			if quoted && i+1 < len(b) && b[i+1] != '\n' {
				i++
			}
		case ',', ']':
			if !quoted {
				return i
			}
		}
	}
	return -1
}
