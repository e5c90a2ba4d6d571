package datagram

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// Append appends m as one JSON object, in one line without its end, for which a
// receiver reads the same message. What is not UTF-8 becomes U+FFFD, what is not
// finite 0.
func Append(dst []byte, m *Message) []byte {
	dst = append(dst, `{"name":`...)
	dst = appendString(dst, m.Name)
	dst = append(dst, `,"op":"`...)
	dst = append(dst, m.Op.String()...)
	dst = append(dst, `","value":`...)
	dst = appendNumber(dst, m.Value)
	if len(m.Labels) > 0 {
		dst = append(dst, `,"labels":{`...)
		for i, l := range m.Labels {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, l.Name), ':')
			dst = appendString(dst, l.Value)
		}
		dst = append(dst, '}')
	}
	dst = appendText(dst, `,"help":`, m.Help)
	dst = appendText(dst, `,"index":`, m.Index)
	dst = appendText(dst, `,"id":`, m.ID)
	if !m.Time.IsZero() {
		dst = append(dst, `,"timestamp":"`...)
		dst = append(m.Time.UTC().AppendFormat(dst, time.RFC3339Nano), '"')
	}
	if m.TTL > 0 {
		dst = appendText(dst, `,"ttl":`, m.TTL.String())
	}
	if m.Native {
		dst = append(dst, `,"native":true`...)
	}
	if m.Buckets != nil {
		dst = m.Buckets.append(dst)
	}
	return append(dst, '}')
}

func (b *Buckets) append(dst []byte) []byte {
	if b.Count != 0 {
		dst = append(dst, `,"buckets":`...)
		dst = strconv.AppendInt(dst, int64(b.Count), 10)
	}
	for _, f := range []struct {
		key   string
		value float64
	}{
		{`,"bucket_width":`, b.Width}, {`,"bucket_start":`, b.Start}, {`,"bucket_factor":`, b.Factor},
		{`,"bucket_min":`, b.Min}, {`,"bucket_max":`, b.Max},
	} {
		if f.value != 0 {
			dst = appendNumber(append(dst, f.key...), f.value)
		}
	}
	for i, v := range b.Custom {
		if i == 0 {
			dst = append(dst, `,"bucket_custom":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendNumber(dst, v)
	}
	if len(b.Custom) > 0 {
		dst = append(dst, ']')
	}
	return dst
}

func appendText(dst []byte, key, value string) []byte {
	if value == "" {
		return dst
	}
	return appendString(append(dst, key...), value)
}

func appendNumber(dst []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(dst, '0')
	}
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 && !(v == 0 && math.Signbit(v)) {
		return strconv.AppendInt(dst, int64(v), 10)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

const hex = "0123456789abcdef"

// appendString appends s as a JSON string.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for s != "" {
		n := 0
		for n < len(s) && s[n] >= 0x20 && s[n] < utf8.RuneSelf && s[n] != '"' && s[n] != '\\' {
			n++
		}
		dst = append(dst, s[:n]...)
		if s = s[n:]; s == "" {
			break
		}
		switch c := s[0]; {
		case c == '"' || c == '\\':
			dst, s = append(dst, '\\', c), s[1:]
		case c == '\n':
			dst, s = append(dst, '\\', 'n'), s[1:]
		case c < 0x20:
			dst, s = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15]), s[1:]
		default:
			r, size := utf8.DecodeRuneInString(s)
			dst, s = utf8.AppendRune(dst, r), s[size:]
		}
	}
	return append(dst, '"')
}
