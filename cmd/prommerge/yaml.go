package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// decode reads YAML or JSON into v, strictly. A file without anything leaves v as it is.
func decode(b []byte, v any) error {
	dec := yaml.NewDecoder(bytes.NewReader(asYAML(b)))
	dec.KnownFields(true)
	err := dec.Decode(v)
	if err == nil {
		if err = dec.Decode(new(yaml.Node)); err == nil {
			return errors.New("a second document begins with ---: only one is read")
		}
	}
	var te *yaml.TypeError
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &te):
		lines := make([]string, len(te.Errors))
		for i, line := range te.Errors {
			lines[i] = plainly(line)
		}
		return errors.New(strings.Join(lines, "; "))
	}
	return err
}

// foreign are the escapes of JSON that yaml does not know: of a slash, and of characters beyond 16 bits.
var foreign = regexp.MustCompile(`\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?|.)`)

// asYAML writes foreign escapes of JSON, where b is that, as what they stand for.
func asYAML(b []byte) []byte {
	if !json.Valid(b) {
		return b
	}
	return foreign.ReplaceAllFunc(b, func(escape []byte) []byte {
		var s string
		if len(escape) == 2 && escape[1] != '/' || json.Unmarshal(fmt.Appendf(nil, `"%s"`, escape), &s) != nil {
			return escape
		}
		return []byte(s)
	})
}

var (
	unknownField = regexp.MustCompile(`^(line \d+): field (.*) not found in type main\.(\w+)$`)
	wrongKind    = regexp.MustCompile("^(line \\d+): cannot unmarshal !!(\\w+)(?: `(.*)`)? into ")
	kinds        = map[string]string{"str": "text", "int": "number", "float": "number", "bool": "yes or no", "seq": "list", "map": "mapping", "null": "nothing"}
)

// plainly says an error of yaml without the types of this program.
func plainly(line string) string {
	if m := unknownField.FindStringSubmatch(line); m != nil {
		return fmt.Sprintf("%s: unknown field %q; known here: %s", m[1], m[2], strings.Join(fields(m[3]), ", "))
	}
	if m := wrongKind.FindStringSubmatch(line); m != nil {
		kind, ok := kinds[m[2]]
		if !ok {
			kind = m[2]
		}
		if m[3] != "" {
			kind += fmt.Sprintf(" %q", m[3])
		}
		return fmt.Sprintf("%s: %s stands where something else is expected", m[1], kind)
	}
	return line
}

// fields returns the names that a part of the config has.
func fields(typeName string) (names []string) {
	for _, t := range []reflect.Type{reflect.TypeFor[config](), reflect.TypeFor[targetConfig](), reflect.TypeFor[basicAuth](),
		reflect.TypeFor[tlsConfig](), reflect.TypeFor[sdGroup]()} {
		for i := 0; t.Name() == typeName && i < t.NumField(); i++ {
			names = append(names, t.Field(i).Tag.Get("yaml"))
		}
	}
	return names
}
