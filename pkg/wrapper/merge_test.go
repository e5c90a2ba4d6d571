package wrapper

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
