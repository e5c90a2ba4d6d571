package datagram

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func readStatsD(in []byte) (out []any) {
	var s StatsD
	s.Reset(in)
	for range len(in) + 2 {
		m, err := s.Next()
		var why Reason
		switch {
		case err == nil:
			out = append(out, m.Clone())
		case errors.As(err, &why):
			out = append(out, why)
		default:
			return out
		}
	}
	panic("never ends")
}

func TestStatsD(t *testing.T) {
	m := func(op Op, name string, v float64, labels ...Label) *Message {
		return &Message{Op: op, Name: name, Value: v, Labels: append([]Label{}, labels...)}
	}
	tests := []struct {
		name, in string
		want     any
	}{
		{"a counter", "a.b:2|c", m(Inc, "a.b", 2)},
		{"a sampled counter", "a:2|c|@0.5", m(Inc, "a", 4)},
		{"a gauge", "a:-2.5|g", m(Add, "a", -2.5)},
		{"a gauge that is set", "a:7|g", m(Set, "a", 7)},
		{"a gauge that goes up", "a:+7|g", m(Add, "a", 7)},
		{"milliseconds", "a:250|ms", m(Obs, "a", 0.25)},
		{"a histogram", "a:3|h", m(Obs, "a", 3)},
		{"a distribution", "a:3|d", m(Obs, "a", 3)},
		{"tags", "a:1|c|#z:1,b:http://x,flag", m(Inc, "a", 1, Label{"b", "http://x"}, Label{"flag", ""}, Label{"z", "1"})},
		{"rate and tags and more", "a:1|c|@0.1|#x:y|c:container", m(Inc, "a", 10, Label{"x", "y"})},
		{"a colon in the name", "a:b:1|c", m(Inc, "a:b", 1)},
		{"no value", "a:|c", Syntax},
		{"no name", ":1|c", Syntax},
		{"no type", "a:1", Syntax},
		{"nothing of it", "hello", Syntax},
		{"an empty field", "a:1|c||@1", Syntax},
		{"a set", "a:1|s", Sample},
		{"an unknown type", "a:1|x", Sample},
		{"a rate of zero", "a:1|c|@0", Sample},
		{"a rate above one", "a:1|c|@2", Sample},
		{"a rate that is none", "a:1|c|@x", Sample},
		{"NaN", "a:NaN|g", Value},
		{"infinity", "a:Inf|g", Value},
		{"text", "a:x|c", Value},
		{"a counter that goes down", "a:-1|c", Negative},
		{"a reserved label", "a:1|c|#le:1", Reserved},
		{"a tag without a name", "a:1|c|#:x", Labels},
		{"no UTF-8", "a\xff:1|c", UTF8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			good := m(Inc, "good", 1)
			if diff := cmp.Diff([]any{good, tt.want, good}, readStatsD([]byte("good:1|c\r\n"+tt.in+"\n\ngood:1|c"))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzStatsD(f *testing.F) {
	f.Add([]byte("a:1|c|@0.1|#x:y\nb:+1|g"))
	f.Add([]byte("a:1|ms||\n::|c"))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, x := range readStatsD(in) {
			if m, ok := x.(*Message); ok && (m.Name == "" || !m.Op.Metric() || m.Op == Inc && m.Value < 0 || m.Value != m.Value) {
				t.Fatalf("%+v", m)
			}
		}
	})
}
