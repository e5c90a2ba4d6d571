package grpc

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers gRPC calls over HTTP/2 without TLS.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var plain http.Protocols
	plain.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, Protocols: &plain}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return l.Addr().String()
}

// say answers with a message in hex and a status in the trailer.
func say(message, status, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		body, err := hex.DecodeString(strings.ReplaceAll(message, " ", ""))
		if err != nil {
			panic(err)
		}
		_, _ = w.Write(body)
		w.Header().Set("Grpc-Status", status)
		w.Header().Set("Grpc-Message", text)
	}
}

func check(t *testing.T, c Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return Health(c).Check(ctx)
}

func TestVerdicts(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string // "": passes
	}{
		"serving passes":                          {say("00 00000002 0801", "0", ""), ""},
		"serving after an unknown field passes":   {say("00 00000006 12026869 0801", "0", ""), ""},
		"the last status counts":                  {say("00 00000004 0802 0801", "0", ""), ""},
		"not serving fails":                       {say("00 00000002 0802", "0", ""), "it says NOT_SERVING"},
		"no status is unknown":                    {say("00 00000000", "0", ""), "it says UNKNOWN"},
		"a status that nobody knows fails":        {say("00 00000003 08c801", "0", ""), "it says status 200"},
		"a message that is cut fails":             {say("00 00000002 08", "0", ""), "no HealthCheckResponse"},
		"no message fails":                        {say("", "0", ""), "no HealthCheckResponse"},
		"a length beyond its end fails":           {say("00 00000003 12ff01", "0", ""), "no HealthCheckResponse"},
		"a compressed message fails":              {say("01 00000002 0801", "0", ""), "compressed"},
		"an unknown service fails":                {say("", "5", "unknown service"), "does not know the service"},
		"no health service fails":                 {say("", "12", ""), "does not implement grpc.health.v1.Health"},
		"another error says what the server says": {say("", "14", "not%20now"), "grpc-status 14: not now"},
		"no gRPC fails":                           {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, "HTTP status 404"},
		"no grpc-status fails":                    {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, "no grpc-status"},
		"an answer without end is cut": {func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, "no grpc-status"},
	} {
		t.Run(name, func(t *testing.T) {
			err := check(t, Config{Addr: serve(t, c.answer)})
			if c.want == "" && err != nil {
				t.Fatalf("failed: %v", err)
			}
			if c.want != "" && (err == nil || probe.Passed(err) || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestRequestIsThatOfTheProtocol(t *testing.T) {
	got := make(chan string, 1)
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- strings.Join([]string{
			r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("Te"), r.Header.Get("User-Agent"), hex.EncodeToString(body),
		}, " ")
		if timeout := r.Header.Get("Grpc-Timeout"); len(timeout) < 2 || len(timeout) > 9 || !strings.HasSuffix(timeout, "m") {
			t.Errorf("grpc-timeout %q", timeout)
		}
		say("00 00000002 0801", "0", "")(w, r)
	})
	if err := check(t, Config{Addr: addr, Service: "db", Version: "1.2"}); err != nil {
		t.Fatal(err)
	}
	const want = "POST /grpc.health.v1.Health/Check application/grpc trailers process-wrapper-probe/1.2 00000000040a026462"
	if g := <-got; g != want {
		t.Errorf("got  %s\nwant %s", g, want)
	}
}

func TestEachCheckHasAConnectionOfItsOwn(t *testing.T) {
	from := make(chan string, 2)
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		from <- r.RemoteAddr
		say("00 00000002 0801", "0", "")(w, r)
	})
	p := Health(Config{Addr: addr})
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := p.Check(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	if a, b := <-from, <-from; a == b {
		t.Errorf("both from %s", a)
	}
}

func TestServersThatDoNotAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = Health(Config{Addr: l.Addr().String(), Service: "x"}).Check(ctx)
	if err == nil || !strings.Contains(err.Error(), `(service "x"): timed out after`) || errors.Is(err, probe.ErrInconclusive) {
		t.Errorf("a server that hangs: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if err := Health(Config{Addr: l.Addr().String()}).Check(ctx); !errors.Is(err, probe.ErrInconclusive) {
		t.Errorf("cancelled: %v", err)
	}
	addr := l.Addr().String()
	l.Close()
	if err := check(t, Config{Addr: addr}); err == nil || !strings.HasSuffix(err.Error(), "connection refused") {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestAServerOfHTTP1IsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.NotFoundHandler()}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	defer func() { s.Close(); <-done }()
	err = check(t, Config{Addr: l.Addr().String()})
	if err == nil || probe.Passed(err) || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	t.Log(err)
}

func FuzzStatus(f *testing.F) {
	for _, s := range []string{"", "\x00\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x06\x12\x02hi\x08\x01", "\x01\x00\x00\x00\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := status(body)
		if err != nil && n != 0 {
			t.Errorf("status %d with %v", n, err)
		}
	})
}
