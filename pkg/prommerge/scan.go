package prommerge

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
)

// lab is a label of the line in hand. Name is unescaped (and escaped anew as the answer needs it), value is as it
// stands between its quotes.
type lab struct {
	name, value []byte
	lines       bool // value holds a newline that is not escaped
}

// scanner checks the lines of one page and splices the target's labels into them. It sees a page in blocks of
// whole lines. Most lines repeat the metric and label names of the line before: those go through fast, which
// compares instead of parsing. All others go through line, which implements the grammar.
type scanner struct {
	builder
	inj   *injection
	esc   escaping
	om    bool
	eof   bool // # EOF was seen
	ascii bool // the block in hand is plain ASCII

	cur    []byte // metric name of the last line, where the next one may be compared with it
	prefix []byte // cur, an opening brace and the labels of the target, as the last line has them in the part
	shape  shape  // of its labels
	own    shape  // memory for shape, where the index has none

	labs, exLabs []lab
	metric       []byte // metric name of the line in hand, unescaped
	inBraces     bool   // … it stood quoted between the braces
	canonical    bool   // the line has no blank, comma or quote that need not be there
	names        []byte // unescaped names of the line in hand
	work         []byte // a line under construction
	seen         map[string]struct{}
}

var scannerPool = sync.Pool{New: func() any { return &scanner{seen: map[string]struct{}{}} }}

func newScanner(p *part, ix *index, inj *injection, esc escaping) *scanner {
	s := scannerPool.Get().(*scanner)
	s.start(p, ix)
	s.inj, s.esc, s.om = inj, esc, p.wire == wireOpenMetrics
	s.eof = false
	return s
}

func (s *scanner) release() {
	s.builder = builder{}
	s.inj, s.metric, s.labs, s.exLabs = nil, nil, s.labs[:0], s.exLabs[:0]
	s.cur, s.prefix, s.shape = nil, nil, shape{}
	scannerPool.Put(s)
}

// scan works on b, which holds whole lines but for a newline within a label value, and returns how much of it is
// done. It stops early, without an error, where a label value goes on behind the end of b.
func (s *scanner) scan(b []byte) (int, error) {
	s.ascii = asciiOnly(b)
	s.ix.mu.RLock()
	defer s.ix.mu.RUnlock()
	for i := 0; i < len(b); {
		var n int
		var err error
		if b[i] == '#' {
			if n, err = s.comment(b[i:]); err == nil && s.eof && i+n < len(b) {
				err = errAfterEOF
			}
		} else if n = s.fast(b[i:]); n == 0 {
			n, err = s.line(b[i:])
		}
		if err != nil {
			return i, err
		}
		if n == 0 {
			return i, nil
		}
		i += n
	}
	return len(b), nil
}

// fast handles a line that begins like the last one, and returns its length; 0 where it does not.
func (s *scanner) fast(b []byte) int {
	nl := len(s.cur)
	if nl == 0 || len(b) <= nl || string(b[:nl]) != string(s.cur) {
		return 0
	}
	j := nl
	sep, rest := byte('}'), nl
	if b[j] == '{' {
		if j = s.shape.match(b, j+1); j == 0 || !s.validIn(b[nl:j]) {
			return 0
		}
		sep, rest = ',', nl+1
	}
	if b[j] != ' ' {
		return 0
	}
	if j+2 < len(b) && b[j+2] == '\n' && isDigit(b[j+1]) { // most values
		j += 2
	} else if j = plainFloat(b, j+1); j == 0 {
		return 0
	} else if b[j] != '\n' {
		if j = shortMillis(b, j); j == 0 || s.om {
			return 0
		}
	}
	s.emit(b, j+1, nl, rest, sep)
	s.p.samples++
	return j + 1
}

// emit appends the line b[:end], whose metric name ends at nl, with the labels of the target, sep and b[rest:end] behind it.
func (s *scanner) emit(b []byte, end, nl, rest int, sep byte) {
	k := nl + 1 + len(s.inj.text)
	n := k + 1 + end - rest
	o := s.out
	if cap(o)-len(o) < n+spare {
		o = s.room(n + spare)
	}
	q := o[len(o) : len(o)+n+spare]
	if len(s.prefix) == k {
		copySpare(q, s.prefix[:k+spare], k)
	} else {
		copy(q, b[:nl])
		q[nl] = '{'
		copy(q[nl+1:], s.inj.text)
		s.prefix = q[:k]
	}
	q[k] = sep
	if len(b) >= end+spare {
		copySpare(q[k+1:], b[rest:], end-rest)
	} else {
		copy(q[k+1:], b[rest:end])
	}
	s.out = o[:len(o)+n]
}

// spare is how much copySpare may read and write beyond the end of what it copies.
const spare = 32

// copySpare copies n bytes in steps of a fixed size, which is quicker than copy for the short pieces of a line. Both
// slices hold spare bytes more.
func copySpare(to, from []byte, n int) {
	if n > 2*spare {
		copy(to, from[:n])
		return
	}
	for i := 0; i < n; i += spare {
		t, f := to[i:i+spare], from[i:i+spare]
		copy(t[:16], f[:16])
		copy(t[16:spare], f[16:spare])
	}
}

// shortMillis returns the index of the end of the line, if b[j:] is one blank and a timestamp in milliseconds; else 0.
func shortMillis(b []byte, j int) int {
	if b[j] != ' ' {
		return 0
	}
	e := digits(b, j+1)
	if b[e] != '\n' || e == j+1 || e > j+19 {
		return 0
	}
	return e
}

// line handles any line that is not a comment, by the grammar of its format.
func (s *scanner) line(b []byte) (int, error) {
	s.cur = nil
	s.canonical, s.inBraces, s.metric, s.names = true, false, nil, s.names[:0]
	j := s.blanks(b, 0)
	switch b[j] {
	case '\n':
		if s.om {
			return 0, errSyntax(b, "a blank line")
		}
		return j + 1, nil
	case '#':
		if s.om {
			return 0, errSyntax(b, "a blank before #")
		}
		n, err := s.comment(b[j:])
		return j + n, err
	}
	start := j
	j = nameEnd(b, j)
	if j > start {
		s.metric = b[start:j]
	} else if b[j] != '{' {
		return 0, errSyntax(b, "no metric name")
	}
	nl := j
	if s.om {
		if b[j] != '{' && b[j] != ' ' {
			return 0, errSyntax(b, "no blank after the metric name")
		}
	} else if k := skipBlanks(b, j); k > j && b[k] == '{' {
		j, s.canonical = k, false
	}
	s.labs = s.labs[:0]
	braces := b[j] == '{'
	if braces {
		var err error
		if j, err = s.labels(b, j+1, &s.labs, false); err != nil || j == 0 {
			return 0, err
		}
	}
	return s.sample(b, start, nl, j, braces)
}

// sample handles what follows the labels, and emits the line.
func (s *scanner) sample(b []byte, start, nl, j int, braces bool) (int, error) {
	if len(s.metric) == 0 {
		return 0, errSyntax(b, "no metric name")
	}
	if what := badLabels(s.labs, s.seen); what != "" {
		return 0, errSyntax(b, what)
	}
	rest := j
	read := s.textValue
	if s.om {
		read = s.omValue
	}
	value, tail, j, err := read(b, j)
	if err != nil {
		return 0, err
	}
	s.place()
	s.p.samples++
	if s.canonical && !s.inBraces && start == 0 && b[rest] == ' ' && !s.inj.clash(s.labs) && (len(s.labs) > 0 || !braces) && !isOwn(s.metric) {
		s.splice(b, j, nl, braces)
		return j, nil
	}
	s.work = s.appendLine(s.work[:0], value, tail)
	s.append(s.work)
	return j, nil
}

// place makes the family of the line in hand the current one.
func (s *scanner) place() {
	if !s.named || !belongs(s.metric, s.name, s.typ, s.p.wire) {
		s.family(s.metric)
	}
	created := s.om && s.typ != typNone && bytes.HasSuffix(s.metric, []byte("_created")) && len(s.metric) > len(s.name)
	if created != (s.flags&segCreated != 0) {
		s.switchCreated(created)
	}
}

// switchCreated begins or ends a run of _created series, which other formats keep elsewhere.
func (s *scanner) switchCreated(created bool) {
	keep := s.flags &^ segCreated
	if len(s.out) > s.open {
		s.cut()
		keep = 0
	}
	s.flags = keep
	if created {
		s.flags |= segCreated
	}
}

// splice emits b[:end], a canonical line, and remembers what the next one may be compared with.
func (s *scanner) splice(b []byte, end, nl int, braces bool) {
	s.own.reset()
	for i := range s.labs {
		s.own.add(s.labs[i].name)
	}
	s.shape = s.own
	if s.fam < 0 || s.ix.fams[s.fam].first == nil {
		s.teach(b[:nl])
	}
	s.prefix = nil
	if braces {
		s.emit(b, end, nl, nl+1, ',')
	} else {
		s.emit(b, end, nl, nl, '}')
	}
	s.cur = s.prefix[:nl]
}

// teach notes what the line in hand looks like, for the index. Only the first line of a family gets there.
func (s *scanner) teach(name []byte) {
	if len(s.out) > s.open || s.flags&segCreated != 0 || s.esc != allowUTF8 && s.esc != escapeUnderscores {
		return
	}
	s.work = append(s.work[:0], name...)
	for i := range s.labs {
		s.work = append(append(s.work, '\n'), s.labs[i].name...)
	}
	meta := s.meta
	s.note(metaFirst, typNone, s.work)
	s.meta, s.miss = meta, true
}

// expect prepares for the first line of family f to look like it did in an earlier page.
func (s *scanner) expect(f *family) {
	s.cur, s.prefix = nil, nil
	if f.first == nil || len(f.first) != len(f.name) && s.typ != f.typ || s.inj.clashes(f.labels) {
		return
	}
	s.cur, s.shape = f.first, f.shape
}

// blanks skips blanks where the format allows them.
func (s *scanner) blanks(b []byte, j int) int {
	if s.om {
		return j
	}
	for isBlank(b[j]) {
		s.canonical = false
		j++
	}
	return j
}

// maxLabels is how many labels a series may have: looking for one that is there twice must have its limits.
const maxLabels = 4096

var errTooMany = &targetError{reason: reasonTooLarge, err: errors.New("a series has too many labels")}

// badLabels says why Prometheus would refuse the whole page for its labels, or nothing. seen is memory for it.
func badLabels(labs []lab, seen map[string]struct{}) string {
	if len(labs) > 64 {
		seen = make(map[string]struct{}, len(labs)) // to clear a map takes as long as it ever was
	}
	if len(labs) > 16 {
		clear(seen)
		for i := range labs {
			seen[string(labs[i].name)] = struct{}{}
		}
		_, bad := seen["__name__"]
		if !bad && len(seen) == len(labs) {
			return ""
		}
	}
	for i := range labs {
		n := labs[i].name
		if string(n) == "__name__" {
			return "a label called __name__"
		}
		for k := range i {
			if string(labs[k].name) == string(n) {
				return "a label twice"
			}
		}
	}
	return ""
}

// errSyntax says what is wrong and shows the beginning of the line.
func errSyntax(b []byte, what string) error {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		b = b[:i]
	}
	if len(b) > 80 {
		b = b[:80]
	}
	return &targetError{reason: reasonSyntax, err: fmt.Errorf("%s in %q", what, b)}
}
