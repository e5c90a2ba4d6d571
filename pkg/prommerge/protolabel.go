package prommerge

import (
	"errors"
	"unicode/utf8"
)

// label reads one LabelPair.
func (s *protoScanner) label(b []byte, canonical *bool) error {
	if len(s.labs) == maxLabels {
		return errTooMany
	}
	l, err := readPair(b)
	if err != nil {
		return err
	}
	if i := len(s.labs); i < len(s.last) && string(s.last[i].name) == string(l.name) && utf8.Valid(l.value) {
		s.labs = append(s.labs, l)
		return nil
	}
	s.same = false
	if !goodName(l.name) || !utf8.Valid(l.value) || string(l.name) == "__name__" {
		return errors.New("a bad label")
	}
	if s.esc != allowUTF8 && !plainLabel(l.name) {
		at := len(s.names)
		s.names = s.esc.appendName(s.names, l.name, isLabel)
		l.name = s.names[at:]
		*canonical = false
	}
	s.labs = append(s.labs, l)
	return nil
}

// readPair takes a LabelPair apart.
func readPair(b []byte) (l lab, err error) {
	if len(b) > 3 && b[0] == 1<<3|wireBytes && b[1] < 0x80 { // name, value, nothing else: as everybody writes it
		if v := 2 + int(b[1]); v+1 < len(b) && b[v] == 2<<3|wireBytes && b[v+1] < 0x80 && v+2+int(b[v+1]) == len(b) {
			return lab{name: b[2:v], value: b[v+2:]}, nil
		}
	}
	for len(b) > 0 {
		f, rest, err := nextField(b)
		if err != nil || !labelSpec.allows(f) {
			return l, errProto
		}
		switch f.num {
		case 1:
			l.name = f.val
		case 2:
			l.value = f.val
		}
		b = rest
	}
	return l, nil
}
