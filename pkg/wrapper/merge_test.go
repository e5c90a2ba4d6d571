package wrapper

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/spec"
	"github.com/process-wrapper/process-wrapper/pkg/status"
)

func TestOnlyPagesOfReadyProcessesAreMergedAndCompressedWhenAsked(t *testing.T) {
	asked := map[string]int{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked[r.URL.Path]++
		w.Header().Set("Content-Type", textFormat)
		_, _ = fmt.Fprintf(w, "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total{path=%q} 3\n", r.URL.Path)
	}))
	defer srv.Close()
	p := &pod{board: status.NewBoard(), log: slog.New(slog.DiscardHandler)}
	p.merger = newMerger(&flags{PrommergeSort: true}, p.log)
	defer p.merger.Close()
	var all []*spec.Process
	for name, st := range map[string]status.State{
		"web":    {Phase: status.Ready, PID: 7},
		"slow":   {Phase: status.Running, PID: 8},
		"job":    {Phase: status.Completed},
		"silent": {Phase: status.Ready, PID: 9},
	} {
		st.Name = name
		p.board.Put(st)
		target := &spec.Process{Name: name, Labels: map[string]string{"team": "a"}}
		if name != "silent" {
			target.PromTarget = srv.URL + "/" + name
		}
		all = append(all, target)
	}
	pages := pagesOf(all, func(*spec.Process) bool { return false })
	p.pages.Store(&pages)
	rec := httptest.NewRecorder()
	p.merger.Handler(p.targets).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/prommerge", nil))
	body, err := io.ReadAll(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	page := string(body)
	if rec.Code != 200 || len(asked) != 1 || asked["/web"] != 1 || strings.Count(page, "\nrequests_total{") != 1 {
		t.Errorf("%d, asked %v\n%s", rec.Code, asked, page)
	}
	for _, want := range []string{`path="/web"`, `process_name="web"`, `team="a"`, `prommerge_target_up{process_name="web"} 1`} {
		if !strings.Contains(page, want) {
			t.Errorf("%s is missing in\n%s", want, page)
		}
	}
	rec = httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, "/prommerge", nil)
	req.Header.Set("Accept-Encoding", "gzip")
	p.merger.Handler(p.targets).ServeHTTP(rec, req)
	if got := rec.Header().Get("Content-Encoding"); got != "gzip" || rec.Body.Len() >= len(page) {
		t.Errorf("%d bytes of Content-Encoding %q, want gzip and less than %d", rec.Body.Len(), got, len(page))
	}
}

func TestEachFlagOfMergingHasItsEffect(t *testing.T) {
	both := make(chan struct{}, 2)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Error(w, "no", http.StatusInternalServerError)
			return
		case "/meet": // answers once two requests are there at the same time
			both <- struct{}{}
			for len(both) < 2 {
				select {
				case <-r.Context().Done():
					return
				default:
					runtime.Gosched()
				}
			}
		}
		w.Header().Set("Content-Type", textFormat)
		_, _ = io.WriteString(w, "# TYPE zz gauge\nzz 1\n# TYPE aa gauge\naa 1\n")
	}))
	defer srv.Close()
	for _, tt := range []struct {
		name  string
		paths []string
		set   func(*flags)
		shown func(page, log string) bool // whether the effect is there
	}{
		{"-prommerge-sort", []string{"/"}, func(f *flags) { f.PrommergeSort = true },
			func(page, _ string) bool { return strings.Index(page, "aa{") < strings.Index(page, "zz{") }},
		{"-prommerge-omit-meta", []string{"/"}, func(f *flags) { f.PrommergeOmitMeta = true },
			func(page, _ string) bool { return !strings.Contains(page, "# TYPE zz") }},
		{"-prommerge-empty-on-failure", []string{"/", "/away"}, func(f *flags) { f.PrommergeEmptyOnFailure = true },
			func(page, _ string) bool { return !strings.Contains(page, "zz{") }},
		{"-prommerge-supress-errors", []string{"/away"}, func(f *flags) { f.PrommergeSupressErrors = true },
			func(_, log string) bool { return log == "" }},
		{"-prommerge-async", []string{"/meet", "/meet"}, func(f *flags) { f.PrommergeAsync = true },
			func(page, _ string) bool { return strings.Count(page, "zz{") == 2 }},
	} {
		for _, on := range []bool{true, false} {
			t.Run(fmt.Sprint(tt.name, "=", on), func(t *testing.T) {
				for len(both) > 0 {
					<-both
				}
				var logged bytes.Buffer
				var f flags
				if on {
					tt.set(&f)
				}
				m := newMerger(&f, slog.New(slog.NewTextHandler(&logged, nil)))
				defer m.Close()
				var targets []page
				for i, path := range tt.paths {
					timeout := 30 * time.Second
					if path == "/meet" && !on { // in vain
						timeout = 300 * time.Millisecond
					}
					targets = append(targets, page{Name: fmt.Sprint("p", i), URL: srv.URL + path, Timeout: timeout})
				}
				rec := httptest.NewRecorder()
				m.Handler(func() []page { return targets }).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/prommerge", nil))
				if got := tt.shown(rec.Body.String(), logged.String()); got != on {
					t.Errorf("the effect is there: %v\n%s\n%s", got, rec.Body, &logged)
				}
			})
		}
	}
}
