package prommerge

import (
	"bytes"
	"unicode/utf8"
)

func skipBlanks(b []byte, j int) int {
	for isBlank(b[j]) {
		j++
	}
	return j
}

// labels reads the label pairs at b[j:] up to the closing brace and returns the index after it; 0 without an error
// where b ends within a label value.
func (s *scanner) labels(b []byte, j int, into *[]lab, exemplar bool) (int, error) {
	for {
		if j = s.blanks(b, j); b[j] == '}' {
			return j + 1, nil
		}
		name, quoted, k, err := s.labelName(b, j)
		if err != nil || k == 0 {
			return 0, err
		}
		j = s.blanks(b, k)
		if quoted && !exemplar && (b[j] == ',' || b[j] == '}') {
			j, err = s.quotedMetric(b, name, j)
		} else {
			j, err = s.label(b, name, j, quoted, into)
		}
		if err != nil || j == 0 {
			return 0, err
		}
	}
}

// quotedMetric takes a quoted metric name, after which b[j:] is a comma or the closing brace.
func (s *scanner) quotedMetric(b, name []byte, j int) (int, error) {
	if s.metric != nil {
		return 0, errSyntax(b, "a second metric name")
	}
	s.metric, s.inBraces = s.unquote(name, isName), true
	if !goodName(s.metric) {
		return 0, errSyntax(b, "a metric name that is empty or not UTF-8")
	}
	if b[j] == ',' {
		j++
	}
	return j, nil
}

// label takes a label whose equals sign is at b[j], with what separates it from the next one.
func (s *scanner) label(b, name []byte, j int, quoted bool, into *[]lab) (int, error) {
	if quoted {
		s.canonical = false
		if name = s.unquote(name, isLabel); !goodName(name) || into == &s.exLabs && s.esc != allowUTF8 {
			return 0, errSyntax(b, "a label name that is empty, not UTF-8 or not wanted")
		}
	}
	if b[j] != '=' {
		return 0, errSyntax(b, "no = after a label name")
	}
	l := lab{name: name}
	if len(*into) == maxLabels {
		return 0, errTooMany
	}
	j, err := s.labelValue(b, j+1, &l)
	if err != nil || j == 0 {
		return 0, err
	}
	*into = append(*into, l)
	return s.separator(b, j)
}

// separator skips what may stand between two labels: a comma, which the text format does not insist on.
func (s *scanner) separator(b []byte, j int) (int, error) {
	j = s.blanks(b, j)
	switch {
	case b[j] == ',':
		j++
		if b[j] == '}' {
			s.canonical = false
		}
	case b[j] == '}':
	case s.om:
		return 0, errSyntax(b, "no comma between labels")
	default:
		s.canonical = false
	}
	return j, nil
}

// labelName returns the raw name at b[j:] and the index after it; 0 where b ends within quotes.
func (s *scanner) labelName(b []byte, j int) (name []byte, quoted bool, end int, err error) {
	if b[j] == '"' {
		k, lines := endQuote(b, j+1)
		if k < 0 {
			if s.om {
				return nil, false, 0, errSyntax(b, "an open quote")
			}
			return nil, false, 0, nil
		}
		if k == 0 || lines && s.om {
			return nil, false, 0, errSyntax(b, "a bad quoted name")
		}
		return b[j+1 : k], true, k + 1, nil
	}
	k := labelEnd(b, j)
	if k == j {
		return nil, false, 0, errSyntax(b, "no label name")
	}
	return b[j:k], false, k, nil
}

// labelValue reads the quoted value at b[j:] into l and returns the index after it; 0 where b ends within it.
func (s *scanner) labelValue(b []byte, j int, l *lab) (int, error) {
	if j = s.blanks(b, j); b[j] != '"' {
		return 0, errSyntax(b, "no quote before a label value")
	}
	k, lines := endQuote(b, j+1)
	switch {
	case k < 0 && !s.om:
		return 0, nil
	case k <= 0 || lines && s.om:
		return 0, errSyntax(b, "a bad label value")
	}
	l.value, l.lines = b[j+1:k], lines
	if lines {
		s.canonical = false
	}
	if !s.ascii && !utf8.Valid(l.value) {
		return 0, errSyntax(b, "a label value that is not UTF-8")
	}
	return k + 1, nil
}

// endQuote returns the index of the quote that ends the string at b[j:], -1 where there is none, 0 where a
// backslash stands before the end of a line. It also tells whether a bare newline is in the string.
// Like Prometheus it does not see a NUL after a backslash.
func endQuote(b []byte, j int) (end int, lines bool) {
	for ; j < len(b); j++ {
		switch b[j] {
		case '"':
			return j, lines
		case '\n':
			lines = true
		case '\\':
			for j++; j < len(b) && b[j] == 0; j++ {
			}
			if j < len(b) && b[j] == '\n' {
				return 0, lines
			}
		}
	}
	return -1, lines
}

// unquote returns the name that the quoted string raw spells, escaped as the answer needs it.
func (s *scanner) unquote(raw []byte, in uint8) []byte {
	if bytes.IndexByte(raw, '\\') >= 0 {
		at := len(s.names)
		s.names = appendUnescaped(s.names, raw)
		raw = s.names[at:]
	}
	if s.esc != allowUTF8 && goodName(raw) && !plain(raw, in) {
		at := len(s.names)
		s.names = s.esc.appendName(s.names, raw, in)
		raw = s.names[at:]
	}
	return raw
}

// textValue reads value, timestamp and the end of the line. end is the index after the newline.
func (s *scanner) textValue(b []byte, j int) (value, millis []byte, end int, err error) {
	k := skipBlanks(b, j)
	s.canonical = s.canonical && k == j+1 && b[j] == ' '
	j = k
	for !isBlank(b[k]) && b[k] != '\n' {
		k++
	}
	value = b[j:k]
	if plainFloat(b, j) != k && !floatOK(value) {
		return nil, nil, 0, errSyntax(b, "a bad value")
	}
	millis, end, err = s.textMillis(b, k)
	return value, millis, end, err
}

// textMillis reads what follows the value: nothing, or a timestamp.
func (s *scanner) textMillis(b []byte, k int) (millis []byte, end int, err error) {
	if b[k] == '\n' {
		return nil, k + 1, nil
	}
	j := skipBlanks(b, k)
	s.canonical = s.canonical && j == k+1 && b[k] == ' '
	for k = j; isDigit(b[k]); k++ {
	}
	millis = b[j:k]
	end = skipBlanks(b, k)
	s.canonical = s.canonical && end == k && k > j
	if b[end] != '\n' || !millisOK(millis) {
		return nil, 0, errSyntax(b, "a bad timestamp")
	}
	return millis, end + 1, nil
}

// omValue is textValue for OpenMetrics; tail is all that follows the value.
func (s *scanner) omValue(b []byte, j int) (value, tail []byte, end int, err error) {
	e := j + bytes.IndexByte(b[j:], '\n')
	value, j, ok := omToken(b, j)
	if !ok || plainFloat(b, j-len(value)) != j && !floatOK(value) {
		return nil, nil, 0, errSyntax(b, "a bad value")
	}
	if b[j] == '\n' {
		return value, nil, j + 1, nil
	}
	at := j + 1
	if !bytes.HasPrefix(b[j:e], []byte(" # {")) {
		var stamp []byte
		if stamp, j, ok = omToken(b, j); !ok || !finiteOK(stamp) {
			return nil, nil, 0, errSyntax(b, "a bad timestamp")
		}
	}
	if b[j] == '\n' {
		return value, b[at:e], e + 1, nil
	}
	if !bytes.HasPrefix(b[j:e], []byte(" # {")) {
		return nil, nil, 0, errSyntax(b, "a bad end of line")
	}
	if err := s.exemplar(b, j+len(" # {")); err != nil {
		return nil, nil, 0, err
	}
	return value, b[at:e], e + 1, nil
}

// exemplar checks what follows the opening brace of an exemplar.
func (s *scanner) exemplar(b []byte, j int) error {
	if e := bytes.IndexByte(b[j:], '\n'); bytes.IndexByte(b[j:j+e], 0) >= 0 {
		return errSyntax(b, "a NUL in an exemplar")
	}
	s.exLabs = s.exLabs[:0]
	canonical := s.canonical
	j, err := s.labels(b, j, &s.exLabs, true)
	s.canonical = canonical
	if err != nil {
		return err
	}
	value, j, ok := omToken(b, j)
	if !ok || !floatOK(value) {
		return errSyntax(b, "a bad exemplar value")
	}
	if b[j] == '\n' {
		return nil
	}
	stamp, j, ok := omToken(b, j)
	if !ok || b[j] != '\n' || !finiteOK(stamp) {
		return errSyntax(b, "a bad exemplar timestamp")
	}
	return nil
}

// omToken returns the token after one blank at b[j:], and the index after it.
func omToken(b []byte, j int) (token []byte, end int, ok bool) {
	if b[j] != ' ' {
		return nil, j, false
	}
	k := j + 1
	for b[k] != ' ' && b[k] != '\n' {
		k++
	}
	return b[j+1 : k], k, k > j+1
}

// appendLine appends the line in hand in canonical form.
func (s *scanner) appendLine(w, value, tail []byte) []byte {
	if plainMetric(s.metric) {
		w = append(append(w, s.metric...), '{')
	} else {
		w = append(appendQuoted(append(w, '{'), s.metric), ',')
	}
	at, inj := len(w), s.inj.forMetric(s.metric, s.labs)
	w = inj.appendTo(w, s.labs)
	for i := range s.labs {
		l := &s.labs[i]
		name, drop := inj.resolve(l, s.labs)
		if drop {
			continue
		}
		if len(w) > at {
			w = append(w, ',')
		}
		if plainLabel(name) {
			w = append(w, name...)
		} else {
			w = appendQuoted(w, name)
		}
		w = append(w, '=', '"')
		if l.lines {
			w = append(w, bytes.ReplaceAll(l.value, []byte{'\n'}, []byte(`\n`))...)
		} else {
			w = append(w, l.value...)
		}
		w = append(w, '"')
	}
	w = append(append(w, '}', ' '), value...)
	if len(tail) > 0 {
		w = append(append(w, ' '), tail...)
	}
	return append(w, '\n')
}
