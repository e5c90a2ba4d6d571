package spec

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const maxEnvVars = 10_000

// ParseEnvFile reads NAME=value lines, as shells and Docker write them:
//
//	# a comment
//	export NAME=value        # export and a comment after a space are dropped
//	EMPTY=
//	SINGLE='as it is: $HOME, \n'
//	DOUBLE="escapes: \n \t \r \" \\ \$"
//
// A quoted value may span lines. Nothing is expanded. An error names the line
// and never shows what stands there.
func ParseEnvFile(data []byte) ([]EnvVar, error) {
	if len(data) > maxEnvFile {
		return nil, fmt.Errorf("more than %s", showSize(maxEnvFile))
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data) {
		return nil, errors.New("is not text")
	}
	r := &envReader{rest: strings.ReplaceAll(string(data), "\r\n", "\n"), line: 1}
	var vars []EnvVar
	for r.rest != "" {
		line := r.line
		v, ok, err := r.next()
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if ok {
			vars = append(vars, v)
		}
		if len(vars) > maxEnvVars {
			return nil, fmt.Errorf("line %d: more than %d variables", line, maxEnvVars)
		}
	}
	return vars, nil
}

type envReader struct {
	rest string
	line int
}

// next reads one line, or more where a quoted value spans them.
func (r *envReader) next() (v EnvVar, ok bool, err error) {
	line, _, _ := strings.Cut(r.rest, "\n")
	trimmed := strings.TrimLeft(line, " \t")
	if trimmed = strings.TrimRight(trimmed, " \t"); trimmed == "" || trimmed[0] == '#' {
		r.take(len(line))
		return v, false, nil
	}
	name, _, found := strings.Cut(line, "=")
	if !found {
		return v, false, errors.New("has no = after a name")
	}
	r.rest = r.rest[len(name)+1:]
	name = strings.TrimSpace(name)
	if after, ok := strings.CutPrefix(name, "export"); ok && after != strings.TrimLeft(after, " \t") {
		name = strings.TrimLeft(after, " \t")
	}
	if !plainVar(name) {
		return v, false, errors.New("what stands before = is not the name of a variable")
	}
	v.Name = name
	v.Value, err = r.value()
	return v, true, err
}

// take drops n bytes and the line break after them.
func (r *envReader) take(n int) {
	r.line += strings.Count(r.rest[:n], "\n") + 1
	r.rest = strings.TrimPrefix(r.rest[n:], "\n")
}

func (r *envReader) value() (string, error) {
	r.rest = strings.TrimLeft(r.rest, " \t")
	if r.rest == "" || r.rest[0] != '\'' && r.rest[0] != '"' {
		line, _, _ := strings.Cut(r.rest, "\n")
		r.take(len(line))
		return strings.TrimRight(uncomment(line), " \t"), nil
	}
	quote := r.rest[0]
	var b strings.Builder
	i := 1
	for ; i < len(r.rest) && r.rest[i] != quote; i++ {
		if c := r.rest[i]; c == '\\' && quote == '"' && i+1 < len(r.rest) {
			i++
			b.WriteString(unescape(r.rest[i]))
			continue
		}
		b.WriteByte(r.rest[i])
	}
	if i >= len(r.rest) {
		return "", errors.New("the quote is not closed")
	}
	tail, _, _ := strings.Cut(r.rest[i+1:], "\n")
	if strings.TrimSpace(uncomment(" "+tail)) != "" {
		return "", errors.New("there is more after the closing quote")
	}
	r.take(i + 1 + len(tail))
	return b.String(), nil
}

// uncomment drops a # that follows a space or starts s, and all after it.
func uncomment(s string) string {
	for i := range len(s) {
		if s[i] == '#' && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t') {
			return s[:i]
		}
	}
	return s
}

// unescape returns what \c means in double quotes; others stay as they are.
func unescape(c byte) string {
	switch c {
	case 'n':
		return "\n"
	case 't':
		return "\t"
	case 'r':
		return "\r"
	case '"', '\\', '$', '`':
		return string(c)
	case '\n':
		return ""
	}
	return string([]byte{'\\', c})
}

// plainVar is stricter than goodVar: what a shell could read, and . and -.
func plainVar(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alnum(c) && c != '_' && (i == 0 || c != '.' && c != '-') || i == 0 && '0' <= c && c <= '9' {
			return false
		}
	}
	return s != ""
}
