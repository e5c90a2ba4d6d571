package prommerge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

type family = dto.MetricFamily

func decodeProto(page []byte) (fams []*family, err error) {
	dec := expfmt.NewDecoder(bytes.NewReader(page), expfmt.NewFormat(expfmt.TypeProtoDelim))
	for {
		mf := &family{}
		err := dec.Decode(mf)
		if errors.Is(err, io.EOF) {
			return fams, nil
		}
		if err != nil {
			return fams, err
		}
		fams = append(fams, mf)
	}
}

func encodeProto(fams ...*family) []byte {
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeProtoDelim))
	for _, mf := range fams {
		if err := enc.Encode(mf); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func pairs(kv ...string) (ps []*dto.LabelPair) {
	for i := 0; i < len(kv); i += 2 {
		ps = append(ps, &dto.LabelPair{Name: &kv[i], Value: &kv[i+1]})
	}
	return ps
}

func nativeHistogram(labels ...string) *family {
	return &family{Name: proto.String("native"), Help: proto.String("A native histogram."), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{
		Label: pairs(labels...),
		Histogram: &dto.Histogram{
			SampleCount: proto.Uint64(5), SampleSum: proto.Float64(12.5), Schema: proto.Int32(3), ZeroThreshold: proto.Float64(1e-128), ZeroCount: proto.Uint64(1),
			PositiveSpan: []*dto.BucketSpan{{Offset: proto.Int32(-2), Length: proto.Uint32(2)}}, PositiveDelta: []int64{1, 2},
			Bucket:    []*dto.Bucket{{CumulativeCount: proto.Uint64(3), UpperBound: proto.Float64(1)}},
			Exemplars: []*dto.Exemplar{{Label: pairs("trace", "x"), Value: proto.Float64(1)}},
		}}}}
}

func gaugeFamily(name string, v float64, labels ...string) *family {
	return &family{Name: &name, Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Label: pairs(labels...), Gauge: &dto.Gauge{Value: &v}}}}
}

func nativeFamilies() [][]byte {
	broken := nativeHistogram()
	broken.Metric[0].Histogram.PositiveDelta = []int64{1}
	return [][]byte{encodeProto(nativeHistogram("a", "b")), encodeProto(broken), encodeProto(gaugeFamily("g", math.NaN(), "process_name", "x"))}
}

// withLabel is what a merge does to a family, said with messages.
func withLabel(mf *family, name string) *family {
	mf = proto.Clone(mf).(*family)
	for _, m := range mf.Metric {
		for _, l := range m.Label {
			if l.GetName() == "process_name" {
				l.Name = proto.String("exported_process_name")
			}
		}
		m.Label = append(m.Label, pairs("process_name", name)...)
		slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	}
	return mf
}

func TestProtobufKeepsAllButTheLabel(t *testing.T) {
	in := []*family{nativeHistogram("a", "b"), gaugeFamily("g", 1.5, "process_name", "x", "c", "d")}
	for _, page := range [][]byte{asProto(nodePage(3)), asProto(kubePage(1, 20))} {
		fams, err := decodeProto(page)
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, fams...)
	}
	m := prommerge.New(quiet(prommerge.Options{}))
	for range 3 {
		page, ct, rs := gather(t, m, protoType, opened("p1", protoType, encodeProto(in...)), opened("p2", protoType, encodeProto(in...)))
		if rs[0].Err != nil || rs[1].Err != nil || ct != protoType {
			t.Fatal(rs, ct)
		}
		got, err := decodeProto([]byte(page))
		if err != nil {
			t.Fatal(err)
		}
		got = slices.DeleteFunc(got, func(mf *family) bool { return strings.HasPrefix(mf.GetName(), "prommerge_") })
		var want []*family
		for _, mf := range in {
			one, two := withLabel(mf, "p1"), withLabel(mf, "p2")
			one.Metric = append(one.Metric, two.Metric...)
			want = append(want, one)
		}
		for _, mf := range got {
			for _, m := range mf.Metric {
				slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
			}
		}
		if !slices.EqualFunc(want, got, func(a, b *family) bool { return proto.Equal(a, b) }) { // a diff takes seconds
			t.Fatal(cmp.Diff(want, got, protocmp.Transform()))
		}
	}
}

func TestBadProtobufIsDroppedWhole(t *testing.T) {
	good := encodeProto(gaugeFamily("g", 1))
	unmatched := nativeHistogram()
	unmatched.Metric[0].Histogram.PositiveDelta = []int64{1}
	for _, tt := range []struct {
		name, reason string
		in           []byte
	}{
		{"a message cut short", "truncated", good[:len(good)-1]},
		{"a length of 2^63", "syntax", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}},
		{"text", "syntax", []byte("# HELP some metrics are not protobuf, and this line is long enough to hold what seems a message, with more text than that\n")},
		{"no name", "syntax", encodeProto(gaugeFamily("", 1))},
		{"a label twice", "syntax", encodeProto(gaugeFamily("g", 1, "a", "b", "a", "c"))},
		{"a label without a name", "syntax", encodeProto(gaugeFamily("g", 1, "", "b"))},
		{"__name__ as a label", "syntax", encodeProto(gaugeFamily("g", 1, "__name__", "b"))},
		{"spans that do not match the buckets", "syntax", encodeProto(unmatched)},
		{"an unknown type", "syntax", []byte{5, 0x0a, 1, 'g', 0x18, 9}},
		{"a wire type that the field does not have", "syntax", []byte{7, 0x0a, 1, 'g', 0x22, 2, 0x10, 1}},
		{"a gauge that is cut short", "syntax", []byte{9, 0x0a, 1, 'g', 0x22, 4, 0x12, 2, 0x09, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			page, _, rs := gather(t, prommerge.New(quiet(prommerge.Options{})), protoType, opened("good", protoType, good),
				opened("bad", protoType, append(encodeProto(gaugeFamily("early", 1)), tt.in...)))
			if rs[1].Up || rs[1].Reason != tt.reason {
				t.Errorf("up %v, reason %q, %v", rs[1].Up, rs[1].Reason, rs[1].Err)
			}
			fams, err := decodeProto([]byte(page))
			if err != nil || fams[0].GetName() != "g" || slices.ContainsFunc(fams, func(mf *family) bool { return mf.GetName() == "early" }) {
				t.Errorf("%v: %v", err, fams)
			}
		})
	}
}

func TestAnswersInDifferentFormatsBecomeText(t *testing.T) {
	om := "# HELP c a \\\"quote\\\"\n# TYPE c counter\nc_total{a=\"}\"} 1 1.5 # {t=\"u\"} 0.5\nc_created{a=\"}\"} 1.25\n# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE u unknown\nu 1\n# EOF\n"
	page, ct, rs := gather(t, prommerge.New(quiet(prommerge.Options{})), acceptOM, opened("t", textType, []byte("# TYPE t untyped\nt 1\n")),
		opened("o", omType, []byte(om)), opened("p", protoType, encodeProto(gaugeFamily("g", 2, "a", "x\"y"), nativeHistogram())))
	want := `# TYPE t untyped
t{process_name="t"} 1
# HELP c_total a "quote"
# TYPE c_total counter
c_total{process_name="o",a="}"} 1 1500
# TYPE c_created gauge
c_created{process_name="o",a="}"} 1.25
# TYPE i_info gauge
i_info{process_name="o",v="1"} 1
# TYPE u untyped
u{process_name="o"} 1
# TYPE g gauge
g{a="x\"y",process_name="p"} 2
# HELP native A native histogram.
# TYPE native histogram
native_bucket{process_name="p",le="1"} 3
native_bucket{process_name="p",le="+Inf"} 5
native_sum{process_name="p"} 12.5
native_count{process_name="p"} 5
`
	if diff := cmp.Diff(want, ofTargets(page)); diff != "" || ct != textType {
		t.Errorf("%s\n%s\n%v", diff, ct, rs)
	}
	if _, err := checkPage(page, false); err != nil {
		t.Error(err)
	}
}

func TestATypeConflictInProtobufBecomesText(t *testing.T) {
	counter := gaugeFamily("g", 2)
	counter.Type, counter.Metric[0].Counter, counter.Metric[0].Gauge = dto.MetricType_COUNTER.Enum(), &dto.Counter{Value: proto.Float64(3)}, nil
	var asked []string
	target := func(name string, mf *family) prommerge.Target {
		return prommerge.Target{Name: name, Open: func(_ context.Context, accept string) (io.ReadCloser, string, error) {
			asked = append(asked, strings.SplitAfter(accept, ";")[0])
			return io.NopCloser(bytes.NewReader(encodeProto(mf))), protoType, nil
		}}
	}
	m := prommerge.New(quiet(prommerge.Options{}))
	for i := range 2 {
		page, ct, _ := gather(t, m, protoType, target("a", gaugeFamily("g", 2)), target("b", counter))
		if want := "# TYPE g gauge\ng{process_name=\"a\"} 2\ng{process_name=\"b\"} 3\n"; ofTargets(page) != want || ct != textType {
			t.Errorf("%s\n%s", ct, page)
		}
		if !strings.Contains(page, fmt.Sprintf("prommerge_type_conflicts_total %d\n", i+1)) {
			t.Errorf("not counted in\n%s", page)
		}
	}
	const p, text = "application/vnd.google.protobuf;", "text/plain;"
	if want := []string{p, p, text, text}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
}

// encodeText returns families in text.
func encodeText(fams []*family) string {
	var b strings.Builder
	for _, mf := range fams {
		if _, err := expfmt.MetricFamilyToText(&b, mf); err != nil {
			panic(err)
		}
	}
	return b.String()
}

func TestLabelsThatExistInEachFormat(t *testing.T) {
	const line = "g{process_name=\"mine\",zone=\"theirs\",a=\"b\"} 1\n"
	for _, tt := range []struct {
		honor prommerge.HonorLabels
		want  string
	}{
		{prommerge.HonorRename, "g{a=b,exported_process_name=mine,exported_zone=theirs,process_name=x,zone=ours} 1"},
		{prommerge.HonorKeep, "g{a=b,process_name=mine,zone=theirs} 1"},
		{prommerge.HonorOverride, "g{a=b,process_name=x,zone=ours} 1"},
	} {
		for _, f := range []struct{ contentType, in string }{
			{textType, line}, {omType, line + "# EOF\n"}, {protoType, string(asProto([]byte("# TYPE g gauge\n" + line)))},
		} {
			t.Run(fmt.Sprint("honor ", tt.honor, ", ", f.contentType), func(t *testing.T) {
				m := prommerge.New(quiet(prommerge.Options{HonorLabels: tt.honor}))
				target := opened("x", f.contentType, []byte(f.in))
				target.Labels = map[string]string{"zone": "ours"}
				for range 3 {
					page, ct, rs := gather(t, m, f.contentType, target)
					p, err := checkPage(asText(t, f.contentType, page), f.contentType == omType)
					if err != nil || !rs[0].Up || !strings.HasPrefix(ct, f.contentType) || !slices.ContainsFunc(p.samples, func(s string) bool { return strings.TrimSpace(s) == tt.want }) {
						t.Fatalf("%v, %v, %s\nno %s in\n%s", err, rs[0].Err, ct, tt.want, strings.Join(p.samples, "\n"))
					}
				}
			})
		}
	}
}
