package output

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"time"
)

// label is what a stream's records have in common, made once.
type label struct {
	format Format
	head   string   // ` name=web pid=42 out=stdout msg="`
	tail   string   // ` region=eu` and so on
	keys   []string // of the labels
}

func newLabel(cfg *StreamConfig, pid int) label {
	b := []byte(" name=")
	b = appendValue(b, []byte(cfg.Name))
	b = append(b, " pid="...)
	b = strconv.AppendInt(b, int64(pid), 10)
	b = append(b, " out="...)
	b = appendValue(b, []byte(cfg.Out))
	b = append(b, ` msg="`...)
	l := label{format: cfg.Format, head: string(b)}
	b = b[:0]
	for _, key := range slices.Sorted(maps.Keys(cfg.Labels)) {
		b = append(b, ' ')
		if reserved([]byte(key)) {
			b = append(b, "label_"...)
		}
		b = append(appendKey(b, []byte(key)), '=')
		b = appendValue(b, []byte(cfg.Labels[key]))
		l.keys = append(l.keys, key)
	}
	l.tail = string(b)
	return l
}

// encoder turns lines into records in out. It belongs to one goroutine; what it needs besides out is reused.
type encoder struct {
	out     []byte
	stamp   []byte // "time=2026-01-02T15:04:05.678Z level="
	stampMs int64
	open    *Stream // has written a piece of a plain line that is not terminated yet
	fields  []field
	scratch []byte
	tally   tally
}

// setTime sets the time of the records that follow.
func (e *encoder) setTime(t time.Time) {
	if ms := t.UnixMilli(); ms != e.stampMs || len(e.stamp) == 0 {
		e.stampMs = ms
		e.stamp = append(e.stamp[:0], "time="...)
		e.stamp = append(appendTime(e.stamp, t), " level="...)
	}
}

// closeLine makes sure that what s writes next starts on a line of its own. s is nil for our own lines.
func (e *encoder) closeLine(s *Stream) {
	if e.open != nil && e.open != s {
		e.out = append(e.out, '\n')
		e.open = nil
	}
}

// line appends the record of one line.
func (e *encoder) line(s *Stream, line []byte, p part) {
	e.closeLine(s)
	switch {
	case s.label.format == Plain:
		e.plain(s, line, p)
	case p != whole:
		e.text(&s.label, Info, line)
		e.out = append(e.out, partialField[p]...)
		e.out = append(e.out, '\n')
	case !e.structured(&s.label, line):
		level := Info
		if s.label.format == Auto {
			level = detectLevel(line)
		}
		e.text(&s.label, level, line)
		e.out = append(e.out, '\n')
	}
}

var partialField = [...]string{first: " partial=first", middle: " partial=middle", last: " partial=last"}

func (e *encoder) plain(s *Stream, line []byte, p part) {
	e.out = append(e.out, line...)
	if p == first || p == middle {
		e.open = s
		return
	}
	e.open = nil
	e.out = append(e.out, '\n')
	e.tally.lines[Info]++
}

// text appends a record without its newline.
func (e *encoder) text(l *label, level Level, msg []byte) {
	e.tally.lines[level]++
	b := append(e.out, e.stamp...)
	b = append(b, level.String()...)
	b = append(b, l.head...)
	b = appendEscaped(b, msg)
	b = append(b, '"')
	e.out = append(b, l.tail...)
}

// dropped appends the record that says how many lines the rate limit has taken.
func (e *encoder) dropped(s *Stream, n uint64) {
	e.closeLine(nil)
	e.text(&s.label, Warn, []byte("lines dropped by the rate limit (log.rate)"))
	e.out = append(e.out, " dropped="...)
	e.out = append(strconv.AppendUint(e.out, n, 10), '\n')
}

// structured appends the record of a JSON or logfmt line; it appends nothing and returns false for another one.
func (e *encoder) structured(l *label, line []byte) bool {
	var ok bool
	var c content
	if len(line) > 0 && line[0] == '{' {
		if e.fields, ok = scanJSON(line, e.fields[:0]); !ok {
			return false
		}
		c = findContent(line, e.fields)
	} else {
		if e.fields, ok = scanLogfmt(line, e.fields[:0]); !ok {
			return false
		}
		if c = findContent(line, e.fields); c.msg < 0 && c.level < 0 {
			return false
		}
	}
	e.tally.lines[c.severity]++
	b := append(e.out, e.stamp...)
	b = append(b, c.severity.String()...)
	b = append(b, l.head...)
	if c.msg >= 0 {
		b = e.appendMsg(b, line, &e.fields[c.msg])
	}
	b = append(b, '"')
	b = append(b, l.tail...)
	for i := range e.fields {
		if i != c.msg && (i != c.level || !c.exact) {
			b = e.appendField(b, l, line, &e.fields[i])
		}
	}
	e.out = append(b, '\n')
	return true
}

// content says which fields are the message and the level; -1 where there is none.
type content struct {
	msg, level int
	severity   Level
	exact      bool // the level's normal form says all that the field says
}

func findContent(line []byte, fields []field) content {
	c := content{msg: -1, level: -1, severity: Info}
	for i := range fields {
		f := &fields[i]
		switch string(line[f.key:f.keyEnd]) {
		case "msg", "message":
			if c.msg < 0 {
				c.msg = i
			}
		case "level", "lvl", "severity", "levelname", "log.level":
			if c.level >= 0 {
				continue
			}
			if level, exact, ok := parseLevel(line[f.val:f.valEnd]); ok {
				c.level, c.severity, c.exact = i, level, exact
			}
		}
	}
	return c
}

// reserved reports whether a key is one of our own.
func reserved(key []byte) bool {
	switch string(key) {
	case "time", "level", "name", "pid", "out", "msg", "partial", "dropped":
		return true
	}
	return false
}

func (l *label) taken(key []byte) bool {
	for _, k := range l.keys {
		if string(key) == k {
			return true
		}
	}
	return reserved(key)
}

func (e *encoder) appendMsg(b, line []byte, f *field) []byte {
	value := line[f.val:f.valEnd]
	switch f.kind {
	case bareValue, cleanValue:
		return append(b, value...)
	case escapedValue:
		e.scratch = unescape(e.scratch[:0], value)
		value = e.scratch
	}
	return appendEscaped(b, value)
}

func (e *encoder) appendField(b []byte, l *label, line []byte, f *field) []byte {
	key := line[f.key:f.keyEnd]
	if f.keyEscaped {
		e.scratch = unescape(e.scratch[:0], key)
		key = e.scratch
	}
	b = append(b, ' ')
	if l.taken(key) {
		b = append(b, "child_"...)
	}
	b = append(appendKey(b, key), '=')
	value := line[f.val:f.valEnd]
	switch f.kind {
	case bareValue:
		return append(b, value...)
	case escapedValue:
		e.scratch = unescape(e.scratch[:0], value)
		value = e.scratch
	}
	return appendValue(b, value)
}

// bulk appends what a chunk holds of whole plain lines, and returns the rest.
func (e *encoder) bulk(s *Stream, chunk []byte) (rest []byte) {
	end := bytes.LastIndexByte(chunk, '\n') + 1
	if end == 0 {
		return chunk
	}
	e.closeLine(s)
	e.open = nil
	e.out = append(e.out, chunk[:end]...)
	e.tally.lines[Info] += uint64(bytes.Count(chunk[:end], newline))
	return chunk[end:]
}

var newline = []byte{'\n'}
