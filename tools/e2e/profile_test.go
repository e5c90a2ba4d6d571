package e2e

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// profile is what a push to a Pyroscope server brought.
type profile struct {
	name string // of the program, with its labels
	text string // the profile, not compressed
	err  error
}

// pyroscope answers pushes, and hands them on.
func pyroscope(t *testing.T) (url string, pushes <-chan profile) {
	got := make(chan profile, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		p := profile{name: r.URL.Query().Get("name")}
		defer func() {
			select {
			case got <- p:
			default: // nobody reads that many
			}
		}()
		var file io.Reader
		if file, _, p.err = r.FormFile("profile"); p.err != nil {
			return
		}
		if file, p.err = gzip.NewReader(file); p.err != nil {
			return
		}
		var text bytes.Buffer
		_, p.err = io.Copy(&text, io.LimitReader(file, 16<<20))
		p.text = text.String()
	}))
	t.Cleanup(srv.Close)
	return srv.URL, got
}

func TestProfilesArePushedToPyroscope(t *testing.T) {
	t.Parallel()
	url, pushes := pyroscope(t)
	w := start(t, options{config: script("web", forever), args: []string{"-pyroscope-url", url}, env: []string{"POD_NAME=web-0"}})
	late := time.After(15*time.Second + patience)
	for seen := false; !seen; {
		select {
		case p := <-pushes:
			if p.err != nil || p.name != "process-wrapper{pod=web-0}" {
				t.Fatalf("%q: %v", p.name, p.err)
			}
			seen = strings.Contains(p.text, "supervisor.(*run).serve") // a goroutine that there always is
		case <-late:
			t.Fatalf("no profile of its goroutines came\n%s", w.stderr)
		}
	}
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}
