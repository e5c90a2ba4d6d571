package main

import (
	"bytes"
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
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	err := dec.Decode(v)
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
