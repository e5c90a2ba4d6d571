package collect

import (
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// exposeChunk is how many series are written in one go, while receivers wait.
const exposeChunk = 500

// page writes families in one format.
type page interface {
	begin(b []byte, f *family) []byte
	series(b []byte, f *family, s *series) []byte
	// end is given everything since begin.
	end(b []byte, f *family) []byte
	// whole says that a family must not be written before its end.
	whole() bool
}

// expose writes all series, by name. Each family is as it was at one moment, up
// to chunks of 500 series.
func (r *Registry) expose(w io.Writer, p page) error {
	r.mu.Lock()
	names := make([]string, 0, len(r.families))
	for name := range r.families {
		names = append(names, name)
	}
	r.mu.Unlock()
	slices.Sort(names)
	var buf []byte
	var all []*series
	for _, name := range names {
		r.mu.Lock()
		f := r.families[name]
		if f == nil {
			r.mu.Unlock()
			continue
		}
		all = append(all[:0], f.series...)
		r.mu.Unlock()
		var err error
		if buf, err = r.exposeFamily(w, p, f, all, buf[:0]); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) exposeFamily(w io.Writer, p page, f *family, all []*series, buf []byte) ([]byte, error) {
	buf = p.begin(buf, f)
	for chunk := range slices.Chunk(all, exposeChunk) {
		r.mu.Lock()
		for _, s := range chunk {
			if s.pos >= 0 {
				buf = p.series(buf, f, s)
			}
		}
		r.mu.Unlock()
		if !p.whole() {
			if _, err := w.Write(buf); err != nil {
				return buf, err
			}
			buf = buf[:0]
		}
	}
	buf = p.end(buf, f)
	_, err := w.Write(buf)
	return buf, err
}

// eachLabel calls f with the labels of a key.
func eachLabel(key string, f func(name, value string)) {
	_, rest, more := cut(key)
	for more {
		var name, value string
		name, rest, _ = cut(rest)
		value, rest, more = cut(rest)
		f(name, value)
	}
}

func cut(s string) (before, after string, found bool) {
	if i := strings.IndexByte(s, separator); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

func (k kind) String() string {
	switch k {
	case counter:
		return "counter"
	case histo:
		return "histogram"
	}
	return "gauge"
}

// textPage is the text format 0.0.4.
type textPage struct{}

func (textPage) whole() bool                    { return false }
func (textPage) end(b []byte, _ *family) []byte { return b }

func (textPage) begin(b []byte, f *family) []byte {
	if f.help != "" {
		b = append(append(append(b, "# HELP "...), f.name...), ' ')
		b = append(appendEscaped(b, f.help, false), '\n')
	}
	b = append(append(append(b, "# TYPE "...), f.name...), ' ')
	return append(append(b, f.kind.String()...), '\n')
}

func (textPage) series(b []byte, f *family, s *series) []byte {
	if f.kind != histo {
		return append(appendFloat(append(appendSeries(b, f.name, "", s.key, ""), ' '), s.value), '\n')
	}
	h := s.histogram
	var sum uint64
	counts := h.counts
	if h.native != nil {
		counts = h.classic(len(f.bounds))
	}
	for i, le := range f.les {
		sum += counts[i]
		b = append(appendSeries(b, f.name, "_bucket", s.key, le), ' ')
		b = append(strconv.AppendUint(b, sum, 10), '\n')
	}
	b = append(appendSeries(b, f.name, "_bucket", s.key, "+Inf"), ' ')
	b = append(strconv.AppendUint(b, h.count, 10), '\n')
	b = append(appendSeries(b, f.name, "_sum", s.key, ""), ' ')
	b = append(appendFloat(b, h.sum), '\n')
	b = append(appendSeries(b, f.name, "_count", s.key, ""), ' ')
	return append(strconv.AppendUint(b, h.count, 10), '\n')
}

func appendSeries(b []byte, name, suffix, key, le string) []byte {
	b = append(append(b, name...), suffix...)
	sep := byte('{')
	eachLabel(key, func(name, value string) {
		b = append(append(append(b, sep), name...), '=', '"')
		b = append(appendEscaped(b, value, true), '"')
		sep = ','
	})
	if le != "" {
		b = append(append(append(b, sep), `le="`...), le...)
		b = append(b, '"')
		sep = ','
	}
	if sep == ',' {
		b = append(b, '}')
	}
	return b
}

func appendEscaped(b []byte, s string, quotes bool) []byte {
	for {
		i := strings.IndexAny(s, "\\\n\"")
		if i < 0 {
			return append(b, s...)
		}
		b = append(b, s[:i]...)
		switch {
		case s[i] == '\n':
			b = append(b, '\\', 'n')
		case s[i] == '\\' || quotes:
			b = append(b, '\\', s[i])
		default:
			b = append(b, s[i])
		}
		s = s[i+1:]
	}
}

func appendFloat(b []byte, v float64) []byte {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.AppendInt(b, int64(v), 10)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}
