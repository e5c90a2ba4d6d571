package compress_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
	"github.com/process-wrapper/process-wrapper/pkg/prommerge/compress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var encodings = []prommerge.Encoding{compress.Zstd(), compress.Gzip()}

// page is a page that is longer than the window of zstd.
func page() string {
	var b strings.Builder
	b.WriteString("# HELP requests_total Requests.\n# TYPE requests_total counter\n")
	for i := range 6_000 {
		fmt.Fprintf(&b, "requests_total{path=\"/item/%d\",code=\"200\"} %d\n", i*7919%6_000, i*i)
	}
	return b.String()
}

// decode undoes an encoding, by its name.
func decode(t *testing.T, encoding string, body []byte) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	var err error
	switch encoding {
	case "":
	case "gzip":
		r, err = gzip.NewReader(r)
	case "zstd":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(r); err == nil {
			defer z.Close()
			r = z
		}
	default:
		t.Fatalf("encoding %q", encoding)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestAnAnswerIsCompressedAsTheClientLikesIt(t *testing.T) {
	text := page()
	m := prommerge.New(prommerge.Options{Encodings: encodings})
	defer m.Close()
	h := m.Handler(func() []prommerge.Target {
		return []prommerge.Target{{Name: "a", Labels: map[string]string{"honest": "yes"}, Open: func(context.Context, string) (io.ReadCloser, string, error) {
			return io.NopCloser(strings.NewReader(text)), "text/plain", nil
		}}}
	})
	for accept, want := range map[string]string{
		"":                           "",
		"identity":                   "",
		"br":                         "",
		"gzip":                       "gzip",
		"zstd":                       "zstd",
		"gzip, zstd":                 "zstd",
		"zstd;q=0.5, gzip":           "gzip",
		"zstd;q=0,gzip;q=0.1":        "gzip",
		"gzip;q=0":                   "",
		"gzip;q=nonsense, zstd;q=-1": "",
	} {
		t.Run("accept "+accept, func(t *testing.T) {
			rec := httptest.NewRecorder()
			req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			req.Header.Set("Accept-Encoding", accept)
			h.ServeHTTP(rec, req)
			if got := rec.Header().Get("Content-Encoding"); got != want {
				t.Fatalf("Content-Encoding %q, want %q", got, want)
			}
			if want != "" && rec.Body.Len() > len(text)/2 {
				t.Errorf("%d bytes for a page of %d", rec.Body.Len(), len(text))
			}
			got := decode(t, want, rec.Body.Bytes())
			if n := strings.Count(got, "\nrequests_total{"); n != 6_000 {
				t.Errorf("%d series", n)
			}
		})
	}
}

func TestEncodersAreUsedAgainSideBySide(t *testing.T) {
	text := page()
	for _, e := range encodings {
		t.Run(e.Name, func(t *testing.T) {
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					want := strings.Repeat(fmt.Sprintf("# page %d\n", i), 1+i) + text[:len(text)/(1+i)]
					for range 3 {
						var b bytes.Buffer
						z := e.New(&b)
						if _, err := io.Copy(z, strings.NewReader(want)); err != nil {
							t.Error(err)
						}
						if err := z.Close(); err != nil {
							t.Error(err)
						}
						if decode(t, e.Name, b.Bytes()) != want {
							t.Errorf("page %d came out otherwise", i)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// full is a writer that fails, as a connection that is gone.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestAnEncoderWhoseClientLeftIsGoodForTheNext(t *testing.T) {
	text := page()
	for _, e := range encodings {
		t.Run(e.Name, func(t *testing.T) {
			z := e.New(full{})
			_, werr := io.WriteString(z, text)
			if cerr := z.Close(); werr == nil && cerr == nil {
				t.Error("no error from a connection that is gone")
			}
			var b bytes.Buffer
			z = e.New(&b)
			if _, err := io.WriteString(z, text); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			if decode(t, e.Name, b.Bytes()) != text {
				t.Error("the next page came out otherwise")
			}
		})
	}
}
