package prommerge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// after is opened with an answer that takes a while.
func after(d time.Duration, t prommerge.Target) prommerge.Target {
	open := t.Open
	t.Open = func(ctx context.Context, accept string) (io.ReadCloser, string, error) {
		time.Sleep(d)
		return open(ctx, accept)
	}
	return t
}

const ownText = `# HELP prommerge_merge_duration_seconds How long it took to ask all targets and merge their pages.
# TYPE prommerge_merge_duration_seconds gauge
prommerge_merge_duration_seconds 1.75
# HELP prommerge_target_body_bytes Size of the page of the target, decompressed.
# TYPE prommerge_target_body_bytes gauge
prommerge_target_body_bytes{process_name="good"} %d
prommerge_target_body_bytes{process_name="bad"} 5
# HELP prommerge_target_errors_total Merges without the target, by reason.
# TYPE prommerge_target_errors_total counter
prommerge_target_errors_total{process_name="bad",reason="syntax"} 2
# HELP prommerge_target_samples Samples in the page of the target.
# TYPE prommerge_target_samples gauge
prommerge_target_samples{process_name="good"} 3
prommerge_target_samples{process_name="bad"} 0
# HELP prommerge_target_scrape_duration_seconds How long the target took.
# TYPE prommerge_target_scrape_duration_seconds gauge
prommerge_target_scrape_duration_seconds{process_name="good"} 1.5
prommerge_target_scrape_duration_seconds{process_name="bad"} 0.25
# HELP prommerge_target_up Whether the target has its part in this page.
# TYPE prommerge_target_up gauge
prommerge_target_up{process_name="good"} 1
prommerge_target_up{process_name="bad"} 0
# HELP prommerge_type_conflicts_total TYPEs left out because another target had said otherwise.
# TYPE prommerge_type_conflicts_total counter
prommerge_type_conflicts_total 0
`

func TestOwnSeriesSayWhatEachTargetDid(t *testing.T) {
	const good = "m{a=\"1\"} 1\nm{a=\"2\"} 2\nn 3\n"
	for _, tt := range []struct {
		accept, contentType string
		good                []byte
	}{
		{acceptText, textType, []byte(good)},
		{acceptOM, omType, []byte(good + "# EOF\n")},
		{protoType, protoType, asProto([]byte("# TYPE m gauge\n# TYPE n gauge\n" + good))},
	} {
		t.Run(tt.contentType, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := prommerge.New(quiet(prommerge.Options{Sort: true}))
				ts := []prommerge.Target{after(1500*time.Millisecond, opened("good", tt.contentType, tt.good)),
					after(250*time.Millisecond, opened("bad", tt.contentType, []byte("\x04m{{\n")))}
				gather(t, m, tt.accept, ts...)
				page, _, rs := gather(t, m, tt.accept, ts...)
				var b strings.Builder
				for line := range strings.Lines(asText(t, tt.contentType, page)) {
					if strings.Contains(line, "prommerge_") {
						b.WriteString(line)
					}
				}
				if diff := cmp.Diff(fmt.Sprintf(ownText, len(tt.good)), b.String()); diff != "" {
					t.Error(diff)
				}
				if r := rs[0]; r.Name != "good" || !r.Up || r.Samples != 3 || r.Bytes != int64(len(tt.good)) || r.Duration != 1500*time.Millisecond {
					t.Errorf("result %+v", r)
				}
			})
		})
	}
}

// asText returns a page in the way in which text would say it: counters are called by their series.
func asText(t *testing.T, contentType, page string) string {
	t.Helper()
	switch contentType {
	case omType:
		return strings.NewReplacer("prommerge_target_errors ", "prommerge_target_errors_total ", "prommerge_type_conflicts ", "prommerge_type_conflicts_total ").Replace(page)
	case protoType:
		fams, err := decodeProto([]byte(page))
		if err != nil {
			t.Fatal(err)
		}
		return encodeText(fams)
	}
	return page
}

// closing notes when it is closed.
type closing struct {
	io.Reader
	closed int
}

func (c *closing) Close() error {
	c.closed++
	return nil
}

func TestEveryBodyIsClosed(t *testing.T) {
	good := "g 1\n"
	for _, tt := range []struct {
		name, contentType string
		header            http.Header
		status            int
		body              io.Reader
	}{
		{"a good page", textType, nil, 200, strings.NewReader(good)},
		{"a page that cannot be converted", omType, nil, 200, strings.NewReader("a 1 -5.5\n# EOF\n")},
		{"a bad page", textType, nil, 200, strings.NewReader("{\n")},
		{"bad protobuf", protoType, nil, 200, strings.NewReader("\x05\x01")},
		{"a page that is too large", textType, nil, 200, strings.NewReader(strings.Repeat(good, 1000))},
		{"a Content-Type that is none", "text/html", nil, 200, strings.NewReader(good)},
		{"a body that breaks", textType, nil, 200, io.MultiReader(strings.NewReader(good), iotest.ErrReader(errors.New("broken")))},
		{"status 500", textType, nil, 500, strings.NewReader(good)},
		{"an unknown encoding", textType, http.Header{"Content-Encoding": {"br"}}, 200, strings.NewReader(good)},
		{"gzip that is none", textType, http.Header{"Content-Encoding": {"gzip"}}, 200, strings.NewReader(good)},
		{"gzip that is cut", textType, http.Header{"Content-Encoding": {"gzip"}}, 200, strings.NewReader(gzipped([]byte(good))[:15])},
	} {
		body := &closing{Reader: tt.body}
		var target prommerge.Target
		if tt.status == 200 && tt.header == nil {
			target = prommerge.Target{Name: "opened", Open: func(context.Context, string) (io.ReadCloser, string, error) { return body, tt.contentType, nil }}
			t.Run(tt.name+", opened", func(t *testing.T) { closesOnce(t, target, body) })
			if r, ok := tt.body.(io.Seeker); ok {
				_, _ = r.Seek(0, io.SeekStart)
			}
			body = &closing{Reader: tt.body}
		}
		client := &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			h := http.Header{"Content-Type": {tt.contentType}}
			for k, v := range tt.header {
				h[k] = v
			}
			return &http.Response{StatusCode: tt.status, Header: h, Body: body, ContentLength: -1, TransferEncoding: []string{"chunked"}, Request: r}, nil
		})}
		target = prommerge.Target{Name: "asked", URL: "http://far.example/", Client: client}
		t.Run(tt.name+", over HTTP", func(t *testing.T) { closesOnce(t, target, body) })
	}
}

func closesOnce(t *testing.T, target prommerge.Target, body *closing) {
	t.Helper()
	m := prommerge.New(quiet(prommerge.Options{Limits: prommerge.Limits{TargetBytes: 1000}}))
	defer m.Close()
	gather(t, m, acceptText, target)
	if body.closed != 1 {
		t.Errorf("closed %d times", body.closed)
	}
}

func TestRedirectsToOtherHostsAreRefusedWhateverTheClient(t *testing.T) {
	other := upstream(t, page("secret 1\n"))
	away := upstream(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, http.StatusFound) })
	moved := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/moved" {
			http.Redirect(w, r, "/moved", http.StatusMovedPermanently)
			return
		}
		page("good 1\n")(w, r)
	})
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, tt := range []struct {
		name        string
		ours, their *http.Client
	}{{"its own", nil, nil}, {"that of the options", client, nil}, {"that of the target", nil, client}} {
		t.Run(tt.name, func(t *testing.T) {
			m := prommerge.New(quiet(prommerge.Options{Client: tt.ours}))
			defer m.Close()
			out, _, rs := gather(t, m, acceptText, prommerge.Target{Name: "away", URL: away, Client: tt.their}, prommerge.Target{Name: "moved", URL: moved, Client: tt.their})
			if rs[0].Up || rs[0].Reason != "status" || strings.Contains(out, "secret") || !rs[1].Up {
				t.Errorf("%+v\n%s", rs, out)
			}
		})
	}
}
