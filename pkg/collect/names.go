package collect

import (
	"unicode/utf8"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// The rule for names: each character that Prometheus does not allow becomes
// "_", and a first digit gets "_" before it. Names of metrics may hold ":".

const (
	first = 1 << iota // may begin a name
	inner             // may follow
	colon             // may be anywhere in the name of a metric
)

var class = func() (c [256]uint8) {
	for b := byte('a'); b <= 'z'; b++ {
		c[b], c[b-'a'+'A'] = first|inner, first|inner
	}
	for b := byte('0'); b <= '9'; b++ {
		c[b] = inner
	}
	c['_'], c[':'] = first|inner, colon
	return c
}()

// validName reports whether a name need not be changed.
func validName(s string, extra uint8) bool {
	if s == "" || class[s[0]]&(first|extra) == 0 {
		return false
	}
	for i := 1; i < len(s); i++ {
		if class[s[i]]&(inner|extra) == 0 {
			return false
		}
	}
	return true
}

// appendValid appends a name that is allowed.
func appendValid(dst []byte, s string, extra uint8) []byte {
	if s != "" && class[s[0]]&(first|inner) == inner {
		dst = append(dst, '_')
	}
	for i := 0; i < len(s); {
		if class[s[i]]&(inner|extra) != 0 {
			dst = append(dst, s[i])
			i++
			continue
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		dst = append(dst, '_')
		i += size
	}
	return dst
}

// separator is in no UTF-8 text.
const separator = 0xff

// keyer builds the keys of series. It reuses its memory.
type keyer struct {
	key    []byte
	labels []datagram.Label
}

// build returns the key of a series: the name, then each label's name and value,
// with a separator before each. It adds the labels of the source, which win, and
// leaves out empty values, as to Prometheus they are none. The answer is good until
// the next call.
func (k *keyer) build(m *datagram.Message, added []datagram.Label) ([]byte, reason) {
	k.key = k.key[:0]
	if validName(m.Name, colon) {
		k.key = append(k.key, m.Name...)
	} else {
		k.key = appendValid(k.key, m.Name, colon)
	}
	labels, changed := k.merge(m.Labels, added)
	if changed {
		if why := sortLabels(labels); why != 0 {
			return nil, why
		}
	}
	for i := range labels {
		k.key = append(k.key, separator)
		k.key = append(k.key, labels[i].Name...)
		k.key = append(k.key, separator)
		k.key = append(k.key, labels[i].Value...)
	}
	return k.key, 0
}

// merge joins two sorted lists; changed says that names were, so that the order
// may not hold.
func (k *keyer) merge(have, added []datagram.Label) (all []datagram.Label, changed bool) {
	out := k.labels[:0]
	for _, l := range have {
		for len(added) > 0 && added[0].Name < l.Name {
			out, added = append(out, added[0]), added[1:]
		}
		if len(added) > 0 && added[0].Name == l.Name {
			continue // ours comes next
		}
		if l.Value == "" {
			continue
		}
		if !validName(l.Name, 0) {
			l.Name, changed = string(appendValid(nil, l.Name, 0)), true
		}
		out = append(out, l)
	}
	out = append(out, added...)
	k.labels = out
	return out, changed
}

// sortLabels sorts and checks labels whose names were changed.
func sortLabels(labels []datagram.Label) reason {
	for i := 1; i < len(labels); i++ {
		for j := i; j > 0 && labels[j].Name < labels[j-1].Name; j-- {
			labels[j], labels[j-1] = labels[j-1], labels[j]
		}
	}
	for i := range labels {
		if datagram.ReservedLabel(labels[i].Name) {
			return reservedLabel
		}
		if i > 0 && labels[i].Name == labels[i-1].Name {
			return labelConflict
		}
	}
	return 0
}

// join is merge for events, whose names and empty values stay as they are.
func (k *keyer) join(have, added []datagram.Label) []datagram.Label {
	out := k.labels[:0]
	for _, l := range have {
		for len(added) > 0 && added[0].Name < l.Name {
			out, added = append(out, added[0]), added[1:]
		}
		if len(added) == 0 || added[0].Name != l.Name {
			out = append(out, l)
		}
	}
	out = append(out, added...)
	k.labels = out
	return out
}

// LabelName returns what a label is called once it is allowed.
func LabelName(s string) string {
	if validName(s, 0) {
		return s
	}
	return string(appendValid(nil, s, 0))
}
