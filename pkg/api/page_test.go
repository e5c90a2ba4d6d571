package api

import (
	"context"
	"errors"
	"html"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// pageOf asks as a browser does.
func pageOf(h http.Handler) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	h.ServeHTTP(w, r)
	return w
}

func TestPageShowsEveryProcessWithItsPhaseInWords(t *testing.T) {
	t.Parallel()
	board := zoo()
	page := pageOf(Handler(board, Config{})).Body.String()
	snap, _ := board.Load()
	for st := range snap.All {
		if !strings.Contains(page, `<th scope="row">`+html.EscapeString(st.Name)+"</th>") || !strings.Contains(page, ">"+string(st.Phase)+"</span>") {
			t.Errorf("%s, %s is missing", st.Name, st.Phase)
		}
	}
	if strings.Contains(page, "<form") || strings.Contains(page, "method=") {
		t.Error("the page can change something")
	}
}

func TestWhatIsBeingStoppedSaysWhenItIsKilled(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, tt := range map[string]struct {
		st   status.State
		pod  status.Pod
		want time.Time
		page string
	}{
		"it has its own time":              {status.State{KillAt: now.Add(90 * time.Second)}, status.Pod{}, now.Add(90 * time.Second), "SIGKILL in 1 min 30 s"},
		"the pod has less":                 {status.State{KillAt: now.Add(time.Hour)}, status.Pod{Draining: true, Deadline: now.Add(7 * time.Second)}, now.Add(7 * time.Second), "SIGKILL in 7 s"},
		"the pod has more":                 {status.State{KillAt: now.Add(3 * time.Second)}, status.Pod{Draining: true, Deadline: now.Add(time.Hour)}, now.Add(3 * time.Second), "SIGKILL in 3 s"},
		"nobody says when the pod is gone": {status.State{KillAt: now.Add(3 * time.Second)}, status.Pod{Preempted: true}, now.Add(3 * time.Second), "SIGKILL in 3 s"},
		"the kernel does not let it go":    {status.State{KillAt: now.Add(-2 * time.Minute)}, status.Pod{}, now.Add(-2 * time.Minute), "SIGKILL was sent 2 min 00 s ago"},
	} {
		board := status.NewBoard()
		tt.st.Name, tt.st.Phase, tt.st.PID = "web", status.Stopping, 42
		board.Put(tt.st)
		board.UpdatePod(func(p *status.Pod) { *p = tt.pod })
		h := newHandler(board, Config{})
		if got := h.describe(tt.st).KillAt; got == nil || !got.Equal(tt.want) {
			t.Errorf("%s: killAt %v, want %v", name, got, tt.want)
		}
		if got := h.story(tt.st, now); got != tt.page {
			t.Errorf("%s: the page says %q, want %q", name, got, tt.page)
		}
	}
}

func TestPageEscapesWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	const evil = `<script>alert("x")</script>`
	board := status.NewBoard()
	events := new(Events)
	st := status.State{Name: "web", Phase: status.Backoff, Cause: errors.New(evil), Detail: evil + "\nx"}
	board.Put(st)
	board.PutCheck(status.Check{Process: "web", Probe: evil, Result: status.Fail, Err: errors.New(evil)})
	events.Observe(status.State{Name: "web"}, st)
	events.ObserveCheck(status.Check{Process: "web", Probe: "p", Result: status.Fail, Err: errors.New(evil)})
	board.UpdatePod(func(p *status.Pod) { p.Draining, p.Reason = true, evil })
	h := newHandler(board, Config{Events: events})
	w := pageOf(h.mux())
	if n := strings.Count(w.Body.String(), "<script>"); n != 1 {
		t.Errorf("%d scripts, want our own alone:\n%s", n, w.Body)
	}
	if middle := h.middle(time.Now()); strings.Contains(middle, "\n") {
		t.Errorf("a newline would end the event: %q", middle)
	}
	policy := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'sha256-", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %s: %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("policy %s", policy)
	}
}

func TestRootIsAListForPrograms(t *testing.T) {
	t.Parallel()
	code, body := get(t, Handler(zoo(), Config{}), "/")
	if code != 200 || !strings.HasPrefix(body, "process-wrapper\n") {
		t.Errorf("%d %q", code, body)
	}
}

func TestSparklineHasAGapWhereNothingRan(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var points []Point
	for i := range 60 {
		if i < 20 || i > 30 {
			points = append(points, Point{Time: now.Add(time.Duration(i-60) * 10 * time.Second), CPUPercent: float64(i), Memory: 1 << 20})
		}
	}
	h := Handler(zoo(), Config{History: func(string) []Point { return points }})
	page := pageOf(h).Body.String()
	path, _, _ := strings.Cut(page[strings.Index(page, `<path d="`):], `"/>`)
	if strings.Count(path, "M") != 2 || strings.Count(path, "L") != len(points)-2 || !strings.Contains(page, "at most 59.0 %") {
		t.Errorf("path %s", path)
	}
}

// streamed collects what a stream sends.
type streamed struct {
	*httptest.ResponseRecorder
	sent chan string
}

func (s *streamed) Write(b []byte) (int, error) {
	s.sent <- string(b)
	return len(b), nil
}

func (s *streamed) WriteString(text string) (int, error) { return s.Write([]byte(text)) }

func TestStreamSendsTheMiddleWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := status.NewBoard()
		board.Put(status.State{Name: "web", Phase: status.Running})
		h := Handler(board, Config{})
		ctx, cancel := context.WithCancel(t.Context())
		w := &streamed{httptest.NewRecorder(), make(chan string, 100)}
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/stream", nil).WithContext(ctx))
		}()
		first := <-w.sent
		board.Put(status.State{Name: "web", Phase: status.Ready})
		began := time.Now()
		second := <-w.sent
		if !strings.HasPrefix(first, "data: <p") || !strings.Contains(first, ">running<") || !strings.Contains(second, ">ready<") || !strings.HasSuffix(second, "\n\n") {
			t.Errorf("first %q, second %q", first, second)
		}
		if took := time.Since(began); took > streamEvery {
			t.Errorf("it took %v", took)
		}
		cancel()
		<-done
	})
}

func TestNoMorePagesAreOpenThanMayBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(status.NewBoard(), Config{})
		for range maxViewers {
			h.viewers <- struct{}{}
		}
		if code, _ := get(t, h.mux(), "/stream"); code != http.StatusServiceUnavailable {
			t.Errorf("code %d", code)
		}
	})
}

func TestEventsKeepTheLatest(t *testing.T) {
	t.Parallel()
	var e Events
	for i := range 2*maxEvents + 10 {
		phases := [2]status.Phase{status.Running, status.Ready}
		e.Observe(status.State{Name: "a", Phase: phases[i%2]}, status.State{Name: "a", Phase: phases[(i+1)%2]})
	}
	all, changed := e.Since(0)
	if len(all) != maxEvents || all[len(all)-1].Number != 2*maxEvents+10 || all[0].Number != all[len(all)-1].Number-maxEvents+1 {
		t.Errorf("%d events, %d to %d", len(all), all[0].Number, all[len(all)-1].Number)
	}
	if rest, _ := e.Since(all[len(all)-1].Number - 1); len(rest) != 1 {
		t.Errorf("%d are after the last but one", len(rest))
	}
	c := status.Check{Process: "a", Probe: "tcp", Result: status.Fail, Err: errors.New("refused")}
	e.ObserveCheck(c)
	<-changed
	e.ObserveCheck(c) // no news
	if last, _ := e.Since(2*maxEvents + 10); len(last) != 1 || last[0].Probe != "tcp" {
		t.Errorf("%+v", last)
	}
	e.Forget("a")
	e.ObserveCheck(c)
	if last, _ := e.Since(2*maxEvents + 10); len(last) != 2 {
		t.Errorf("%+v", last)
	}
}
