package prommerge

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// comment handles a line that begins with #, and returns its length.
func (s *scanner) comment(b []byte) (int, error) {
	if n := s.knownMeta(b); n > 0 {
		return n, nil
	}
	s.cur = nil
	e := bytes.IndexByte(b, '\n')
	l := b[:e]
	if s.om {
		return e + 1, s.omComment(b, l)
	}
	j := skipBlanks(b, 1)
	if j == 1 || len(l)-j < 4 {
		return e + 1, nil
	}
	word := string(l[j:min(j+4, len(l))])
	k := skipBlanks(b, j+4)
	if k == j+4 || word != "HELP" && word != "TYPE" {
		return e + 1, nil
	}
	if k == e {
		return 0, errSyntax(b, "no metric name in a "+word+" line")
	}
	return e + 1, s.metadata(word, l, k)
}

// knownMeta handles a HELP or TYPE line, or both, that are exactly those which the index expects here.
func (s *scanner) knownMeta(b []byte) int {
	if len(b) < 8 {
		return 0
	}
	next := s.ix.guess(s.prev)
	switch {
	case b[2] == 'H' && next >= 0 && isLine(b, s.ix.fams[next].lines):
		s.enter(next)
		f := &s.ix.fams[next]
		s.known(segHelp | segType)
		s.typ = f.typ
		s.expect(f)
		return len(f.lines)
	case b[2] == 'H' && next >= 0 && isLine(b, s.ix.fams[next].helpLine):
		s.enter(next)
		s.known(segHelp)
		s.cur = nil
		return len(s.ix.fams[next].helpLine)
	case b[2] != 'T':
		return 0
	case s.named && s.fam >= 0 && s.typ == typNone && isLine(b, s.ix.fams[s.fam].typeLine):
		return s.knownType()
	case next >= 0 && isLine(b, s.ix.fams[next].typeLine):
		s.enter(next)
		return s.knownType()
	}
	return 0
}

// isLine reports whether b begins with the line that the index knows, if it knows one.
func isLine(b, line []byte) bool { return len(line) > 0 && bytes.HasPrefix(b, line) }

// knownType takes the TYPE line of the current family, which is as the index has it.
func (s *scanner) knownType() int {
	f := &s.ix.fams[s.fam]
	s.known(segType)
	s.typ = f.typ
	s.expect(f)
	return len(f.typeLine)
}

// omComment handles the comments of OpenMetrics, which all mean something.
func (s *scanner) omComment(b, l []byte) error {
	if string(l) == "# EOF" {
		s.eof = true
		return nil
	}
	if len(l) < 8 || l[1] != ' ' || l[6] != ' ' {
		return errSyntax(b, "an unknown comment")
	}
	switch word := string(l[2:6]); word {
	case "HELP", "TYPE", "UNIT":
		return s.metadata(word, l, 7)
	}
	return errSyntax(b, "an unknown comment")
}

// metadata handles a HELP, TYPE or UNIT line l whose metric name begins at k.
func (s *scanner) metadata(word string, l []byte, k int) error {
	name, j, err := s.metaName(l, k)
	if err != nil {
		return err
	}
	var text []byte
	if j < len(l) {
		text = l[j+1:]
	}
	if s.om && (j == len(l) || l[j] != ' ') {
		return errSyntax(l, "no blank after a metric name")
	}
	if !s.named || s.name != string(name) {
		s.family(name)
	}
	switch word {
	case "HELP":
		return s.help(l, text)
	case "UNIT":
		return s.unit(l, name, text)
	}
	t, ok := parseTyp(text, s.p.wire)
	if !ok {
		return errSyntax(l, "an unknown metric type")
	}
	s.setType(t)
	return nil
}

func (s *scanner) metaName(l []byte, k int) (name []byte, end int, err error) {
	s.names = s.names[:0]
	if l[k] != '"' {
		if end = nameEnd(l, k); end == k {
			return nil, 0, errSyntax(l, "no metric name in a comment")
		}
		return l[k:end], end, nil
	}
	q, _ := endQuote(l, k+1)
	if q <= 0 {
		return nil, 0, errSyntax(l, "a bad quoted name")
	}
	if name = s.unquote(l[k+1:q], isName); !goodName(name) {
		return nil, 0, errSyntax(l, "a metric name that is empty or not UTF-8")
	}
	return name, q + 1, nil
}

func (s *scanner) help(l, text []byte) error {
	if !s.ascii && !utf8.Valid(text) {
		return errSyntax(l, "a HELP that is not UTF-8")
	}
	if s.fam >= 0 {
		if f := &s.ix.fams[s.fam]; f.hasHelp && bytes.Equal(f.help, text) && s.known(segHelp) {
			return nil
		}
	}
	s.note(metaHelp, typNone, text)
	return nil
}

func (s *scanner) unit(l, name, text []byte) error {
	if len(text) > 0 && (!bytes.HasSuffix(name, text) || !strings.HasSuffix(string(name[:len(name)-len(text)]), "_")) {
		return errSyntax(l, "a UNIT that is no suffix of its metric name")
	}
	if s.fam >= 0 {
		if f := &s.ix.fams[s.fam]; f.hasUnit && bytes.Equal(f.unit, text) && s.known(segUnit) {
			return nil
		}
	}
	s.note(metaUnit, typNone, text)
	return nil
}

// setType notes the TYPE of the current family. Its children belong to it by the first one.
func (s *scanner) setType(t typ) {
	if s.typ == typNone {
		s.typ = t
	}
	if s.fam >= 0 && s.ix.fams[s.fam].typ == t && s.ix.fams[s.fam].typeLine != nil && s.known(segType) {
		return
	}
	s.note(metaType, t, nil)
}
