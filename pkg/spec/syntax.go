package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// plain returns data as UTF-8 without a byte order mark.
func plain(file string, data []byte) ([]byte, *Error) {
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		data = data[3:]
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		data = fromUTF16(data)
	}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 || r == 0 {
			line, col := position(data, i)
			return nil, &Error{File: file, Line: line, Column: col, Msg: "is not text: byte 0x" + strconv.FormatUint(uint64(data[i]), 16), Hint: "save it as UTF-8"}
		}
		i += n
	}
	return data, nil
}

// fromUTF16 decodes what starts with a byte order mark, as some editors save.
func fromUTF16(data []byte) []byte {
	little := data[0] == 0xff
	units := make([]uint16, 0, len(data)/2)
	for i := 2; i+1 < len(data); i += 2 {
		hi, lo := data[i], data[i+1]
		if little {
			hi, lo = lo, hi
		}
		units = append(units, uint16(hi)<<8|uint16(lo))
	}
	return []byte(string(utf16.Decode(units)))
}

// position returns line and column, in characters, of an offset.
func position(data []byte, offset int) (line, col int) {
	before := data[:min(offset, len(data))]
	line = bytes.Count(before, []byte("\n")) + 1
	col = utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return line, col
}

func looksJSON(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && (data[0] == '[' || data[0] == '{')
}

// jsonError says where JSON stops to be JSON.
func jsonError(file string, data []byte) *Error {
	var v any
	err := json.Unmarshal(data, &v)
	e := &Error{File: file, Line: 1, Column: 1, Msg: "is not JSON"}
	var se *json.SyntaxError
	if !errors.As(err, &se) {
		return e
	}
	e.Line, e.Column = position(data, max(int(se.Offset)-1, 0))
	switch msg := se.Error(); {
	case strings.Contains(msg, "end of JSON"):
		e.Line, e.Column = position(data, len(bytes.TrimRight(data, " \t\r\n")))
		e.Msg, e.Hint = "the JSON ends too early", "a quote, brace or bracket is not closed"
	case strings.Contains(msg, "looking for beginning of object key"), strings.Contains(msg, "looking for beginning of value"):
		e.Msg, e.Hint = "is not JSON: "+msg, "is there a comma too many before it?"
	case strings.Contains(msg, "after object key:value pair"), strings.Contains(msg, "after array element"):
		e.Msg, e.Hint = "is not JSON: "+msg, "is a comma missing before it?"
	default:
		e.Msg = "is not JSON: " + msg
	}
	return e
}

// The YAML parser's message; the errors whose line is one too low; a key whose
// colon lacks its space.
const (
	yamlLine   = `^(?:yaml: )?(?:line (\d+): )?(.*)$`
	yamlAnchor = `^unknown anchor '(.*)' referenced`
	oneTooLow  = `^did not find expected ('|key|node|<)`
	noSpace    = `^\s*(- +)?[A-Za-z]+:[^\s/]`
)

// yamlError turns the parser's message into ours. The parser gives a line,
// which for some errors is one too low, and no column.
func yamlError(file string, data []byte, err error) *Error {
	m := regexp.MustCompile(yamlLine).FindStringSubmatch(strings.SplitN(err.Error(), "\n", 2)[0])
	e := &Error{File: file, Line: 1, Column: 1, Msg: "is not YAML: " + m[2], Hint: yamlHint(m[2])}
	if n, convErr := strconv.Atoi(m[1]); convErr == nil {
		e.Line = max(n, 1)
		if regexp.MustCompile(oneTooLow).MatchString(m[2]) {
			e.Line++
		}
	}
	if name := regexp.MustCompile(yamlAnchor).FindStringSubmatch(m[2]); name != nil {
		e.Msg = "is not YAML: unknown anchor" // its name may be a password that starts with *
		e.Line, e.Column = position(data, max(bytes.Index(data, []byte("*"+name[1])), 0))
		return e
	}
	lines := strings.Split(string(data), "\n")
	for _, n := range []int{e.Line, e.Line + 1, e.Line - 1} {
		if tab := leadingTab(lines, n); tab > 0 {
			e.Line, e.Column, e.Msg, e.Hint = n, tab, "a tab indents this line", "YAML wants spaces"
			return e
		}
	}
	e.Line = min(e.Line, len(lines))
	if l := lines[e.Line-1]; strings.TrimSpace(l) != "" {
		e.Column = len(l) - len(strings.TrimLeft(l, " ")) + 1
	}
	for _, n := range []int{e.Line - 1, e.Line} {
		if n >= 1 && regexp.MustCompile(noSpace).MatchString(lines[n-1]) {
			e.Hint = "write a space after the colon in line " + strconv.Itoa(n)
			break
		}
	}
	return e
}

// leadingTab returns the column of a tab in the indentation of line n, or 0.
func leadingTab(lines []string, n int) int {
	if n < 1 || n > len(lines) {
		return 0
	}
	l := lines[n-1]
	indent := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
	return strings.IndexByte(indent, '\t') + 1
}

func yamlHint(msg string) string {
	for part, hint := range map[string]string{
		"mapping values are not allowed":              "quote a value that holds \": \", and check the indentation of this line and the one above",
		"did not find expected key":                   "check the indentation of this line and the one above",
		"did not find expected '-' indicator":         "the elements of a list start in the same column",
		"could not find expected ':'":                 "write \"key: value\", with a space after the colon",
		"found unexpected end of stream":              "a quote, brace or bracket is not closed",
		"did not find expected ',' or":                "a brace or bracket is not closed, or a comma is missing",
		"unknown anchor":                              "quote a value that starts with *; an alias needs its &anchor before it, in the same document",
		"found character that cannot start":           "quote a value that starts with @, ` or %",
		"block sequence entries are not allowed":      "put \"- \" on a line of its own, below its key",
		"found unknown escape character":              "use single quotes where a backslash is meant as it is",
		"did not find expected alphabetic or numeric": "quote a value that starts with & or *",
		"control characters are not allowed":          "take the control character out",
		"exceeded max depth":                          "it is nested too deep",
	} {
		if strings.Contains(msg, part) {
			return hint
		}
	}
	return ""
}

// jsonNode parses one JSON value. YAML is not quite a superset of JSON (pairs
// of surrogates, line separators and long keys), and JSON in a variable is the
// established way to configure, so it has its own reader.
func jsonNode(data []byte) (*yaml.Node, error) {
	if !json.Valid(data) {
		return nil, errors.New("not JSON")
	}
	r := &jsonReader{data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	r.dec.UseNumber()
	return r.value()
}

type jsonReader struct {
	data   []byte
	dec    *json.Decoder
	offset int
	line   int // lines before offset
	runes  int // before offset in its line
}

// place returns a node at the next token.
func (r *jsonReader) place() *yaml.Node {
	to := int(r.dec.InputOffset())
	for to < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[to]) >= 0 {
		to++
	}
	skipped := r.data[r.offset:to]
	if n := bytes.Count(skipped, []byte("\n")); n > 0 {
		r.line += n
		r.runes = 0
		skipped = skipped[bytes.LastIndexByte(skipped, '\n')+1:]
	}
	r.runes += utf8.RuneCount(skipped)
	r.offset = to
	return &yaml.Node{Line: r.line + 1, Column: r.runes + 1}
}

func (r *jsonReader) value() (*yaml.Node, error) {
	n := r.place()
	tok, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	n.Kind = yaml.ScalarNode
	switch v := tok.(type) {
	case json.Delim:
		return n, r.container(n, v)
	case string:
		n.Tag, n.Value, n.Style = "!!str", v, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!int", v.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(v)
	case nil:
		n.Tag, n.Value = "!!null", "null"
	}
	return n, nil
}

func (r *jsonReader) container(n *yaml.Node, open json.Delim) error {
	n.Kind, n.Tag, n.Style = yaml.SequenceNode, "!!seq", yaml.FlowStyle
	if open == '{' {
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
	}
	for r.dec.More() {
		child, err := r.value()
		if err != nil {
			return err
		}
		n.Content = append(n.Content, child)
	}
	_, err := r.dec.Token()
	return err
}
