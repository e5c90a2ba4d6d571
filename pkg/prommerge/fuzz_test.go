package prommerge_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

const goodPage = "# HELP good x\n# TYPE good gauge\ngood{a=\"b\"} 1 5\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n"

// fuzzMerge merges in with a good page. Whatever in is, the merged page is valid and holds all of the good one; if
// in is taken, the page holds as many samples of it as were counted.
func fuzzMerge(t *testing.T, m *prommerge.Merger, accept, contentType, good string, in []byte) string {
	out, ct, rs := gather(t, m, accept, opened("first", contentType, []byte(good)), opened("fuzzed", contentType, in), opened("last", contentType, []byte(good)))
	om := strings.HasPrefix(ct, "application/openmetrics")
	p, err := checkPage(out, om)
	if err != nil && !odd(in) {
		t.Fatalf("%v\n in %q\nout %q", err, in, out)
	}
	for _, name := range []string{"first", "last"} {
		if got := p.with(name); err == nil && len(got) != 4 && !bytes.Contains(in, []byte(name)) {
			t.Fatalf("%d samples of %s\n in %q\nout %q", len(got), name, in, out)
		}
	}
	if !rs[0].Up || !rs[2].Up {
		t.Fatalf("a good target is not up: %v", rs)
	}
	sameAsNew(t, m, accept, contentType, in)
	return out
}

// sameAsNew checks that what m remembers of earlier pages, which makes it faster, changes nothing.
func sameAsNew(t *testing.T, m *prommerge.Merger, accept, contentType string, in []byte) {
	first, ct, a := gather(t, prommerge.New(quiet(prommerge.Options{Sort: true})), accept, opened("fuzzed", contentType, in))
	for range 2 {
		again, ct2, b := gather(t, m, accept, opened("fuzzed", contentType, in))
		if a[0].Up != b[0].Up || a[0].Samples != b[0].Samples || ct != ct2 || withoutOurs(first, ct) != withoutOurs(again, ct) {
			t.Fatalf("a merger that has seen pages says something else: %v, %v\n  in %q\n new %q\nused %q", a[0].Err, b[0].Err, in, first, again)
		}
	}
}

// withoutOurs is ofTargets for any format.
func withoutOurs(page, contentType string) string {
	if contentType != protoType {
		return ofTargets(page)
	}
	var b strings.Builder
	for len(page) > 0 {
		n, k := binary.Uvarint([]byte(page))
		end := k + int(n)
		if !strings.Contains(page[:min(end, 20)], "prommerge_") {
			b.WriteString(page[:end])
		}
		page = page[end:]
	}
	return b.String()
}

// odd reports whether in has what the checker's regular expressions are too simple for.
func odd(in []byte) bool {
	return bytes.ContainsAny(in, "\x00\r\v\f\\\u0085\u2028") || bytes.Contains(in, []byte(`"`))
}

func FuzzText(f *testing.F) {
	for _, s := range []string{
		"a 1\n", "a{b=\"c\"} 1 123\n", "# HELP a b\n# TYPE a counter\na{b=\"c\",} 1e5\n", "{\"a.b\",\"c.d\"=\"e\"} NaN\n",
		"# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 1.5\nh_count 2\n", "a { b = \"c\" } 1\n",
		"a{b=\"one\ntwo\"} 1\n", "a{b=\"1\"} 1\na{b=\"2\"} 2\na{b=\"3\",c=\"4\"} 3\n", "good 1\n# TYPE good counter\n", "# TYPE h_count gauge\nh_count 1\n",
	} {
		f.Add([]byte(s))
	}
	m := prommerge.New(quiet(prommerge.Options{Sort: true}))
	f.Fuzz(func(t *testing.T, in []byte) {
		out := fuzzMerge(t, m, acceptText, textType, goodPage, in)
		parser := expfmt.NewTextParser(model.LegacyValidation)
		if _, err := parser.TextToMetricFamilies(bytes.NewReader(in)); err != nil && len(in) > 0 {
			return // expfmt takes less than Prometheus does, of lines and of pages
		}
		parser = expfmt.NewTextParser(model.LegacyValidation)
		_, err := parser.TextToMetricFamilies(strings.NewReader(out))
		if err != nil && !strings.Contains(err.Error(), "expected float as value for") { // a bound without a TYPE, which the good page adds
			t.Fatalf("expfmt takes the page alone, but not the merged one: %v\n in %q\nout %q", err, in, out)
		}
	})
}

func FuzzOpenMetrics(f *testing.F) {
	for _, s := range []string{
		"a 1\n# EOF\n", "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds x\na_seconds_total{b=\"c\"} 1 1.5 # {t=\"x\"} 1 2.5\na_seconds_created 12\n# EOF\n",
		"{\"a.b\",\"c.d\"=\"e\"} NaN\n# EOF", "a{b=\"1\",} 1 -5\n# EOF\n# EOF\n",
	} {
		f.Add([]byte(s))
	}
	m := prommerge.New(quiet(prommerge.Options{Sort: true}))
	f.Fuzz(func(t *testing.T, in []byte) {
		good := strings.ReplaceAll(goodPage, "1 5", "1 5.5") + "# EOF\n"
		fuzzMerge(t, m, acceptOM, omType, good, in)
		mixed := []prommerge.Target{opened("text", textType, []byte(goodPage)), opened("fuzzed", omType, in)}
		out, ct, _ := gather(t, prommerge.New(quiet(prommerge.Options{})), acceptOM, mixed...)
		if _, err := checkPage(out, strings.HasPrefix(ct, "application")); err != nil && !odd(in) {
			t.Fatalf("converted: %v\n in %q\nout %q", err, in, out)
		}
	})
}

func FuzzProtobuf(f *testing.F) {
	good := asProto([]byte(goodPage))
	f.Add(good)
	f.Add(asProto(nodePage(1))[:4000])
	for _, s := range nativeFamilies() {
		f.Add(s)
	}
	m := prommerge.New(quiet(prommerge.Options{Sort: true}))
	f.Fuzz(func(t *testing.T, in []byte) {
		out, ct, rs := gather(t, m, protoType, opened("first", protoType, good), opened("fuzzed", protoType, in))
		if !rs[0].Up {
			t.Fatal(rs[0].Err)
		}
		if ct == textType { // a TYPE conflict; fuzzMerge looks at text
			m = prommerge.New(quiet(prommerge.Options{Sort: true})) // the old one asks for text now
			return
		}
		sameAsNew(t, m, protoType, protoType, in)
		fams, err := decodeProto([]byte(out))
		if err != nil {
			t.Fatalf("%v\n in %q\nout %q", err, in, out)
		}
		i := slices.IndexFunc(fams, func(mf *family) bool { return mf.GetName() == "good" })
		if i < 0 || len(fams[i].Metric) == 0 {
			t.Fatalf("no good family in %q", out)
		}
		text, _, _ := gather(t, prommerge.New(quiet(prommerge.Options{})), acceptText, opened("fuzzed", protoType, in))
		if _, err := checkPage(text, false); err != nil && !odd(in) {
			t.Fatalf("converted: %v\n in %q\nout %q", err, in, text)
		}
	})
}
