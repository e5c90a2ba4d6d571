package output

import (
	"context"
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
)

// NewHandler returns a handler that writes each record of our own log as one logfmt line, in one call of w.Write, with
// the encoder of the children's lines: time, level (debug, info, warn, error, fatal), msg, then the attributes. Keys in
// groups are joined with dots. A nil level means Info.
func NewHandler(w io.Writer, level slog.Leveler) slog.Handler {
	if level == nil {
		level = slog.LevelInfo
	}
	return &handler{level: level, dst: &lockedWriter{w: w}}
}

type handler struct {
	level  slog.Leveler
	dst    *lockedWriter
	preset string // encoded attributes of WithAttrs
	group  string // prefix of the keys: "" or "a.b."
}

// lockedWriter is shared by a handler and what WithAttrs and WithGroup make of it. The lock is not held while a record is
// encoded, because an attribute's value may log.
type lockedWriter struct {
	mu      sync.Mutex // guards w
	w       io.Writer
	buffers sync.Pool // of *[]byte
}

func (d *lockedWriter) write(b []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.w.Write(b)
	return err
}

// keepLine is the largest buffer that a handler keeps for the next line.
const keepLine = 16 << 10

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// Handle implements slog.Handler.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	buf, ok := h.dst.buffers.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	b := (*buf)[:0]
	if !r.Time.IsZero() {
		b = append(appendTime(append(b, "time="...), r.Time), ' ')
	}
	b = append(b, "level="...)
	b = append(b, levelOf(r.Level).String()...)
	b = append(b, ` msg="`...)
	b = append(appendEscaped(b, []byte(r.Message)), '"')
	b = append(b, h.preset...)
	r.Attrs(func(a slog.Attr) bool {
		b = appendAttr(b, h.group, a)
		return true
	})
	b = append(b, '\n')
	err := h.dst.write(b)
	if cap(b) <= keepLine {
		*buf = b
		h.dst.buffers.Put(buf)
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	b := []byte(h.preset)
	for _, a := range attrs {
		b = appendAttr(b, h.group, a)
	}
	clone := *h
	clone.preset = string(b)
	return &clone
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	clone := *h
	clone.group += name + "."
	return &clone
}

func levelOf(l slog.Level) Level {
	switch {
	case l < slog.LevelInfo:
		return Debug
	case l < slog.LevelWarn:
		return Info
	case l < slog.LevelError:
		return Warn
	case l < slog.LevelError+4:
		return Error
	}
	return Fatal
}

func appendAttr(b []byte, group string, a slog.Attr) []byte {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, inner := range value.Group() {
			b = appendAttr(b, group, inner)
		}
		return b
	}
	if a.Key == "" && value.Equal(slog.Value{}) {
		return b
	}
	b = append(b, ' ')
	if group != "" {
		b = appendKey(b, []byte(group))
	}
	if group == "" || a.Key != "" {
		b = appendKey(b, []byte(a.Key))
	}
	return appendSlogValue(append(b, '='), value)
}

func appendSlogValue(b []byte, v slog.Value) []byte {
	switch v.Kind() {
	case slog.KindString:
		return appendValue(b, []byte(v.String()))
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindFloat64:
		return strconv.AppendFloat(b, v.Float64(), 'g', -1, 64)
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindTime:
		return appendTime(b, v.Time())
	case slog.KindDuration:
		return append(b, v.Duration().String()...)
	}
	return appendAny(b, v.Any())
}

// appendAny formats with package fmt, which catches the panics of what it calls.
func appendAny(b []byte, v any) []byte {
	switch v := v.(type) {
	case []byte:
		return appendValue(b, v)
	case error, fmt.Stringer:
		return appendValue(b, fmt.Appendf(nil, "%v", v))
	case encoding.TextMarshaler:
		if text, err := marshalText(v); err == nil {
			return appendValue(b, text)
		}
	}
	return appendValue(b, fmt.Appendf(nil, "%+v", v))
}

func marshalText(v encoding.TextMarshaler) (text []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("marshal text: %v", r)
		}
	}()
	return v.MarshalText()
}

var _ slog.Handler = (*handler)(nil)
