package collect

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// give applies JSON and returns what became of each message.
func (r *Registry) give(t testing.TB, json string, added ...datagram.Label) []string {
	t.Helper()
	var d datagram.Decoder
	d.Reset([]byte(json), false)
	var out []string
	for {
		m, err := d.Next()
		if why, ok := err.(datagram.Reason); ok { //nolint:errorlint // never wrapped
			out = append(out, why.Error())
			continue
		}
		if err != nil {
			return out
		}
		r.mu.Lock()
		why := r.apply(m, added, r.at(time.Now()))
		r.mu.Unlock()
		out = append(out, reasonNames[why])
	}
}

func (r *Registry) page(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	if err := r.expose(&b, textPage{}); err != nil {
		t.Fatal(err)
	}
	parsePage(t, b.String())
	return b.String()
}

func TestPages(t *testing.T) {
	tests := []struct {
		name, in string
		added    []datagram.Label
		want     string
		became   []string // "" is applied
	}{
		{"nothing", "", nil, "", nil},
		{"a counter adds up", `{"name":"a","op":"inc","value":1.5,"help":"Some help."}{"name":"a","op":"inc","value":2}`, nil,
			"# HELP a Some help.\n# TYPE a counter\na 3.5\n", []string{"", ""}},
		{"a gauge is set", `{"name":"a","op":"set","value":-1e30}{"name":"a","op":"set","value":1e20}`, nil, "# TYPE a gauge\na 1e+20\n", []string{"", ""}},
		{"several label sets of a name are kept", `{"name":"a","op":"inc","value":1,"labels":{"x":"1"}}{"name":"a","op":"inc","value":2,"labels":{"y":"2"}}{"name":"a","op":"inc","value":3}`, nil,
			"# TYPE a counter\na{x=\"1\"} 1\na{y=\"2\"} 2\na 3\n", []string{"", "", ""}},
		{"names are made valid", `{"name":"9 é-b:c","op":"inc","value":1,"labels":{"k8s.io/x":"1"}}`, nil,
			"# TYPE _9___b:c counter\n_9___b:c{k8s_io_x=\"1\"} 1\n", []string{""}},
		{"two spellings are one series", `{"name":"a.b","op":"inc","value":1,"labels":{"x-y":"1","a":"2"}}{"name":"a_b","op":"inc","value":2,"labels":{"x_y":"1","a":"2"}}`, nil,
			"# TYPE a_b counter\na_b{a=\"2\",x_y=\"1\"} 3\n", []string{"", ""}},
		{"two labels that become one are refused", `{"name":"a","op":"inc","labels":{"x-y":"1","x_y":"2"}}`, nil, "", []string{"label_conflict"}},
		{"a label that becomes a reserved one is refused", `{"name":"a","op":"inc","labels":{"-_x":"1"}}`, nil, "", []string{"reserved_label"}},
		{"an empty label is none", `{"name":"a","op":"inc","value":1,"labels":{"x":""}}{"name":"a","op":"inc","value":1}`, nil, "# TYPE a counter\na 2\n", []string{"", ""}},
		{"labels of the source win", `{"name":"a","op":"inc","value":1,"labels":{"data_source":"forged","z":"1"}}`, []datagram.Label{{Name: "data_source", Value: ":9"}, {Name: "m", Value: "n"}},
			"# TYPE a counter\na{data_source=\":9\",m=\"n\",z=\"1\"} 1\n", []string{""}},
		{"values and help are escaped", `{"name":"a","op":"inc","value":1,"help":"a\\b\n\"c\"","labels":{"x":"a\\b\n\"c\""}}`, nil,
			"# HELP a a\\\\b\\n\"c\"\n# TYPE a counter\na{x=\"a\\\\b\\n\\\"c\\\"\"} 1\n", []string{""}},
		{"a histogram", `{"name":"h","op":"obs","value":1,"bucket_custom":[1,2.5],"labels":{"x":"y"}}{"name":"h","op":"obs","value":2,"bucket_custom":[7],"labels":{"x":"y"}}{"name":"h","op":"obs","value":99,"labels":{"x":"y"}}`, nil,
			"# TYPE h histogram\nh_bucket{x=\"y\",le=\"1\"} 1\nh_bucket{x=\"y\",le=\"2.5\"} 2\nh_bucket{x=\"y\",le=\"+Inf\"} 3\nh_sum{x=\"y\"} 102\nh_count{x=\"y\"} 3\n", []string{"", "", ""}},
		{"a native histogram is a classic one as text", `{"name":"h","op":"obs","value":1,"native":true,"bucket_custom":[1,2]}{"name":"h","op":"obs","value":2}`, nil,
			"# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} 2\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n", []string{"", ""}},
		{"a type conflict is refused", `{"name":"a","op":"inc","value":1}{"name":"a","op":"set","value":7}{"name":"a","op":"obs","value":7,"labels":{"x":"y"}}`, nil,
			"# TYPE a counter\na 1\n", []string{"", "type_conflict", "type_conflict"}},
		{"a suffix of a histogram is taken", `{"name":"h","op":"obs","value":1,"bucket_custom":[1]}{"name":"h_count","op":"inc"}{"name":"h_sum","op":"set"}{"name":"h_bucket","op":"inc"}{"name":"h_total","op":"inc","value":1}`, nil,
			"# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n# TYPE h_total counter\nh_total 1\n", []string{"", "type_conflict", "type_conflict", "type_conflict", ""}},
		{"a histogram whose suffix is taken is refused", `{"name":"h_count","op":"inc","value":1}{"name":"h","op":"obs"}`, nil, "# TYPE h_count counter\nh_count 1\n", []string{"", "type_conflict"}},
		{"names of our own are taken", `{"name":"taken","op":"inc"}{"name":"own_x","op":"inc"}`, nil, "", []string{"type_conflict", "type_conflict"}},
		{"a counter does not become infinite", `{"name":"a","op":"inc","value":1e308}{"name":"a","op":"inc","value":1e308}{"name":"h","op":"obs","value":1e308,"bucket_custom":[1]}{"name":"h","op":"obs","value":1e308}`, nil,
			"# TYPE a counter\na 1e+308\n# TYPE h histogram\nh_bucket{le=\"1\"} 0\nh_bucket{le=\"+Inf\"} 1\nh_sum 1e+308\nh_count 1\n", []string{"", "overflow", "", "overflow"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := NewRegistry(Limits{}, "taken", "own_*")
			if diff := cmp.Diff(tt.became, r.give(t, tt.in, tt.added...)); diff != "" {
				t.Error("became:", diff)
			}
			if diff := cmp.Diff(tt.want, r.page(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	inc := func(name, label string) string {
		return fmt.Sprintf(`{"name":%q,"op":"inc","value":1,"labels":{"x":%q}}`, name, label)
	}
	t.Run("series beyond the limit are refused, known ones go on", func(t *testing.T) {
		r := NewRegistry(Limits{Series: 2})
		got := r.give(t, inc("a", "1")+inc("a", "2")+inc("a", "3")+inc("b", "1")+inc("a", "1"))
		if diff := cmp.Diff([]string{"", "", "series_limit", "series_limit", ""}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("one name cannot take all", func(t *testing.T) {
		r := NewRegistry(Limits{Series: 10, SeriesPerName: 2})
		got := r.give(t, inc("a", "1")+inc("a", "2")+inc("a", "3")+inc("b", "1"))
		if diff := cmp.Diff([]string{"", "", "name_limit", ""}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("long labels count by their bytes", func(t *testing.T) {
		r := NewRegistry(Limits{Bytes: 3000})
		got := r.give(t, inc("a", strings.Repeat("x", 2000))+inc("a", strings.Repeat("y", 2000))+inc("a", "z"))
		if diff := cmp.Diff([]string{"", "bytes_limit", ""}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("what is removed makes room", func(t *testing.T) {
		r := NewRegistry(Limits{Series: 1, TTL: time.Second})
		r.give(t, inc("a", "1"))
		r.sweep(r.at(time.Now().Add(2 * time.Second)))
		if got := r.give(t, `{"name":"a","op":"set","value":1}`); got[0] != "" || r.bytes <= 0 {
			t.Errorf("%v, %d bytes", got, r.bytes)
		}
		r.sweep(r.at(time.Now().Add(4 * time.Second)))
		if r.bytes != 0 || len(r.claimed) != 0 || len(r.families) != 0 || len(r.heap) != 0 {
			t.Errorf("left behind: %d bytes, %v, %v, %v", r.bytes, r.claimed, r.families, r.heap)
		}
	})
}

func TestTimeToLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, done := t.Context(), make(chan struct{})
		r := NewRegistry(Limits{TTL: time.Minute})
		go func() { defer close(done); r.Run(ctx) }()
		names := func() (out []string) {
			synctest.Wait()
			for line := range strings.Lines(r.page(t)) {
				if line[0] != '#' {
					name, _, _ := strings.Cut(line, " ")
					out = append(out, name)
				}
			}
			return out
		}
		check := func(after time.Duration, want ...string) {
			t.Helper()
			time.Sleep(after)
			if diff := cmp.Diff(want, names()); diff != "" {
				t.Error(diff)
			}
		}
		r.give(t, `{"name":"global","op":"inc"}{"name":"kept","op":"inc"}{"name":"short","op":"inc","ttl":"5s","labels":{"x":"1"}}{"name":"long","op":"inc","ttl":"2m"}`)
		r.give(t, `{"name":"short","op":"inc","labels":{"x":"2"}}`)
		check(4*time.Second, "global", "kept", "long", "short{x=\"1\"}", "short{x=\"2\"}")
		check(2*time.Second, "global", "kept", "long")
		time.Sleep(50 * time.Second)
		r.give(t, `{"name":"kept","op":"inc"}`)
		check(5*time.Second, "kept", "long")
		r.give(t, `{"name":"kept","op":"inc","ttl":"1s"}`) // shorter than what the heap has
		check(2*time.Second, "long")
		check(58 * time.Second)
	})
}

func TestTheHeapGivesTheSoonestFirst(t *testing.T) {
	var h expiries
	for range 3000 {
		h.push(expiry{at: rand.Int64N(1000)})
	}
	last := int64(-1)
	for len(h) > 0 {
		e := h.pop()
		if e.at < last {
			t.Fatalf("%d after %d", e.at, last)
		}
		last = e.at
	}
}

func TestASeriesForEver(t *testing.T) {
	r := NewRegistry(Limits{TTL: -1})
	r.give(t, `{"name":"a","op":"inc","value":1}`)
	r.sweep(r.at(time.Now().Add(1e6 * time.Hour)))
	if got := r.page(t); !strings.Contains(got, "a 1\n") {
		t.Error(got)
	}
}
