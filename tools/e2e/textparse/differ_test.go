package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// Prommerge takes a page if, and only if, Prometheus takes it, and what it makes of it says the same to Prometheus.
func TestPrommergeReadsPagesAsPrometheusDoes(t *testing.T) {
	for _, tt := range []struct{ name, mime string }{{"text", "text/plain"}, {"OpenMetrics", "application/openmetrics-text"}} {
		t.Run(tt.name, func(t *testing.T) {
			m := prommerge.New(prommerge.Options{Sort: true, SuppressErrors: true})
			taken := 0
			for seed := range uint64(20_000) {
				g := generator{rand.New(rand.NewPCG(seed, 1))}
				if compare(t, m, tt.mime+"; version=1.0.0; escaping=allow-utf-8", g.page(tt.mime != "text/plain")) {
					taken++
				}
			}
			t.Logf("%d pages were taken", taken)
			if taken < 1000 {
				t.Errorf("only %d pages were taken: the test compares too little", taken)
			}
		})
	}
}

// strict are the reasons for which prommerge refuses a page that Prometheus takes.
var strict = []string{"a label twice", "a label called __name__", "a metric name that is empty", "a bad quoted name", "a UNIT that is no suffix"}

// compare merges one page, and returns whether it was taken.
func compare(t *testing.T, m *prommerge.Merger, contentType, in string) bool {
	t.Helper()
	open := func(context.Context, string) (io.ReadCloser, string, error) {
		return io.NopCloser(strings.NewReader(in)), contentType, nil
	}
	p := m.Gather(t.Context(), contentType, []prommerge.Target{{Name: "n", Open: open}})
	defer p.Close()
	var out bytes.Buffer
	if _, err := p.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	want, wantErr := values([]byte(in), contentType, pairs{labels.Label{Name: prommerge.LabelName, Value: "n"}})
	got, gotErr := values(out.Bytes(), p.ContentType(), nil)
	r := p.Results()[0]
	switch {
	case gotErr != nil:
		t.Errorf("the merged page is broken: %v\n in %q\nout %q", gotErr, in, &out)
	case wantErr != nil && r.Up:
		t.Errorf("taken, but Prometheus says: %v\n in %q", wantErr, in)
	case wantErr == nil && !r.Up && !slices.ContainsFunc(strict, func(s string) bool { return strings.Contains(r.Err.Error(), s) }):
		t.Errorf("refused, but Prometheus takes it: %v\n in %q", r.Err, in)
	case r.Up && !slices.Equal(got, want):
		t.Errorf("the pages say different things\n in %q\nout %q\ngot  %q\nwant %q", in, &out, got, want)
	}
	return r.Up
}

var (
	own   = regexp.MustCompile(`\{__name__="prommerge_`)
	bound = regexp.MustCompile(`\b(le|quantile)="[^"]*"`)
)

// values returns the samples and exemplars of a page. Bounds are spelled in one way, since what Prometheus does to
// them depends on the TYPE that it saw last, on families apart from it too.
func values(page []byte, contentType string, add pairs) (lines []string, err error) {
	var b bytes.Buffer
	if err := entries(&b, page, contentType, add); err != nil {
		return nil, err
	}
	for line := range strings.Lines(b.String()) {
		if own.MatchString(line) || !strings.HasPrefix(line, "SAMPLE") && !strings.HasPrefix(line, "EXEMPLAR") {
			continue
		}
		lines = append(lines, bound.ReplaceAllStringFunc(line, func(s string) string {
			name, value, _ := strings.Cut(s, "=")
			v, err := strconv.ParseFloat(strings.Trim(value, `"`), 64)
			if err != nil {
				return s
			}
			return name + "=" + float(v)
		}))
	}
	slices.Sort(lines)
	return lines, nil
}
