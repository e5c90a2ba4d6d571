package preempt

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestDrainingIsTriedThreeTimesAtMost(t *testing.T) {
	hang := make(chan struct{})
	for name, tt := range map[string]struct {
		answers []int // 0: none within the time
		want    string
		tries   int
	}{
		"at once":              {[]int{200}, "", 1},
		"at the third try":     {[]int{503, 500, 200}, "", 3},
		"never":                {[]int{503, 503, 503, 200}, `503 Service Unavailable: "no"`, 3},
		"not this way":         {[]int{400, 200}, `400 Bad Request: "no"`, 1},
		"not there":            {[]int{404, 200}, `404 Not Found: "no"`, 1},
		"after a slow one":     {[]int{0, 200}, "", 2},
		"no answer that is OK": {[]int{204, 200}, "204 No Content", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tries := make(chan struct{}, 9)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost || r.URL.RequestURI() != "/x?a=b&c" || r.ContentLength != 0 {
					t.Errorf("%s %s, %d bytes", r.Method, r.URL, r.ContentLength)
				}
				code := tt.answers[len(tries)]
				tries <- struct{}{}
				if code == 0 {
					select {
					case <-r.Context().Done():
					case <-hang:
					}
					return
				}
				w.WriteHeader(code)
				if code != 204 {
					_, _ = io.WriteString(w, "no")
				}
			}))
			defer srv.Close()
			e, err := NewEnvoy(srv.URL + "/x?a=b&c")
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			err = e.Drain(t.Context())
			if (err == nil) != (tt.want == "") || !strings.Contains(errorText(err), tt.want) || len(tries) != tt.tries {
				t.Errorf("%v after %d tries", err, len(tries))
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestNoEnvoyIsSaidToBeNone(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	url := srv.URL
	srv.Close()
	e, err := NewEnvoy(url)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Drain(t.Context()); !errors.Is(err, ErrNoEnvoy) {
		t.Error(err)
	}
}

func TestADrainEndsWithItsContext(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer srv.Close()
	e, err := NewEnvoy(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := e.Drain(ctx); err == nil || time.Since(began) > 900*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func TestWhichURLsOfEnvoyAreAbrupt(t *testing.T) {
	for url, want := range map[string]bool{
		"http://localhost:15000/drain_listeners":                       true,
		"http://localhost:15000/drain_listeners?graceful":              true, // outbound too
		"http://localhost:15000/drain_listeners?inboundonly":           true, // at once
		"http://localhost:15000/drain_listeners?inboundonly&graceful":  false,
		"http://localhost:15000/drain_listeners?graceful&inboundonly&": false,
		"http://localhost:15020/drain":                                 false, // pilot-agent knows better
	} {
		e, err := NewEnvoy(url)
		if err != nil {
			t.Fatal(err)
		}
		if e.Abrupt() != want {
			t.Errorf("%s: %v", url, e.Abrupt())
		}
	}
	if _, err := NewEnvoy("localhost:15000"); err == nil || !strings.Contains(err.Error(), "ENVOY_DRAIN_URL") {
		t.Error(err)
	}
}
