package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

func TestEachFlagHasItsEffect(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, "# TYPE m gauge\nm{process_name=\"its\"} 1\n")
	}))
	t.Cleanup(s.Close)
	for _, tt := range []struct {
		name  string
		set   func(*flags)
		want  string
		never string
	}{
		{"none", func(*flags) {}, "# TYPE m gauge\n", `reason="too_large"`},
		{"-omit-meta", func(f *flags) { f.OmitMeta = true }, "\nm{", "# TYPE m gauge"},
		{"-empty-on-failure", func(f *flags) { f.EmptyOnFailure = true }, `prommerge_target_up{process_name="away"} 0`, "\nm{"},
		{"-honor-labels rename", func(f *flags) { f.HonorLabels = "rename" }, `exported_process_name="its"`, `{process_name="its"`},
		{"-honor-labels keep", func(f *flags) { f.HonorLabels = "keep" }, `m{process_name="its"} 1`, "exported_"},
		{"-honor-labels override", func(f *flags) { f.HonorLabels = "override" }, `m{process_name="good"} 1`, `"its"`},
		{"-max-target-bytes", func(f *flags) { f.MaxTargetBytes = 8 }, `{process_name="good",reason="too_large"} 1`, "\nm{"},
		{"-max-total-bytes", func(f *flags) { f.MaxTotalBytes = 8 }, `prommerge_target_up{process_name="good"} 0`, "\nm{"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := flags{HonorLabels: "rename", SuppressErrors: true}
			tt.set(&f)
			m := prommerge.New(f.options(quiet()))
			defer m.Close()
			p := m.Gather(context.Background(), "", []prommerge.Target{{Name: "good", URL: s.URL}, {Name: "away", URL: s.URL + "/away"}})
			defer p.Close()
			var b strings.Builder
			if _, err := p.WriteTo(&b); err != nil {
				t.Fatal(err)
			}
			if page := "\n" + b.String(); !strings.Contains(page, tt.want) || strings.Contains(page, tt.never) {
				t.Errorf("want %s and not %s in\n%s", tt.want, tt.never, page)
			}
		})
	}
}

func TestLimitsOfTheCommandLineReachTheMerger(t *testing.T) {
	got := (&flags{Concurrency: 3, MaxMerges: 5, MaxTargetBytes: 7, MaxTotalBytes: 9}).options(quiet()).Limits
	if want := (prommerge.Limits{Concurrency: 3, Merges: 5, TargetBytes: 7, TotalBytes: 9}); got != want {
		t.Errorf("limits %+v, want %+v", got, want)
	}
}
