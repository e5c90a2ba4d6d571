package sink

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// AppendEvent appends m as a JSON object without a final '}', so that a sink can add fields:
//
//	{"name":"restart","op":"event","value":1,"labels":{"pod":"web-0"},"help":"...","index":"...","id":"...","timestamp":"2026-01-02T03:04:05.678Z"
//
// Empty help, index and id are left out. It is the wire format again, so that a dead letter can be
// sent once more. A value that JSON does not have (NaN, ±Inf) becomes null. Strings are escaped as
// by encoding/json without its HTML escapes.
func AppendEvent(dst []byte, m *datagram.Message, at time.Time) []byte {
	dst = append(dst, `{"name":`...)
	dst = AppendString(dst, m.Name)
	dst = append(dst, `,"op":`...)
	dst = AppendString(dst, m.Op.String())
	dst = append(dst, `,"value":`...)
	dst = appendFloat(dst, m.Value)
	dst = append(dst, `,"labels":{`...)
	for i, l := range m.Labels {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, l.Name)
		dst = append(dst, ':')
		dst = AppendString(dst, l.Value)
	}
	dst = append(dst, '}')
	for _, f := range [...]struct{ key, value string }{{`,"help":`, m.Help}, {`,"index":`, m.Index}, {`,"id":`, m.ID}} {
		if f.value != "" {
			dst = append(dst, f.key...)
			dst = AppendString(dst, f.value)
		}
	}
	dst = append(dst, `,"timestamp":"`...)
	dst = at.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"')
}

// appendFloat writes f as encoding/json does.
func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	dst = strconv.AppendFloat(dst, f, format, -1, 64)
	if n := len(dst); format == 'e' && n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1] // e-09 to e-9
		dst = dst[:n-1]
	}
	return dst
}

// AppendString appends s as a JSON string, as encoding/json does without its HTML escapes: invalid
// UTF-8 becomes U+FFFD.
func AppendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		if bad := r == utf8.RuneError && n == 1; bad || c < utf8.RuneSelf || r == '\u2028' || r == '\u2029' {
			dst = appendEscape(append(dst, s[start:i]...), r)
			start = i + n
		}
		i += n
	}
	return append(append(dst, s[start:]...), '"')
}

func appendEscape(dst []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
