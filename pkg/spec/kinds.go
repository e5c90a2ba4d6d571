package spec

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// maxDuration bounds what a person can have meant.
const maxDuration = 10 * 365 * 24 * time.Hour

// The bounds of fields, as their kinds count them.
const (
	milli  = int64(time.Millisecond)
	second = int64(time.Second)
	often  = 1_000_000 // times
	maxID  = 1<<31 - 1 // of a user or group
)

// scalarForm is a text: numbers and booleans are taken as they are written.
const scalarForm = `{"type":["string","number","boolean"]}`

// The kinds of scalars.
var (
	text     = &kind{name: "string", form: scalarForm, read: readText, text: (*decoder).text}
	filled   = &kind{name: "string", form: `{"type":["string","number","boolean"],"minLength":1}`, read: readFilled}
	boolean  = &kind{name: "boolean", form: `{"type":"boolean"}`, read: readBoolean}
	integer  = &kind{name: "integer", form: `{"type":"integer"}`, read: readInteger}
	mebi     = &kind{name: "integer", form: `{"type":"integer"}`, read: readMebi}
	number   = &kind{name: "number", form: `{"type":"number"}`, read: readNumber}
	share    = &kind{name: "share", form: `{"type":["number","string"],"minimum":0,"maximum":1,"pattern":"^[0-9.]+ ?%?$"}`, read: readShare}
	duration = &kind{name: "duration", form: `{"type":"string","pattern":"^\\+?(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|ms|s|m|h))+$|^0$"}`, read: readDuration}
	seconds  = &kind{name: "seconds", form: `{"type":"integer"}`, read: readSeconds}
	size     = &kind{name: "size", form: `{"type":["integer","string"],"pattern":"^\\+?[0-9]+(\\.[0-9]*)?([eE][0-9]+|[munkKMGTPE]i?)?B?$"}`, read: readSize}
	oneOf    = &kind{name: "one of names", form: `{"type":"string"}`, read: readOneOf}
)

// written is a value as it would stand in a config.
func written(s string) *at {
	return &at{node: &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}}
}

// readText reads what the kind's text function takes.
func readText(d *decoder, a *at, f *field, to reflect.Value) bool {
	s, ok := f.kind.text(d, a)
	return ok && setText(to, s)
}

// text reads any scalar, as it is written: 5673 is "5673", true is "true".
func (d *decoder) text(a *at) (string, bool) { return d.scalar(a, "a string") }

func setText(to reflect.Value, s string) bool {
	to.SetString(s)
	return true
}

// readFilled reads a text that is not empty.
func readFilled(d *decoder, a *at, f *field, to reflect.Value) bool {
	if f.what == "program" && a.node.Kind == yaml.SequenceNode {
		d.errorf(a, "write the program here and the rest into args, or call it command", "wants a string, is a list")
		return false
	}
	s, ok := d.scalar(a, "a string")
	if ok && strings.TrimSpace(s) == "" {
		d.errorf(a, "", "is empty, wants a %s", f.what)
		return false
	}
	return ok && setText(to, s)
}

func readBoolean(d *decoder, a *at, _ *field, to reflect.Value) bool {
	s, ok := d.scalar(a, "true or false")
	if !ok {
		return false
	}
	hint := ""
	switch strings.ToLower(s) {
	case "true", "false":
		to.SetBool(len(s) == len("true"))
		return true
	case "on", "yes", "y", "1":
		hint = "write true"
	case "off", "no", "n", "0":
		hint = "write false"
	}
	d.errorf(a, hint, "wants true or false, is %s", quote(s))
	return false
}

// readInteger reads a whole number of f.low to f.high. What is zero for the
// default leaves to as it is.
func readInteger(d *decoder, a *at, f *field, to reflect.Value) bool {
	if f.zeroed(a) {
		return true
	}
	n, ok := d.integer(a)
	switch {
	case !ok:
		return false
	case f.low == f.high && n != f.low:
		d.errorf(a, "", "is %d, must be %d", n, f.low)
		return false
	case n < f.low || n > f.high:
		d.errorf(a, "", "is %d, wants a number from %d to %d", n, f.low, f.high)
		return false
	}
	to.SetInt(n)
	return true
}

// zeroed says whether a is a zero that stands for the default.
func (f *field) zeroed(a *at) bool {
	return f.zero && a.node.Kind == yaml.ScalarNode && a.node.Value == "0"
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

// readMebi reads a whole number of MiB.
func readMebi(d *decoder, a *at, f *field, to reflect.Value) bool {
	if n, err := parseSize(a.node.Value); err == nil && n >= 1<<20 && strings.HasSuffix(strings.TrimSuffix(a.node.Value, "B"), "i") {
		d.errorf(a, fmt.Sprintf("write %d", n>>20), "is a number of MiB without a unit, not %s", quote(a.node.Value))
		return false
	}
	return readInteger(d, a, f, to)
}

// readNumber reads a decimal number of f.low to f.high.
func readNumber(d *decoder, a *at, f *field, to reflect.Value) bool {
	s, ok := d.scalar(a, "a number")
	if !ok {
		return false
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || n < float64(f.low) || n > float64(f.high) {
		d.errorf(a, "", "wants a number from %d to %d, is %s", f.low, f.high, quote(s))
		return false
	}
	to.SetFloat(n)
	return true
}

// readShare reads a share: 0.1 or "10%".
func readShare(d *decoder, a *at, _ *field, to reflect.Value) bool {
	s, ok := d.scalar(a, `a share like "10%"`)
	if !ok {
		return false
	}
	digits, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if percent {
		v /= 100
	}
	if err == nil && v >= 0 && v <= 1 {
		to.SetFloat(v)
		return true
	}
	hint := `write "10%" or 0.1`
	if err == nil && !percent && v > 1 && v <= 100 {
		hint = fmt.Sprintf("write %q", s+"%")
	}
	d.errorf(a, hint, "wants a share from 0 to 1, is %s", quote(s))
	return false
}

// readDuration reads a Go duration of at least f.low.
func readDuration(d *decoder, a *at, f *field, to reflect.Value) bool {
	s, ok := d.scalar(a, `a duration like "5s"`)
	if !ok {
		return false
	}
	v, err := time.ParseDuration(s)
	if _, numErr := strconv.ParseFloat(s, 64); err != nil && numErr == nil {
		d.errorf(a, fmt.Sprintf("write %q for seconds", s+"s"), "%s has no unit", quote(s))
		return false
	}
	if err != nil {
		d.errorf(a, `write "5s", "1m30s", "250ms"`, "wants a duration, is %s", quote(s))
		return false
	}
	return d.setTime(a, v, f, to, quote(s))
}

// readSeconds reads a whole number of seconds, as Kubernetes counts.
func readSeconds(d *decoder, a *at, f *field, to reflect.Value) bool {
	if f.zeroed(a) {
		return true
	}
	if v, err := time.ParseDuration(a.node.Value); err == nil && v != 0 && a.node.Kind == yaml.ScalarNode {
		d.errorf(a, fmt.Sprintf("write %d", int(math.Ceil(v.Seconds()))), "wants whole seconds as Kubernetes does, is %s", quote(a.node.Value))
		return false
	}
	n, ok := d.integer(a)
	if !ok {
		return false
	}
	if n > int64(maxDuration/time.Second) || n < -1<<31 {
		d.errorf(a, "", "is %d, which is beyond ten years", n)
		return false
	}
	return d.setTime(a, time.Duration(n)*time.Second, f, to, strconv.FormatInt(n, 10))
}

func (d *decoder) setTime(a *at, v time.Duration, f *field, to reflect.Value, shown string) bool {
	low := time.Duration(f.low)
	switch {
	case v < 0:
		d.errorf(a, "", "is negative: %s", shown)
	case v == 0 && low > 0:
		d.errorf(a, "", "is zero, wants a time")
	case v < low:
		d.errorf(a, "", "is %s, wants at least %s", shown, showDuration(low))
	case f.high > 0 && v > time.Duration(f.high):
		d.errorf(a, "", "is %s, wants at most %s", shown, showDuration(time.Duration(f.high)))
	case v > maxDuration:
		d.errorf(a, "", "is %s, which is beyond ten years", shown)
	default:
		to.SetInt(int64(v))
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

// readOneOf reads one of f.names, in any case.
func readOneOf(d *decoder, a *at, f *field, to reflect.Value) bool {
	all := strings.Join(f.names, ", ")
	s, ok := d.scalar(a, "one of "+all)
	if !ok {
		return false
	}
	if i := slices.IndexFunc(f.names, func(k string) bool { return strings.EqualFold(k, s) }); i >= 0 {
		return setText(to, f.names[i])
	}
	d.errorf(a, didYouMean(s, f.names), "wants one of %s, is %s", all, quote(s))
	return false
}

// readSize reads a count of bytes of at least f.low.
func readSize(d *decoder, a *at, f *field, to reflect.Value) bool {
	s, ok := d.scalar(a, `a size like "256KiB"`)
	if !ok {
		return false
	}
	n, err := parseSize(s)
	if err != nil {
		hint := `write "256KiB", "1Mi" or plain bytes`
		if strings.HasSuffix(s, "m") {
			hint = fmt.Sprintf("m is a thousandth: did you mean %q?", strings.TrimSuffix(s, "m")+"Mi")
		}
		d.errorf(a, hint, "wants a size, is %s", quote(s))
		return false
	}
	if n < f.low {
		d.errorf(a, "", "is %s, wants at least %s", quote(s), showSize(f.low))
		return false
	}
	to.SetInt(n)
	return true
}
