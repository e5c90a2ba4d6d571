package datagram

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// read returns every message and every reason of an input, in order.
func read(t testing.TB, in string) []any {
	t.Helper()
	var d Decoder
	d.Reset([]byte(in), false)
	var out []any
	for range len(in) + 1 {
		m, err := d.Next()
		var why Reason
		switch {
		case err == nil:
			out = append(out, m.Clone())
		case errors.As(err, &why):
			out = append(out, why)
		case errors.Is(err, io.EOF):
			return out
		default:
			t.Fatalf("%q: %v", in, err)
		}
	}
	t.Fatalf("%q never ends", in)
	return nil
}

func TestDecode(t *testing.T) {
	plain := func(name string, op Op, v float64, labels ...Label) *Message {
		if labels == nil {
			labels = []Label{}
		}
		return &Message{Name: name, Op: op, Value: v, Labels: labels}
	}
	with := func(m *Message, f func(*Message)) *Message { f(m); return m }
	day := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	timed := func(at time.Time) []any {
		return []any{with(plain("a", Event, 0), func(m *Message) { m.Time = at })}
	}
	tests := []struct {
		name, in string
		want     []any
	}{
		{"nothing", "", nil},
		{"white space is nothing", " \r\n\t", nil},
		{"a counter", `{"name":"a","op":"inc","value":2}`, []any{plain("a", Inc, 2)}},
		{"a value that is left out is 0", `{"name":"a","op":"inc"}`, []any{plain("a", Inc, 0)}},
		{"labels are sorted", `{"name":"a","op":"set","value":-1.5e1,"labels":{"b":"2","a":"1","c":""}}`,
			[]any{plain("a", Set, -15, Label{"a", "1"}, Label{"b", "2"}, Label{"c", ""})}},
		{"of equal labels the last counts", `{"name":"a","op":"set","labels":{"b":"2","a":"1","b":"3"}}`,
			[]any{plain("a", Set, 0, Label{"a", "1"}, Label{"b", "3"})}},
		{"empty labels as PHP writes them", `{"name":"a","op":"set","labels":[]}`, []any{plain("a", Set, 0)}},
		{"nulls count as left out", `{"name":"a","op":"set","value":null,"help":null,"id":null,"ttl":null,"timestamp":null,"buckets":null,"native":null,"bucket_custom":null}`,
			[]any{with(plain("a", Set, 0), func(m *Message) { m.Buckets = &Buckets{} })}},
		{"unknown keys are ignored", `{"x":[1,{"y":[null,true,false,"}"]}],"name":"a","op":"set"}`, []any{plain("a", Set, 0)}},
		{"objects side by side", `{"name":"a","op":"set"}{"name":"b","op":"set"}`, []any{plain("a", Set, 0), plain("b", Set, 0)}},
		{"objects in lines", "{\"name\":\"a\",\"op\":\"set\"}\r\n{\"name\":\"b\",\"op\":\"set\"}\n", []any{plain("a", Set, 0), plain("b", Set, 0)}},
		{"objects in an array", `[{"name":"a","op":"set"}, {"name":"b","op":"set"}]`, []any{plain("a", Set, 0), plain("b", Set, 0)}},
		{"braces and escapes in strings", `{"name":"a}{\"\\","op":"event","labels":{"k":"\u00e9\ud83d\ude00\n{\"name\":\"x\"}"}}`,
			[]any{plain(`a}{"\`, Event, 0, Label{"k", "é😀\n{\"name\":\"x\"}"})}},
		{"an object over several lines", "{\n \"name\": \"a\",\n \"op\" : \"set\"\n}", []any{plain("a", Set, 0)}},
		{"a time as RFC 3339", `{"name":"a","op":"event","timestamp":"2026-11-28T13:00:00+01:00"}`, timed(day)},
		{"a time in seconds", fmt.Sprintf(`{"name":"a","op":"event","timestamp":%d}`, day.Unix()), timed(day)},
		{"a time in seconds with a fraction", fmt.Sprintf(`{"name":"a","op":"event","timestamp":%d.5}`, day.Unix()), timed(day.Add(time.Second / 2))},
		{"a time in milliseconds", fmt.Sprintf(`{"name":"a","op":"event","timestamp":%d}`, day.UnixMilli()), timed(day)},
		{"a time in microseconds", fmt.Sprintf(`{"name":"a","op":"event","timestamp":"%d"}`, day.UnixMicro()), timed(day)},
		{"a time in milliseconds with a fraction", fmt.Sprintf(`{"name":"a","op":"event","timestamp":%d.25}`, day.UnixMilli()), timed(day.Add(250 * time.Microsecond))},
		{"a time in microseconds with a fraction", fmt.Sprintf(`{"name":"a","op":"event","timestamp":"%d.0"}`, day.UnixMicro()), timed(day)},
		{"a time in seconds with an exponent", `{"name":"a","op":"event","timestamp":1.5e9}`, timed(time.Unix(1_500_000_000, 0).UTC())},
		{"a time in nanoseconds", fmt.Sprintf(`{"name":"a","op":"event","timestamp":%d}`, day.UnixNano()), timed(day)},
		{"no time", `{"name":"a","op":"event","timestamp":""}`, []any{plain("a", Event, 0)}},
		{"a ttl", `{"name":"a","op":"set","ttl":"90s"}{"name":"a","op":"set","ttl":1.5}`, []any{
			with(plain("a", Set, 0), func(m *Message) { m.TTL = 90 * time.Second }),
			with(plain("a", Set, 0), func(m *Message) { m.TTL = 1500 * time.Millisecond }),
		}},
		{"everything of an observation", `{"name":"a","op":"obs","value":1,"help":"h","id":"i","native":true,"buckets":3,"bucket_width":2,"bucket_start":1,"bucket_custom":[1,2]}`,
			[]any{with(plain("a", Obs, 1), func(m *Message) {
				m.Help, m.ID, m.Native, m.Buckets = "h", "i", true, &Buckets{Count: 3, Width: 2, Start: 1, Custom: []float64{1, 2}}
			})}},
		{"an index", `{"name":"a","op":"index","index":"my-index_2.x"}`, []any{with(plain("a", Index, 0), func(m *Message) { m.Index = "my-index_2.x" })}},
		{"a shutdown needs no name", `{"op":"shutdown"}`, []any{plain("", Shutdown, 0)}},
		{"le is a label as others of an event", `{"name":"a","op":"event","labels":{"le":"1"}}`, []any{plain("a", Event, 0, Label{"le", "1"})}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, read(t, tt.in)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

const goodText = `{"name":"good","op":"inc","value":1}`

// hostile is what must not do harm, why it is refused, and how often.
var hostile = []struct {
	name, in string
	want     []Reason
}{
	{"text", "hello", []Reason{Syntax}},
	{"a statsd line", "a.b:1|c", []Reason{Syntax}},
	{"a lone brace", "{", []Reason{Truncated}},
	{"a closing brace", "}", []Reason{Syntax}},
	{"zeros", "\x00\x00\x00", []Reason{Syntax}},
	{"bytes that are no text", "\xff\xfe\x80", []Reason{Syntax}},
	{"a number", "1", []Reason{Syntax}},
	{"null", "null", []Reason{Syntax}},
	{"a string", `"{"`, []Reason{Syntax}},
	{"a string with a good event", `"x, {\"name\":\"good\"}"`, []Reason{Syntax}},
	{"an empty object", "{}", []Reason{Operation}},
	{"no name", `{"op":"inc"}`, []Reason{Name}},
	{"an empty name", `{"name":"","op":"inc"}`, []Reason{Name}},
	{"a name that is a number", `{"name":1,"op":"inc"}`, []Reason{Type}},
	{"a long name", `{"name":"` + strings.Repeat("n", 513) + `","op":"inc"}`, []Reason{Name}},
	{"no op", `{"name":"a"}`, []Reason{Operation}},
	{"an unknown op", `{"name":"a","op":"drop"}`, []Reason{Operation}},
	{"an op in capitals", `{"name":"a","op":"INC"}`, []Reason{Operation}},
	{"an op of another format", `{"name":"a","op":"add"}`, []Reason{Operation}},
	{"an op that is a number", `{"name":"a","op":1}`, []Reason{Type}},
	{"labels that are null", `{"name":"a","op":"inc","labels":null}`, []Reason{Type}},
	{"labels that are a string", `{"name":"a","op":"inc","labels":"x"}`, []Reason{Type}},
	{"labels in an array", `{"name":"a","op":"inc","labels":["x"]}`, []Reason{Type}},
	{"a label that is null", `{"name":"a","op":"inc","labels":{"x":null}}`, []Reason{Type}},
	{"a label that is a number", `{"name":"a","op":"inc","labels":{"x":1}}`, []Reason{Type}},
	{"a label that is an object", `{"name":"a","op":"inc","labels":{"x":{"y":"z"}}}`, []Reason{Type}},
	{"a label without a name", `{"name":"a","op":"inc","labels":{"":"x"}}`, []Reason{Labels}},
	{"a long label", `{"name":"a","op":"inc","labels":{"x":"` + strings.Repeat("v", 4097) + `"}}`, []Reason{Labels}},
	{"many labels", `{"name":"a","op":"inc","labels":{` + manyLabels(65) + `}}`, []Reason{Labels}},
	{"the label le", `{"name":"a","op":"obs","labels":{"le":"1"}}`, []Reason{Reserved}},
	{"the label quantile", `{"name":"a","op":"inc","labels":{"quantile":"1"}}`, []Reason{Reserved}},
	{"the label __name__", `{"name":"a","op":"inc","labels":{"__name__":"b"}}`, []Reason{Reserved}},
	{"a value that is a string", `{"name":"a","op":"inc","value":"1"}`, []Reason{Type}},
	{"a value that is NaN", `{"name":"a","op":"set","value":NaN}`, []Reason{Syntax}},
	{"a value that is infinite", `{"name":"a","op":"set","value":Infinity}`, []Reason{Syntax}},
	{"a value with a plus", `{"name":"a","op":"set","value":+1}`, []Reason{Syntax}},
	{"a value with a leading zero", `{"name":"a","op":"set","value":01}`, []Reason{Syntax}},
	{"a value without a whole part", `{"name":"a","op":"set","value":.5}`, []Reason{Syntax}},
	{"a value with an empty fraction", `{"name":"a","op":"set","value":1.}`, []Reason{Syntax}},
	{"a value in hex", `{"name":"a","op":"set","value":0x10}`, []Reason{Syntax}},
	{"a value that does not fit", `{"name":"a","op":"set","value":1e999}`, []Reason{Value}},
	{"a value of a thousand digits", `{"name":"a","op":"set","value":` + strings.Repeat("9", 1000) + `}`, []Reason{Value}},
	{"a counter that goes down", `{"name":"a","op":"inc","value":-1}`, []Reason{Negative}},
	{"a negative number of buckets", `{"name":"a","op":"obs","buckets":-1}`, []Reason{BucketDef}},
	{"400 million buckets", `{"name":"a","op":"obs","buckets":400000000}`, []Reason{BucketDef}},
	{"half a bucket", `{"name":"a","op":"obs","buckets":1.5}`, []Reason{BucketDef}},
	{"more buckets than numbers go", `{"name":"a","op":"obs","buckets":1e300}`, []Reason{BucketDef}},
	{"buckets of negative width", `{"name":"a","op":"obs","bucket_width":-1}`, []Reason{BucketDef}},
	{"a bucket factor of 1", `{"name":"a","op":"obs","bucket_factor":1}`, []Reason{BucketDef}},
	{"a bucket factor below 1", `{"name":"a","op":"obs","bucket_factor":0.5}`, []Reason{BucketDef}},
	{"a bucket factor that overflows", `{"name":"a","op":"obs","bucket_factor":1e300,"buckets":100}`, []Reason{BucketDef}},
	{"a bucket width that is too small to count", `{"name":"a","op":"obs","bucket_start":1e300,"bucket_width":1}`, []Reason{BucketDef}},
	{"buckets that do not ascend", `{"name":"a","op":"obs","bucket_custom":[1,1]}`, []Reason{BucketDef}},
	{"buckets that descend", `{"name":"a","op":"obs","bucket_custom":[2,1]}`, []Reason{BucketDef}},
	{"an infinite bucket", `{"name":"a","op":"obs","bucket_custom":[1,1e999]}`, []Reason{BucketDef}},
	{"too many custom buckets", `{"name":"a","op":"obs","bucket_custom":[` + manyNumbers(501) + `]}`, []Reason{BucketDef}},
	{"custom buckets that are a string", `{"name":"a","op":"obs","bucket_custom":"1,2"}`, []Reason{Type}},
	{"a bucket range upside down", `{"name":"a","op":"obs","bucket_min":2,"bucket_max":1}`, []Reason{BucketDef}},
	{"a bucket range without an end", `{"name":"a","op":"obs","bucket_min":2}`, []Reason{BucketDef}},
	{"a name that is no UTF-8", "{\"name\":\"\xff\",\"op\":\"inc\"}", []Reason{UTF8}},
	{"a label that is no UTF-8", "{\"name\":\"a\",\"op\":\"inc\",\"labels\":{\"x\":\"\xc3(\"}}", []Reason{UTF8}},
	{"half a surrogate", `{"name":"a","op":"inc","labels":{"x":"\ud800"}}`, []Reason{UTF8}},
	{"two high surrogates", `{"name":"a","op":"inc","labels":{"x":"\ud800\ud800"}}`, []Reason{UTF8}},
	{"an unknown escape", `{"name":"\x41","op":"inc"}`, []Reason{Syntax}},
	{"a bad code point", `{"name":"\u00zz","op":"inc"}`, []Reason{Syntax}},
	{"a raw tab in a string", "{\"name\":\"a\tb\",\"op\":\"inc\"}", []Reason{Syntax}},
	{"a raw line end in a string", "{\"name\":\"a\nb\",\"op\":\"inc\"}", []Reason{Syntax}},
	{"a tail cut off in a string", `{"name":"a","op":"inc","labels":{"x":"y`, []Reason{Truncated}},
	{"a tail cut off in an escape", `{"name":"a","op":"inc","labels":{"x":"\u00`, []Reason{Truncated}},
	{"a tail cut off in a number", `{"name":"a","op":"inc","value":1`, []Reason{Truncated}},
	{"a tail cut off in a word", `{"name":"a","op":"inc","x":nul`, []Reason{Truncated}},
	{"a trailing comma", `{"name":"a","op":"inc",}`, []Reason{Syntax}},
	{"no colon", `{"name" "a"}`, []Reason{Syntax}},
	{"single quotes", `{'name':'a'}`, []Reason{Syntax}},
	{"keys without quotes", `{name:"a"}`, []Reason{Syntax}},
	{"a comment", `{"name":"a",/*x*/"op":"inc"}`, []Reason{Syntax}},
	{"deep arrays", `{"name":"a","op":"inc","x":` + strings.Repeat("[", 60000) + `}`, []Reason{Syntax}},
	{"deep objects", `{"name":"a","op":"inc","x":` + strings.Repeat(`{"x":`, 10000) + `}`, []Reason{Syntax}},
	{"brackets that do not match", `{"name":"a","op":"inc","x":[1}}`, []Reason{Syntax, Syntax}},
	{"a quote in a string", `{"name":"a "quoted" name","op":"inc"}`, []Reason{Syntax}},
	{"bulk lines in the index", `{"name":"a","op":"index","index":"x\"}}\n{\"delete\":{\"_index\":\"y"}`, []Reason{IndexName}},
	{"an index with a path", `{"name":"a","op":"index","index":"../x"}`, []Reason{IndexName}},
	{"an index of many", `{"name":"a","op":"index","index":"a,b*"}`, []Reason{IndexName}},
	{"a hidden index", `{"name":"a","op":"index","index":".security"}`, []Reason{IndexName}},
	{"a long index", `{"name":"a","op":"index","index":"` + strings.Repeat("i", 201) + `"}`, []Reason{IndexName}},
	{"an index that is a number", `{"name":"a","op":"index","index":7}`, []Reason{Type}},
	{"a time that is none", `{"name":"a","op":"event","timestamp":"yesterday"}`, []Reason{TimeDef}},
	{"a time before 1970", `{"name":"a","op":"event","timestamp":-1}`, []Reason{TimeDef}},
	{"a time that is far away", `{"name":"a","op":"event","timestamp":"9999-01-01T00:00:00Z"}`, []Reason{TimeDef}},
	{"a time beyond what nanoseconds count", `{"name":"a","op":"event","timestamp":20000000000.5}`, []Reason{TimeDef}},
	{"a time that does not fit", `{"name":"a","op":"event","timestamp":1e300}`, []Reason{TimeDef}},
	{"a time that is an object", `{"name":"a","op":"event","timestamp":{}}`, []Reason{Type}},
	{"a ttl that is none", `{"name":"a","op":"set","ttl":"soon"}`, []Reason{TTLDef}},
	{"a ttl of zero", `{"name":"a","op":"set","ttl":0}`, []Reason{TTLDef}},
	{"a negative ttl", `{"name":"a","op":"set","ttl":"-5s"}`, []Reason{TTLDef}},
	{"a ttl that does not fit", `{"name":"a","op":"set","ttl":1e300}`, []Reason{TTLDef}},
	{"a long id", `{"name":"a","op":"event","id":"` + strings.Repeat("i", 257) + `"}`, []Reason{IDDef}},
	{"native that is a string", `{"name":"a","op":"obs","native":"yes"}`, []Reason{Type}},
}

func manyLabels(n int) string {
	var parts []string
	for i := range n {
		parts = append(parts, fmt.Sprintf(`"l%d":"x"`, i))
	}
	return strings.Join(parts, ",")
}

func manyNumbers(n int) string {
	var parts []string
	for i := range n {
		parts = append(parts, fmt.Sprint(i))
	}
	return strings.Join(parts, ",")
}

func TestHostileInput(t *testing.T) {
	good := read(t, goodText)
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			want := []any{}
			for _, r := range tt.want {
				want = append(want, r)
			}
			if diff := cmp.Diff(want, read(t, tt.in)); diff != "" {
				t.Fatal("alone:", diff)
			}
			for i, r := range want {
				if r == Truncated {
					want[i] = Syntax // something follows, but not what should
				}
			}
			want = append(append(append([]any{}, good...), want...), good...)
			if diff := cmp.Diff(want, read(t, goodText+"\n"+tt.in+"\n"+goodText)); diff != "" {
				t.Error("between good lines:", diff)
			}
		})
	}
}

func TestWhatFollowsABrokenObjectInItsLineIsRead(t *testing.T) {
	got := read(t, `[{"name":"a",},{"name":"b","op":"set","value":[1]}]{"x":1]}`+goodText+`{"name":"a`)
	good := read(t, goodText)[0]
	if diff := cmp.Diff([]any{Syntax, Type, Syntax, good, Truncated}, got); diff != "" {
		t.Error(diff)
	}
}

func TestBounds(t *testing.T) {
	tests := []struct {
		name string
		b    *Buckets
		want []float64
	}{
		{"none given", nil, []float64{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190}},
		{"linear", &Buckets{Count: 3, Width: 0.5, Start: -1}, []float64{-1, -0.5, 0}},
		{"exponential", &Buckets{Count: 3, Factor: 2}, []float64{0.1, 0.2, 0.4}},
		{"exponential from a start", &Buckets{Count: 3, Factor: 2, Start: 1}, []float64{1, 2, 4}},
		{"a range", &Buckets{Count: 3, Min: 1, Max: 100}, []float64{1, 10, 100}},
		{"custom", &Buckets{Count: 9, Custom: []float64{1, 5}}, []float64{1, 5}},
		{"a factor goes before custom ones", &Buckets{Count: 2, Factor: 3, Custom: []float64{1, 5}}, []float64{0.1, 0.3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !tt.b.OK() {
				t.Error("not OK")
			}
			got := tt.b.Bounds()
			if len(got) != len(tt.want) {
				t.Fatalf("got %v, want %v", got, tt.want)
			}
			for i := range got {
				if math.Abs(got[i]-tt.want[i]) > 1e-9 {
					t.Fatalf("got %v, want %v", got, tt.want)
				}
			}
		})
	}
}

func TestDecodingAllocatesNothing(t *testing.T) {
	in := []byte(`{"name":"http_requests","op":"inc","value":1,"labels":{"path":"/a","code":"200","method":"GET"},"help":"x\ny"}`)
	var d Decoder
	n := testing.AllocsPerRun(100, func() {
		d.Reset(in, false)
		for {
			if _, err := d.Next(); err != nil {
				break
			}
		}
	})
	if n > 0 {
		t.Errorf("%v allocations for a message", n)
	}
}
