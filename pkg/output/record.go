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
	format  Format
	head    string   // ` name=web pid=42 out=stdout msg="`
	tail    string   // `" region=eu`, which ends msg
	keys    []string // of the labels
	longest int      // key of ours, so that most are not looked up
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
	b = append(b[:0], '"')
	for _, key := range slices.Sorted(maps.Keys(cfg.Labels)) {
		b = append(b, ' ')
		if reserved([]byte(key)) {
			b = append(b, "label_"...)
		}
		b = append(appendKey(b, []byte(key)), '=')
		b = appendValue(b, []byte(cfg.Labels[key]))
		l.keys = append(l.keys, key)
		l.longest = max(l.longest, len(key))
	}
	l.tail = string(b)
	return l
}

// encoder turns lines into records in out. It belongs to one goroutine; what it needs besides out is reused.
type encoder struct {
	out     []byte
	stamp   []byte // "time=2026-01-02T15:04:05.678Z level="
	stampMs int64
	prefix  []byte  // of an Info record of
	of      *Stream // this stream, up to msg
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
		e.of = nil
	}
}

// begin sets the stream of the records that follow.
func (e *encoder) begin(s *Stream) {
	if e.of != s {
		e.of = s
		e.prefix = append(append(append(e.prefix[:0], e.stamp...), "info"...), s.label.head...)
	}
}

// appendPrefix appends what comes before the text of msg.
func (e *encoder) appendPrefix(b []byte, l *label, level Level) []byte {
	e.tally.lines[level]++
	if level == Info {
		return append(b, e.prefix...)
	}
	b = append(b, e.stamp...)
	b = append(b, level.String()...)
	return append(b, l.head...)
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
	b := appendEscaped(e.appendPrefix(e.out, l, level), msg)
	e.out = append(b, l.tail...)
}

// dropped appends the record that says how many lines the rate limit has taken.
func (e *encoder) dropped(s *Stream, n uint64) {
	e.closeLine(nil)
	e.begin(s)
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
		c = l.classify(line, e.fields)
	} else {
		if e.fields, ok = scanLogfmt(line, e.fields[:0]); !ok {
			return false
		}
		if c = l.classify(line, e.fields); c.msg < 0 && c.level < 0 {
			return false
		}
	}
	b := e.appendPrefix(e.out, l, c.severity)
	if c.msg >= 0 {
		b = e.appendMsg(b, line, &e.fields[c.msg])
	}
	b = append(b, l.tail...)
	for i := 0; i < len(e.fields); {
		switch n := c.run(e.fields, i); {
		case c.used(i):
			i++
		case n == 0:
			b = e.appendField(b, l, line, &e.fields[i])
			i++
		default:
			b = append(b, ' ')
			b = append(b, line[e.fields[i].key:e.fields[i+n-1].end]...)
			i += n
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

// used reports whether a field is in the record already, as its level or message.
func (c *content) used(i int) bool { return i == c.msg || i == c.level && c.exact }

// run returns how many fields from i on can be copied in one piece, because they need no change and one space parts them.
func (c *content) run(fields []field, i int) (n int) {
	for j := i; j < len(fields) && fields[j].verbatim && !c.used(j); j++ {
		if j > i && fields[j].key != fields[j-1].end+1 {
			break
		}
		n++
	}
	return n
}

// classify finds the message and the level, and marks the fields whose keys are ours.
func (l *label) classify(line []byte, fields []field) content {
	c := content{msg: -1, level: -1, severity: Info}
	for i := range fields {
		f := &fields[i]
		key := line[f.key:f.keyEnd]
		switch string(key) {
		case "msg", "message":
			if c.msg < 0 {
				c.msg = i
			}
			f.ours = len(key) == len("msg")
		case "level", "lvl", "severity", "levelname", "log.level":
			if c.level < 0 {
				if level, exact, ok := parseLevel(line[f.val:f.valEnd]); ok {
					c.level, c.severity, c.exact = i, level, exact
				}
			}
			f.ours = string(key) == "level"
		case "time", "name", "pid", "out", "partial", "dropped":
			f.ours = true
		}
		f.ours = !f.keyEscaped && (f.ours || l.labels(key))
		f.verbatim = f.verbatim && !f.ours
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

// labels reports whether a key is that of a label.
func (l *label) labels(key []byte) bool {
	if len(key) > l.longest {
		return false
	}
	for _, k := range l.keys {
		if string(key) == k {
			return true
		}
	}
	return false
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
	b = append(b, ' ')
	key := line[f.key:f.keyEnd]
	if f.keyEscaped {
		e.scratch = unescape(e.scratch[:0], key)
		key = e.scratch
		f.ours = reserved(key) || l.labels(key)
	}
	if f.ours {
		b = append(b, "child_"...)
	}
	if f.keyPlain {
		b = append(b, key...)
	} else {
		b = appendKey(b, key)
	}
	b = append(b, '=')
	value := line[f.val:f.valEnd]
	switch f.kind {
	case bareValue:
		return append(b, value...)
	case cleanValue:
		return append(append(append(b, '"'), value...), '"')
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
