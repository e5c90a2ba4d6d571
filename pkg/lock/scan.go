package lock

import (
	"bytes"
	"unicode/utf8"
)

// Renewals are most of what a server is asked, and encoding/json took a quarter of our part of their time. The bodies
// that clients usually send are read by hand; whatever else, also what is wrong, is left to
// encoding/json.

// tokenBody is the body of renew.
type tokenBody struct {
	Token int64 `json:"token"`
}

// refsBody is the body of a renewal of many.
type refsBody struct {
	Locks []refJSON `json:"locks"`
}

// scan reads {"token":1}, and reports whether that is what body is. Else nothing has changed.
func (t *tokenBody) scan(body []byte) bool {
	s := scanner(body)
	n, ok := s.token()
	if !ok || !s.take('}') || !s.end() {
		return false
	}
	t.Token = n
	return true
}

// scan reads {"locks":[{"key":"a","token":1},…]} likewise.
func (r *refsBody) scan(body []byte) bool {
	s := scanner(body)
	if !s.take('{') || !s.name("locks") || !s.take('[') {
		return false
	}
	locks := make([]refJSON, 0, 1+bytes.Count(body, []byte("},")))
	for more := true; more; more = s.take(',') {
		ref, ok := s.ref()
		if !ok {
			return false
		}
		locks = append(locks, ref)
	}
	if !s.take(']') || !s.take('}') || !s.end() {
		return false
	}
	r.Locks = locks
	return true
}

// scanner is what is left of a body.
type scanner []byte

func (s *scanner) space() {
	for len(*s) > 0 && ((*s)[0] == ' ' || (*s)[0] == '\n' || (*s)[0] == '\r' || (*s)[0] == '\t') {
		*s = (*s)[1:]
	}
}

// take takes c and the white space before it.
func (s *scanner) take(c byte) bool {
	s.space()
	if len(*s) == 0 || (*s)[0] != c {
		return false
	}
	*s = (*s)[1:]
	return true
}

func (s *scanner) end() bool {
	s.space()
	return len(*s) == 0
}

// text takes a string without escapes.
func (s *scanner) text() (string, bool) {
	if !s.take('"') {
		return "", false
	}
	for i, c := range *s {
		switch {
		case c == '"':
			text := string((*s)[:i])
			*s = (*s)[i+1:]
			return text, utf8.ValidString(text)
		case c == '\\' || c < ' ':
			return "", false
		}
	}
	return "", false
}

// name takes the name of a field.
func (s *scanner) name(want string) bool {
	got, ok := s.text()
	return ok && got == want && s.take(':')
}

// number takes a positive integer that surely fits.
func (s *scanner) number() (n int64, ok bool) {
	s.space()
	digits := 0
	for digits < len(*s) && (*s)[digits] >= '0' && (*s)[digits] <= '9' {
		n = n*10 + int64((*s)[digits]-'0')
		if digits++; digits > 18 {
			return 0, false
		}
	}
	if digits == 0 || (*s)[0] == '0' || digits < len(*s) && bytes.IndexByte([]byte(" \n\r\t,]}"), (*s)[digits]) < 0 {
		return 0, false
	}
	*s = (*s)[digits:]
	return n, true
}

// ref takes {"key":"a","token":1}.
func (s *scanner) ref() (r refJSON, ok bool) {
	if !s.take('{') || !s.name("key") {
		return r, false
	}
	if r.Key, ok = s.text(); !ok || !s.take(',') || !s.name("token") {
		return r, false
	}
	r.Token, ok = s.number()
	return r, ok && s.take('}')
}

// token takes the begin of an object whose first field is the token.
func (s *scanner) token() (int64, bool) {
	if !s.take('{') || !s.name("token") {
		return 0, false
	}
	return s.number()
}
