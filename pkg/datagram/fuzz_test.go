package datagram

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func seed(f *testing.F) {
	for _, tt := range hostile {
		if len(tt.in) < 2000 {
			f.Add([]byte(tt.in), uint16(7))
			f.Add([]byte(goodText+tt.in+"\n"+goodText), uint16(3))
		}
	}
	f.Add([]byte(`{"name":"a","op":"inc","labels":[ ]}`), uint16(0))
	f.Add([]byte(`[{"name":"a","op":"obs","value":1.5e-3,"labels":{"z":"\u00e9","a":"b"},"bucket_custom":[1,2,3]} , {"x":{"y":[1,2]}}]`), uint16(20))
}

// reference is the format as encoding/json reads it.
type reference struct {
	Name    *string  `json:"name"`
	Op      *string  `json:"op"`
	Value   *float64 `json:"value"`
	Labels  labelMap `json:"labels"`
	Help    *string  `json:"help"`
	Index   *string  `json:"index"`
	ID      *string  `json:"id"`
	Buckets *float64 `json:"buckets"`
}

// labelMap may also be an array without elements, as PHP writes an empty object.
type labelMap map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (l *labelMap) UnmarshalJSON(b []byte) error {
	if none := []any{}; json.Unmarshal(b, &none) == nil && none != nil && len(none) == 0 {
		return nil
	}
	return json.Unmarshal(b, (*map[string]string)(l))
}

func FuzzDecodeAsEncodingJSONDoes(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, in []byte, _ uint16) {
		got := read(t, string(in))
		trimmed := bytes.TrimLeft(in, " \t\r\n")
		if !json.Valid(in) || len(trimmed) == 0 || trimmed[0] != '{' {
			return
		}
		if len(got) != 1 {
			t.Fatalf("one object gives %v", got)
		}
		m, ok := got[0].(*Message)
		if !ok || caseless(in) || bytes.Count(in, []byte(`"labels"`)) > 1 {
			return // refused for more than JSON has to say, or read otherwise on purpose
		}
		var ref reference
		if err := json.Unmarshal(in, &ref); err != nil {
			if utf8.Valid(in) {
				t.Fatalf("encoding/json says %v, we read %+v", err, m)
			}
			return
		}
		ref.check(t, m)
	})
}

func (ref *reference) check(t *testing.T, m *Message) {
	t.Helper()
	str := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	want := Message{Name: str(ref.Name), Op: parseOp(str(ref.Op)), Help: str(ref.Help), Index: str(ref.Index), ID: str(ref.ID)}
	if ref.Value != nil {
		want.Value = *ref.Value
	}
	have := Message{Name: m.Name, Op: m.Op, Help: m.Help, Index: m.Index, ID: m.ID, Value: m.Value}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Fatal(diff)
	}
	if len(ref.Labels) != len(m.Labels) {
		t.Fatalf("labels %v, want %v", m.Labels, ref.Labels)
	}
	for i, l := range m.Labels {
		if v, ok := ref.Labels[l.Name]; !ok || v != l.Value || i > 0 && m.Labels[i-1].Name >= l.Name {
			t.Fatalf("labels %v, want %v", m.Labels, ref.Labels)
		}
	}
}

// caseless reports whether a key might be one that encoding/json takes for ours
// although it is written otherwise, or null follows a value of the same key.
func caseless(in []byte) bool {
	seen := map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(in))
	depth, key := 0, true
	for {
		tok, err := dec.Token()
		if err != nil {
			return false
		}
		switch v := tok.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				depth++
			} else {
				depth--
			}
			key = true
		case string:
			if depth == 1 && key {
				low := string(bytes.ToLower([]byte(v)))
				if low != v || seen[low] || !ascii(v) {
					return true
				}
				seen[low] = true
				key = false
				continue
			}
			key = true
		default:
			key = true
		}
	}
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func FuzzPiecesGiveWhatTheWholeGives(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, in []byte, size uint16) {
		want := read(t, string(in))
		var got []any
		var d Decoder
		var buf []byte
		step := int(size%97) + 1
		for rest := in; ; {
			n := min(step, len(rest))
			buf, rest = append(buf, rest[:n]...), rest[n:]
			d.Reset(buf, len(rest) > 0)
			err := error(nil)
			for err == nil {
				var m *Message
				var why Reason
				if m, err = d.Next(); err == nil {
					got = append(got, m.Clone())
				} else if errors.As(err, &why) {
					got, err = append(got, why), nil
				}
			}
			buf = append([]byte(nil), d.Rest()...)
			if errors.Is(err, io.EOF) && len(rest) == 0 {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzEncodedMessagesAreReadAgain(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, in []byte, _ uint16) {
		for _, x := range read(t, string(in)) {
			m, ok := x.(*Message)
			if !ok {
				continue
			}
			out := Append(nil, m)
			if !json.Valid(out) || bytes.IndexByte(out, '\n') >= 0 {
				t.Fatalf("no line of JSON: %q", out)
			}
			if diff := cmp.Diff([]any{m}, read(t, string(out)), cmp.Comparer(sameBuckets)); diff != "" {
				t.Fatalf("%s\n%s", out, diff)
			}
		}
	})
}

// sameBuckets takes buckets without any field for none.
func sameBuckets(a, b *Buckets) bool { return cmp.Equal(a.Bounds(), b.Bounds()) }
