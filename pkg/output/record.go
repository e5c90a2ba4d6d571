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
	tail   string   // `" region=eu`, which ends msg
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
	b = append(b[:0], '"')
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
	prefix  []byte  // of an Info record of
	of      *Stream // this stream, up to msg
	open    *Stream // has written a piece of a plain line that is not terminated yet
	known   keySet  // of that stream: keys of ours and of its labels
	found
	scratch []byte
	copied  []byte // see terminated
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
		e.known = ourKeys
		for _, key := range s.label.keys {
			e.known.add(key)
		}
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
	for _, k := range l.keys {
		if string(key) == k {
			return true
		}
	}
	return false
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
