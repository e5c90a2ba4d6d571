package spec

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// maxDuration bounds what a person can have meant.
const maxDuration = 10 * 365 * 24 * time.Hour

// text is any scalar, as it is written: 5673 is "5673", true is "true".
func text() kind[string] {
	return kind[string]{name: "string", form: scalarForm, read: func(d *decoder, a *at) (string, bool) {
		return d.scalar(a, "a string")
	}}
}

// filled is a text that is not empty.
func filled(what string) kind[string] {
	k := text()
	k.form = formOf(form{"type": []string{"string", "number", "boolean"}, "minLength": 1})
	k.name = what
	k.read = func(d *decoder, a *at) (string, bool) {
		if what == "program" && a.node.Kind == yaml.SequenceNode {
			d.errorf(a, "write the program here and the rest into args, or call it command", "wants a string, is a list")
			return "", false
		}
		s, ok := d.scalar(a, "a string")
		if ok && strings.TrimSpace(s) == "" {
			d.errorf(a, "", "is empty, wants a %s", what)
			return "", false
		}
		return s, ok
	}
	return k
}

func boolean() kind[bool] {
	return kind[bool]{name: "boolean", form: formOf(form{"type": "boolean"}), read: func(d *decoder, a *at) (bool, bool) {
		s, ok := d.scalar(a, "true or false")
		if !ok {
			return false, false
		}
		switch strings.ToLower(s) {
		case "true":
			return true, true
		case "false":
			return false, true
		case "on", "yes", "y", "1":
			d.errorf(a, "write true", "wants true or false, is %s", quote(s))
		case "off", "no", "n", "0":
			d.errorf(a, "write false", "wants true or false, is %s", quote(s))
		default:
			d.errorf(a, "", "wants true or false, is %s", quote(s))
		}
		return false, false
	}}
}

func optional[T any](k kind[T]) kind[*T] {
	return kind[*T]{name: k.name, form: k.form, read: func(d *decoder, a *at) (*T, bool) {
		v, ok := k.read(d, a)
		return &v, ok
	}}
}

func list[T any](k kind[T]) kind[[]T] {
	var rows func(string) []row
	if k.rows != nil {
		rows = func(prefix string) []row { return k.rows(strings.TrimSuffix(prefix, ".") + "[].") }
	}
	return kind[[]T]{
		name: "list of " + strings.ReplaceAll(k.name+"s", "ys", "ies"), rows: rows,
		form: func(defs map[string]form) form { return form{"type": "array", "items": k.form(defs)} },
		read: func(d *decoder, a *at) ([]T, bool) {
			elements, ok := d.elements(a, "a list")
			if !ok {
				return nil, false
			}
			vs := make([]T, 0, len(elements))
			for _, e := range elements {
				v, good := k.read(d, e)
				if ok = ok && good; good {
					vs = append(vs, v)
				}
			}
			return vs, ok
		},
	}
}

// some is a list that is not empty.
func some[T any](k kind[T]) kind[[]T] {
	l := list(k)
	read, form0 := l.read, l.form
	l.form = func(defs map[string]form) form { f := form0(defs); f["minItems"] = 1; return f }
	l.read = func(d *decoder, a *at) ([]T, bool) {
		v, ok := read(d, a)
		if ok && len(v) == 0 {
			d.errorf(a, "", "is an empty list, wants at least one element")
		}
		return v, ok && len(v) > 0
	}
	return l
}

// integer is a whole number of low..high.
func integer(low, high int64) kind[int] {
	f := form{"type": "integer", "minimum": low, "maximum": high}
	return kind[int]{name: "integer", form: formOf(f), read: func(d *decoder, a *at) (int, bool) {
		n, ok := d.integer(a)
		if ok && low == high && n != low {
			d.errorf(a, "", "is %d, must be %d", n, low)
			return 0, false
		}
		if ok && (n < low || n > high) {
			d.errorf(a, "", "is %d, wants a number from %d to %d", n, low, high)
			return 0, false
		}
		return int(n), ok
	}}
}

// integer reads a whole number. YAML 1.1 and 1.2 do not agree on 010, so a
// leading zero is refused.
func (d *decoder) integer(a *at) (int64, bool) {
	s, ok := d.scalar(a, "a whole number")
	if !ok {
		return 0, false
	}
	digits := strings.TrimLeft(s, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		d.errorf(a, "write it without the leading zero", "%s is octal to one YAML version and decimal to the next", quote(s))
		return 0, false
	}
	if n, err := strconv.ParseInt(s, 0, 64); err == nil {
		return n, true
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 && a.node.Tag != "!!str" {
		return int64(f), true
	}
	d.errorf(a, "", "wants a whole number, is %s", quote(s))
	return 0, false
}

// megabytes is a whole number of MiB.
func megabytes() kind[int] {
	k := integer(1, 1<<30)
	read := k.read
	k.read = func(d *decoder, a *at) (int, bool) {
		if n, err := parseSize(a.node.Value); err == nil && n >= 1<<20 && strings.HasSuffix(strings.TrimSuffix(a.node.Value, "B"), "i") {
			d.errorf(a, fmt.Sprintf("write %d", n>>20), "is a number of MiB without a unit, not %s", quote(a.node.Value))
			return 0, false
		}
		return read(d, a)
	}
	return k
}

// number is a decimal number of low..high.
func number(low, high float64) kind[float64] {
	f := form{"type": "number", "minimum": low, "maximum": high}
	return kind[float64]{name: "number", form: formOf(f), read: func(d *decoder, a *at) (float64, bool) {
		s, ok := d.scalar(a, "a number")
		if !ok {
			return 0, false
		}
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(n) || n < low || n > high {
			d.errorf(a, "", "wants a number from %v to %v, is %s", low, high, quote(s))
			return 0, false
		}
		return n, true
	}}
}

// duration is a Go duration of at least low.
func duration(low time.Duration) kind[time.Duration] {
	f := form{"type": "string", "pattern": `^\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$|^0$`}
	return kind[time.Duration]{
		name: "duration", form: formOf(f), show: func(v time.Duration) any { return showDuration(v) },
		read: func(d *decoder, a *at) (time.Duration, bool) {
			s, ok := d.scalar(a, `a duration like "5s"`)
			if !ok {
				return 0, false
			}
			v, err := time.ParseDuration(s)
			if _, numErr := strconv.ParseFloat(s, 64); err != nil && numErr == nil {
				d.errorf(a, fmt.Sprintf("write %q for seconds", s+"s"), "%s has no unit", quote(s))
				return 0, false
			}
			if err != nil {
				d.errorf(a, `write "5s", "1m30s", "250ms"`, "wants a duration, is %s", quote(s))
				return 0, false
			}
			return v, d.bounded(a, v, low, quote(s))
		},
	}
}

func (d *decoder) bounded(a *at, v, low time.Duration, shown string) bool {
	switch {
	case v < 0:
		d.errorf(a, "", "is negative: %s", shown)
	case v == 0 && low > 0:
		d.errorf(a, "", "is zero, wants a time")
	case v < low:
		d.errorf(a, "", "is %s, wants at least %s", shown, showDuration(low))
	case v > maxDuration:
		d.errorf(a, "", "is %s, which is beyond ten years", shown)
	default:
		return true
	}
	return false
}

// showDuration writes 1m instead of 1m0s.
func showDuration(v time.Duration) string {
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// seconds is a whole number of seconds, as Kubernetes counts.
func seconds(low time.Duration) kind[time.Duration] {
	f := form{"type": "integer", "minimum": int64(low / time.Second)}
	return kind[time.Duration]{
		name: "seconds", form: formOf(f), show: func(v time.Duration) any { return int(v / time.Second) },
		read: func(d *decoder, a *at) (time.Duration, bool) {
			if v, err := time.ParseDuration(a.node.Value); err == nil && v != 0 && a.node.Kind == yaml.ScalarNode {
				d.errorf(a, fmt.Sprintf("write %d", int(math.Ceil(v.Seconds()))), "wants whole seconds as Kubernetes does, is %s", quote(a.node.Value))
				return 0, false
			}
			n, ok := d.integer(a)
			if !ok {
				return 0, false
			}
			if n > int64(maxDuration/time.Second) || n < -1<<31 {
				d.errorf(a, "", "is %d, which is beyond ten years", n)
				return 0, false
			}
			v := time.Duration(n) * time.Second
			return v, d.bounded(a, v, low, strconv.FormatInt(n, 10))
		},
	}
}

// orDefault is a Kubernetes number or time whose zero stands for its default.
func orDefault[T comparable](k kind[T], def T) kind[T] {
	read, form0 := k.read, k.form
	k.form = func(defs map[string]form) form { f := form0(defs); f["minimum"] = 0; return f }
	k.read = func(d *decoder, a *at) (T, bool) {
		if a.node.Kind == yaml.ScalarNode && a.node.Value == "0" {
			return def, true
		}
		return read(d, a)
	}
	return k
}

// oneOf is one of names, in any case.
func oneOf[T ~string](names ...T) kind[T] {
	known := make([]string, len(names))
	for i, n := range names {
		known[i] = string(n)
	}
	return kind[T]{name: strings.Join(known, ", "), form: formOf(enumForm(known)), read: func(d *decoder, a *at) (T, bool) {
		s, ok := d.scalar(a, "one of "+strings.Join(known, ", "))
		if !ok {
			return "", false
		}
		if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, s) }); i >= 0 {
			return names[i], true
		}
		hint := didYouMean(s, known)
		d.errorf(a, hint, "wants one of %s, is %s", strings.Join(known, ", "), quote(s))
		return "", false
	}}
}

// size is a count of bytes of at least low.
func size(low int64) kind[int64] {
	f := form{"type": []string{"integer", "string"}, "pattern": `^\+?[0-9]+(\.[0-9]*)?([eE][0-9]+|[munkKMGTPE]i?)?B?$`}
	return kind[int64]{name: "size", form: formOf(f), show: func(v int64) any { return showSize(v) },
		read: func(d *decoder, a *at) (int64, bool) {
			s, ok := d.scalar(a, `a size like "256KiB"`)
			if !ok {
				return 0, false
			}
			n, err := parseSize(s)
			if err != nil {
				hint := `write "256KiB", "1Mi" or plain bytes`
				if strings.HasSuffix(s, "m") {
					hint = fmt.Sprintf("m is a thousandth: did you mean %q?", strings.TrimSuffix(s, "m")+"Mi")
				}
				d.errorf(a, hint, "wants a size, is %s", quote(s))
				return 0, false
			}
			if n < low {
				d.errorf(a, "", "is %s, wants at least %s", quote(s), showSize(low))
				return 0, false
			}
			return n, true
		}}
}
