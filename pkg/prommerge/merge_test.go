package prommerge_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

const (
	acceptText = "text/plain;version=0.0.4"
	acceptUTF8 = "text/plain;version=1.0.0;escaping=allow-utf-8"
	acceptOM   = "application/openmetrics-text;version=1.0.0"
	acceptOM8  = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
)

// gather merges targets and returns the page, its Content-Type and the results.
func gather(tb testing.TB, m *prommerge.Merger, accept string, targets ...prommerge.Target) (string, string, []prommerge.Result) {
	tb.Helper()
	p := m.Gather(context.Background(), accept, targets)
	defer p.Close()
	var b bytes.Buffer
	if _, err := p.WriteTo(&b); err != nil {
		tb.Fatal(err)
	}
	if p.Size() != int64(b.Len()) {
		tb.Errorf("Size() = %d for a page of %d bytes", p.Size(), b.Len())
	}
	return b.String(), p.ContentType(), slices.Clone(p.Results())
}

func quiet(opt prommerge.Options) prommerge.Options {
	opt.SuppressErrors = true
	return opt
}

// ofTargets returns a page without the merger's own families.
func ofTargets(page string) string {
	var b strings.Builder
	for line := range strings.Lines(page) {
		if name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "); !strings.HasPrefix(name, "prommerge_") && line != "# EOF\n" {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestLinesLeaveAsTheyCameWithTheLabel(t *testing.T) {
	for _, tt := range []struct{ name, accept, in, want string }{
		{"a sample without labels", acceptText, "a 1\n", `a{process_name="x"} 1` + "\n"},
		{"a sample with labels", acceptText, "a{b=\"c\"} 1\n", `a{process_name="x",b="c"} 1` + "\n"},
		{"empty braces", acceptText, "a{} 1\n", `a{process_name="x"} 1` + "\n"},
		{"NaN and infinities", acceptText, "a NaN\na +Inf\na -Inf\na inf\n", "a{process_name=\"x\"} NaN\na{process_name=\"x\"} +Inf\na{process_name=\"x\"} -Inf\na{process_name=\"x\"} inf\n"},
		{"exponents and large integers", acceptText, "a 1.5E+06\na 9223372036854775807\na 1e300\na 0.1e-5\n",
			"a{process_name=\"x\"} 1.5E+06\na{process_name=\"x\"} 9223372036854775807\na{process_name=\"x\"} 1e300\na{process_name=\"x\"} 0.1e-5\n"},
		{"timestamps", acceptText, "a 1 1700000000000\n", `a{process_name="x"} 1 1700000000000` + "\n"},
		{"blank lines and comments", acceptText, "\n# a comment\n#\n \t\n  #x\n \t# y\na 1\n", `a{process_name="x"} 1` + "\n"},
		{"a HELP without text", acceptText, "# HELP a\n# TYPE a gauge\na 1\n", "# HELP a \n# TYPE a gauge\na{process_name=\"x\"} 1\n"},
		{"a colon in the name", acceptText, "job:a:rate5m 1\n", `job:a:rate5m{process_name="x"} 1` + "\n"},
		{"commas, braces, quotes and newlines in values", acceptText, `a{b="c,d}{\"\n\\"} 1` + "\n", `a{process_name="x",b="c,d}{\"\n\\"} 1` + "\n"},
		{"a bare newline in a value", acceptText, "a{b=\"c\nd\"} 1\n", `a{process_name="x",b="c\nd"} 1` + "\n"},
		{"blanks and tabs between tokens", acceptText, " a\t{ b = \"c\" , d=\"e\", }\t 1 \t 5 \n", `a{process_name="x",b="c",d="e"} 1 5` + "\n"},
		{"labels without a comma", acceptText, "a{b=\"c\"d=\"e\"} 1\n", `a{process_name="x",b="c",d="e"} 1` + "\n"},
		{"no final newline", acceptText, "a 1", `a{process_name="x"} 1` + "\n"},
		{"a label that exists", acceptText, "a{process_name=\"y\",b=\"c\"} 1\n", `a{process_name="x",exported_process_name="y",b="c"} 1` + "\n"},
		{"a label that exists, renamed once already", acceptText, "a{process_name=\"y\",exported_process_name=\"z\"} 1\n",
			`a{process_name="x",exported_exported_process_name="y",exported_process_name="z"} 1` + "\n"},
		{"a label that exists but is empty", acceptText, "a{process_name=\"\"} 1\n", `a{process_name="x"} 1` + "\n"},
		{"a histogram keeps its children", acceptText, "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n",
			"# TYPE h histogram\nh_bucket{process_name=\"x\",le=\"1\"} 1\nh_bucket{process_name=\"x\",le=\"+Inf\"} 2\nh_sum{process_name=\"x\"} 3\nh_count{process_name=\"x\"} 2\n"},
		{"a family in pieces is put together", acceptText, "a 1\nb 1\na{c=\"d\"} 2\n", "a{process_name=\"x\"} 1\na{process_name=\"x\",c=\"d\"} 2\nb{process_name=\"x\"} 1\n"},
		{"late children of a summary", acceptText, "# TYPE s summary\ns{quantile=\"1\"} 1\nb 1\ns_count 2\n",
			"# TYPE s summary\ns{process_name=\"x\",quantile=\"1\"} 1\ns_count{process_name=\"x\"} 2\n# TYPE b untyped\nb{process_name=\"x\"} 1\n"},
		{"a quoted name stays quoted", acceptUTF8, "# TYPE \"a.b\" gauge\n{\"a.b\",\"c d\"=\"e\"} 1\n", "# TYPE \"a.b\" gauge\n{\"a.b\",process_name=\"x\",\"c d\"=\"e\"} 1\n"},
		{"a quoted name that needs no quotes", acceptUTF8, "{\"a\",\"b\"=\"c\"} 1\n", `a{process_name="x",b="c"} 1` + "\n"},
		{"a quoted name for a scraper that does not know them", acceptText, "{\"a.b\",\"c d\"=\"e\"} 1\n", `a_b{process_name="x",c_d="e"} 1` + "\n"},
		{"a quoted name with escaping=dots", "text/plain;version=1.0.0;escaping=dots", "{\"a.b_c\"} 1\n", `a_dot_b__c{process_name="x"} 1` + "\n"},
		{"a quoted name with escaping=values", "text/plain;version=1.0.0;escaping=values", "{\"a.b\"} 1\n", `U__a_2e_b{process_name="x"} 1` + "\n"},
		{"OpenMetrics with all it has", acceptOM, "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds x\na_seconds_total{b=\"c\"} 1 1.5 # {t=\"u\"} 0.5 2.5\na_seconds_created{b=\"c\"} 1.25\n# EOF\n",
			"# HELP a_seconds x\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total{process_name=\"x\",b=\"c\"} 1 1.5 # {t=\"u\"} 0.5 2.5\na_seconds_created{process_name=\"x\",b=\"c\"} 1.25\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := prommerge.New(quiet(prommerge.Options{}))
			ct := textType
			if strings.HasPrefix(tt.accept, "application") {
				ct = omType
			}
			for range 3 { // the second merge knows what the page looks like
				page, _, rs := gather(t, m, tt.accept, opened("x", ct, []byte(tt.in)))
				if rs[0].Err != nil {
					t.Fatal(rs[0].Err)
				}
				if diff := cmp.Diff(tt.want, ofTargets(page)); diff != "" {
					t.Fatal(diff)
				}
			}
		})
	}
}

func TestABadPageIsDroppedWhole(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, tt := range []struct{ name, in string }{
		{"HTML", "<html><body>404</body></html>\n"},
		{"a name that begins with a digit", "1a 1\n"},
		{"no value", "a\n"},
		{"a value that is no number", "a b\n"},
		{"a hexadecimal value", "a 0x1p-2\n"},
		{"an underscore in a value", "a 1_000\n"},
		{"a value that overflows", "a 1e999\n"},
		{"a value of many digits that overflows", "a " + strings.Repeat("9", 400) + "\n"},
		{"a negative timestamp", "a 1 -5\n"},
		{"a timestamp that overflows", "a 1 9223372036854775808\n"},
		{"a timestamp that is no integer", "a 1 1.5\n"},
		{"text after the timestamp", "a 1 2 3\n"},
		{"a carriage return", "a 1\r\n"},
		{"an open brace", "a{b=\"c\" 1\n"},
		{"an open quote", "a{b=\"c} 1\n"},
		{"a label without a value", "a{b} 1\n"},
		{"a label name that begins with a digit", "a{1b=\"c\"} 1\n"},
		{"a leading comma", "a{,b=\"c\"} 1\n"},
		{"two commas", "a{b=\"c\",,d=\"e\"} 1\n"},
		{"a label twice", "a{b=\"c\",b=\"d\"} 1\n"},
		{"__name__ as a label", "a{__name__=\"b\"} 1\n"},
		{"an unknown type", "# TYPE a thing\na 1\n"},
		{"a TYPE without a type", "# TYPE a\n"},
		{"a TYPE without a name", "# TYPE 1 counter\n"},
		{"a value that is not UTF-8", "a{b=\"\xff\"} 1\n"},
		{"a HELP that is not UTF-8", "# HELP a \xff\n"},
		{"a value that is not UTF-8 on a line like the one before", "a{b=\"c\"} 1\na{b=\"\xff\"} 1\n"},
		{"a bad value on a line like the one before", "a{b=\"c\"} 1\na{b=\"c\"} x\n"},
		{"two metric names", "a{\"b\"} 1\n"},
		{"an empty quoted name", "{\"\"} 1\n"},
		{"a NUL in a quoted name", "{\"a\x00\"} 1\n"},
		{"no metric name", "{b=\"c\"} 1\n"},
		{"a NUL", "a\x00 1\n"},
		{"gzip garbage", "\x1f\x8b\x08garbage\n"},
		{"a bad line at the end of a long page", strings.Repeat("a{b=\"c\"} 1\n", 20000) + "b{" + long + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := prommerge.New(quiet(prommerge.Options{Async: true}))
			defer m.Close()
			for range 2 {
				page, _, rs := gather(t, m, acceptText, opened("good", textType, []byte("g{b=\"c\"} 1\n")), opened("bad", textType, []byte("early 1\n"+tt.in)))
				p, err := checkPage(page, false)
				if err != nil {
					t.Fatal(err)
				}
				if rs[1].Up || rs[1].Reason != "syntax" {
					t.Errorf("up %v, reason %q, err %v", rs[1].Up, rs[1].Reason, rs[1].Err)
				}
				if got := p.with("bad"); len(got) > 0 || len(p.with("good")) != 1 {
					t.Errorf("page holds %q of the bad target:\n%s", got, page)
				}
				for _, want := range []string{`prommerge_target_up{process_name="bad"} 0`, `prommerge_target_up{process_name="good"} 1`} {
					if !strings.Contains(page, want+"\n") {
						t.Errorf("no %s in\n%s", want, page)
					}
				}
			}
		})
	}
}

func TestABadOpenMetricsPageIsDroppedWhole(t *testing.T) {
	for _, tt := range []struct{ name, in, reason string }{
		{"no # EOF", "a 1\n", "truncated"},
		{"data after # EOF", "a 1\n# EOF\nb 1\n", "syntax"},
		{"# EOF twice", "# EOF\n# EOF\n", "syntax"},
		{"a blank line", "a 1\n\n# EOF\n", "syntax"},
		{"a comment", "# hello\n# EOF\n", "syntax"},
		{"two blanks", "a  1\n# EOF\n", "syntax"},
		{"a blank between labels", "a{b=\"c\", d=\"e\"} 1\n# EOF\n", "syntax"},
		{"no comma between labels", "a{b=\"c\"d=\"e\"} 1\n# EOF\n", "syntax"},
		{"a timestamp that is NaN", "a 1 NaN\n# EOF\n", "syntax"},
		{"a NUL in an exemplar", "a 1 # {b=\"\x00\"} 1\n# EOF\n", "syntax"},
		{"an exemplar without a value", "a 1 # {b=\"c\"}\n# EOF\n", "syntax"},
		{"a UNIT that is no suffix", "# UNIT a seconds\n# EOF\n", "syntax"},
		{"untyped, which is called unknown here", "# TYPE a untyped\n# EOF\n", "syntax"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			page, ct, rs := gather(t, prommerge.New(quiet(prommerge.Options{})), acceptOM,
				opened("good", omType, []byte("g{b=\"c\"} 1\n# EOF\n")), opened("bad", omType, []byte(tt.in)))
			if p, err := checkPage(page, true); err != nil || len(p.with("good")) != 1 || len(p.with("bad")) > 0 {
				t.Errorf("%v in\n%s", err, page)
			}
			if rs[1].Up || rs[1].Reason != tt.reason || !strings.HasPrefix(ct, "application/openmetrics-text; version=1.0.0") {
				t.Errorf("up %v, reason %q, err %v, %s", rs[1].Up, rs[1].Reason, rs[1].Err, ct)
			}
		})
	}
}

func TestFamiliesOfSeveralTargets(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  prommerge.Options
		a, b string
		want string
	}{
		{"metadata comes once, the first wins", prommerge.Options{}, "# HELP m one\n# TYPE m gauge\nm 1\n", "# HELP m two\n# TYPE m gauge\nm 2\n",
			"# HELP m one\n# TYPE m gauge\nm{process_name=\"a\"} 1\nm{process_name=\"b\"} 2\n"},
		{"a TYPE conflict loses no sample", prommerge.Options{}, "# TYPE m gauge\nm 1\n", "# TYPE m counter\nm 2\n",
			"# TYPE m gauge\nm{process_name=\"a\"} 1\nm{process_name=\"b\"} 2\n"},
		{"first-seen order", prommerge.Options{}, "z 1\na 1\n", "b 1\n", "z{process_name=\"a\"} 1\na{process_name=\"a\"} 1\nb{process_name=\"b\"} 1\n"},
		{"sorted", prommerge.Options{Sort: true}, "z 1\na 1\n", "b 1\n", "a{process_name=\"a\"} 1\nb{process_name=\"b\"} 1\nz{process_name=\"a\"} 1\n"},
		{"without metadata", prommerge.Options{OmitMeta: true}, "# HELP m x\n# TYPE m gauge\nm 1\n", "", "m{process_name=\"a\"} 1\n"},
		{"the child of another target's summary has no TYPE of its own", prommerge.Options{}, "# TYPE s_count counter\ns_count 1\n", "# TYPE s summary\ns_sum 2\ns_count 2\n",
			"# TYPE s summary\ns_count{process_name=\"a\"} 1\ns_sum{process_name=\"b\"} 2\ns_count{process_name=\"b\"} 2\n"},
		{"a target's label is kept", prommerge.Options{HonorLabels: prommerge.HonorKeep}, "m{process_name=\"x\",c=\"d\"} 1\n", "m 2\n", "m{process_name=\"x\",c=\"d\"} 1\nm{process_name=\"b\"} 2\n"},
		{"a target's label is overridden", prommerge.Options{HonorLabels: prommerge.HonorOverride}, "m{process_name=\"x\",c=\"d\"} 1\n", "m 2\n", "m{process_name=\"a\",c=\"d\"} 1\nm{process_name=\"b\"} 2\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := prommerge.New(quiet(tt.opt))
			for range 3 {
				page, _, _ := gather(t, m, acceptText, opened("a", textType, []byte(tt.a)), opened("b", textType, []byte(tt.b)))
				if diff := cmp.Diff(tt.want, ofTargets(page)); diff != "" {
					t.Fatal(diff)
				}
			}
		})
	}
}

func TestTheFirstMetadataOfAPageCountsWhateverCameBefore(t *testing.T) {
	m := prommerge.New(quiet(prommerge.Options{}))
	for _, known := range []string{"", "# HELP a one\n# TYPE a gauge\na 1\n", "# HELP a two\n# TYPE a counter\na 1\n"} {
		gather(t, m, acceptText, opened("x", textType, []byte(known)))
		for _, in := range []string{
			"# HELP a one\n# HELP a two\n# TYPE a gauge\n# TYPE a counter\na 1\n",
			"# HELP a one\n# TYPE a gauge\na 1\nb 1\n# HELP a two\n# TYPE a counter\n",
			"# HELP a one\n# TYPE a gauge\na 1\n# HELP a two\n# TYPE a counter\n",
		} {
			page, _, rs := gather(t, m, acceptText, opened("x", textType, []byte(in)))
			if !strings.Contains(page, "# HELP a one\n# TYPE a gauge\na{process_name=\"x\"} 1\n") || strings.Contains(page, "two") {
				t.Errorf("after %q: %v\n in %q\nout %s", known, rs[0].Err, in, ofTargets(page))
			}
		}
	}
}

func TestConflictsAreCounted(t *testing.T) {
	m := prommerge.New(quiet(prommerge.Options{}))
	a, b := opened("a", textType, []byte("# TYPE m gauge\nm 1\n")), opened("b", textType, []byte("# TYPE m counter\nm 2\n"))
	for i, want := range []string{"1", "2", "3"} {
		page, _, _ := gather(t, m, acceptText, a, b)
		if !strings.Contains(page, "\nprommerge_type_conflicts_total "+want+"\n") {
			t.Errorf("merge %d: no %s conflicts in\n%s", i, want, page)
		}
	}
}

func TestSeriesCalledLikeOursDoNotCollide(t *testing.T) {
	inner, _, _ := gather(t, prommerge.New(quiet(prommerge.Options{})), acceptText, opened("x", textType, []byte("m 1\n")))
	const reasons = "# TYPE prommerge_target_errors_total counter\nprommerge_target_errors_total{reason=\"syntax\"} 3\n"
	for _, tt := range []struct{ name, page, want string }{
		{"of another merger", inner, "prommerge_target_up{exported_process_name=x,process_name=x} 1"},
		{"that do not say which target they are about", "prommerge_target_up 0\n" + reasons, "prommerge_target_up{exported_process_name=x,process_name=x} 0"},
		{"that say it with an empty label", "prommerge_target_up{process_name=\"\"} 0\n" + reasons, "prommerge_target_up{exported_process_name=x,process_name=x} 0"},
		{"with the label that would tell them apart", "prommerge_target_up{exported_process_name=\"y\"} 0\n" + reasons,
			"prommerge_target_up{exported_exported_process_name=y,exported_process_name=x,process_name=x} 0"},
	} {
		for _, honor := range []prommerge.HonorLabels{prommerge.HonorRename, prommerge.HonorKeep, prommerge.HonorOverride} {
			for _, ct := range []string{textType, protoType} {
				t.Run(fmt.Sprint(tt.name, ", honor ", honor, ", ", ct), func(t *testing.T) {
					in := []byte(tt.page)
					if ct == protoType {
						in = asProto(in)
					}
					m := prommerge.New(quiet(prommerge.Options{HonorLabels: honor}))
					for range 3 { // it learns what pages look like
						page, _, rs := gather(t, m, acceptText, opened("x", ct, in), opened("bad", textType, []byte("{")))
						p, err := checkPage(page, false)
						if err != nil || !rs[0].Up {
							t.Fatalf("%v, %v in\n%s", err, rs[0].Err, page)
						}
						seen := map[string]bool{}
						for _, s := range p.samples {
							series := s[:strings.Index(s, "} ")+1]
							if seen[series] && series != "" {
								t.Errorf("%s twice in\n%s", series, page)
							}
							seen[series] = true
						}
						if !strings.Contains(strings.Join(p.samples, "\n"), tt.want) {
							t.Errorf("no %s in\n%s", tt.want, page)
						}
					}
				})
			}
		}
	}
}

func TestLabelsOfTheTargetAreEscaped(t *testing.T) {
	tg := opened("a\"b\\c\nd", textType, []byte("m 1\n"))
	tg.Labels = map[string]string{"zone": "x", "app.kubernetes.io/name": "y", "process_name": "ignored", "__name__": "ignored"}
	page, _, _ := gather(t, prommerge.New(quiet(prommerge.Options{})), acceptText, tg)
	want := `m{process_name="a\"b\\c\nd",app_kubernetes_io_name="y",zone="x"} 1` + "\n"
	if got := ofTargets(page); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEmptyOnFailureLeavesOnlyOwnSeries(t *testing.T) {
	page, _, _ := gather(t, prommerge.New(quiet(prommerge.Options{EmptyOnFailure: true})), acceptText,
		opened("good", textType, []byte("m 1\n")), opened("bad", textType, []byte("x\n")))
	if p, err := checkPage(page, false); err != nil || len(p.with("good")) > 0 || !strings.Contains(page, `prommerge_target_up{process_name="good"} 1`) {
		t.Errorf("%v in\n%s", err, page)
	}
}

func TestLongLinesPass(t *testing.T) {
	in := "m{b=\"" + strings.Repeat("x", 300<<10) + "\"} 1\nm{b=\"y\"} 2\n"
	page, _, rs := gather(t, prommerge.New(quiet(prommerge.Options{})), acceptText, opened("x", textType, []byte(in)))
	if want := strings.ReplaceAll(in, "m{", `m{process_name="x",`); rs[0].Err != nil || ofTargets(page) != want {
		t.Errorf("%v, page of %d bytes", rs[0].Err, len(page))
	}
}
