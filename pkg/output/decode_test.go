package output

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// pair is a key and value of a record. This decoder shares nothing with the encoder.
type pair struct{ key, value string }

func decodeRecord(line string) (pairs []pair, err error) {
	line, ok := strings.CutSuffix(line, "\n")
	if !ok || strings.Contains(line, "\n") {
		return nil, fmt.Errorf("%q is not one line", line)
	}
	for line != "" {
		key, rest, ok := strings.Cut(line, "=")
		if !ok || strings.ContainsAny(key, " \"") || key == "" {
			return nil, fmt.Errorf("no key at %q", line)
		}
		p := pair{key: decodeKey(key)}
		if strings.HasPrefix(rest, `"`) {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return nil, fmt.Errorf("bad quotes at %q", rest)
			}
			if p.value, err = strconv.Unquote(quoted); err != nil {
				return nil, err
			}
			rest = rest[len(quoted):]
		} else {
			end := strings.IndexByte(rest, ' ')
			if end < 0 {
				end = len(rest)
			}
			p.value, rest = rest[:end], rest[end:]
			if strings.ContainsAny(p.value, "\"=\t\r\x00\x7f") || p.value == "" {
				return nil, fmt.Errorf("value %q needs quotes", p.value)
			}
		}
		pairs = append(pairs, p)
		if rest != "" && rest[0] != ' ' {
			return nil, fmt.Errorf("no space at %q", rest)
		}
		line = strings.TrimPrefix(rest, " ")
	}
	return pairs, nil
}

func decodeKey(key string) string {
	if key == "%" {
		return ""
	}
	var out []byte
	for i := 0; i < len(key); i++ {
		if key[i] == '%' && i+2 < len(key) {
			if n, err := strconv.ParseUint(key[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(n))
				i += 2
				continue
			}
		}
		out = append(out, key[i])
	}
	return string(out)
}

// values returns the values of a key.
func values(pairs []pair, key string) (all []string) {
	for _, p := range pairs {
		if p.key == key {
			all = append(all, p.value)
		}
	}
	return all
}

// linesOf cuts complete lines, newline included.
func linesOf(b []byte) (lines []string) {
	for _, l := range bytes.SplitAfter(b, newline) {
		if len(l) > 0 {
			lines = append(lines, string(l))
		}
	}
	return lines
}
