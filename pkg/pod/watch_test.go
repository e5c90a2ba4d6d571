package pod

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// apiServer is a strict API server: TLS with a CA of its own, a token, RBAC for one pod.
type apiServer struct {
	t    *testing.T
	web  *httptest.Server
	dir  string
	stop chan struct{}

	interval time.Duration // of those that watch

	mu      sync.Mutex // guards what follows
	token   string
	lists   int
	watches int
	starts  []time.Time
	answer  func(w http.ResponseWriter, r *http.Request, watch bool, n int) // n: which request of its kind, from 1
}

func newAPIServer(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, watch bool, n int)) *apiServer {
	t.Helper()
	a := &apiServer{t: t, interval: interval, dir: t.TempDir(), stop: make(chan struct{}), answer: answer}
	a.web = httptest.NewUnstartedServer(a)
	a.web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	a.certify()
	a.rotate("token-1", true)
	a.web.StartTLS()
	t.Cleanup(func() {
		close(a.stop)
		a.web.Close()
	})
	return a
}

// certify makes a CA and with it a certificate.
func (a *apiServer) certify() {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	make := func(template, parent *x509.Certificate) []byte {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, key)
		if err != nil {
			a.t.Fatal(err)
		}
		return der
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cluster"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER := make(ca, ca)
	leaf := make(&x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, ca)
	a.web.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	a.file("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})))
}

// rotate changes the token of the server, and where visible the file.
func (a *apiServer) rotate(token string, visible bool) {
	a.t.Helper()
	a.mu.Lock()
	a.token = token
	a.mu.Unlock()
	if visible {
		a.file("token", token+"\n")
	}
}

func (a *apiServer) file(name, text string) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	watch := r.URL.Query().Get("watch") == "1"
	a.mu.Lock()
	n := &a.lists
	if watch {
		n = &a.watches
	}
	*n++
	count, token, answer := *n, a.token, a.answer
	a.starts = append(a.starts, time.Now())
	a.mu.Unlock()
	switch {
	case r.Method != http.MethodGet || r.URL.Path != "/api/v1/namespaces/default/pods" || watch && r.URL.Query().Get("timeoutSeconds") == "":
		a.t.Errorf("got %s %s", r.Method, r.URL)
		status(w, 400, "bad request")
	case r.Header.Get("Authorization") != "Bearer "+token:
		status(w, 401, "Unauthorized")
	case r.URL.Query().Get("fieldSelector") != "metadata.name=pod-1":
		status(w, 403, "pods is forbidden")
	default:
		answer(w, r, watch, count)
	}
}

func status(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `{"kind":"Status","code":%d,"message":%q}`, code, message)
}

// event sends a line of a watch.
func event(w http.ResponseWriter, kind, object string) {
	_, _ = fmt.Fprintf(w, `{"type":%q,"object":%s}`+"\n", kind, strings.ReplaceAll(object, "\n", ""))
	_ = http.NewResponseController(w).Flush()
}

func list(w http.ResponseWriter, objects ...string) {
	_, _ = fmt.Fprintf(w, `{"kind":"PodList","items":[%s]}`, strings.Join(objects, ","))
}

// hold keeps a request until the client leaves or the test ends.
func (a *apiServer) hold(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-a.stop:
	}
}

func (a *apiServer) requests() (lists, watches int, starts []time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lists, a.watches, append([]time.Time(nil), a.starts...)
}

// outcome is what a watcher said.
type outcome struct {
	mu          sync.Mutex // guards what follows
	done        string
	disruptions []string
	log         bytes.Buffer
}

func (o *outcome) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.log.Write(b)
}

func (o *outcome) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.log.String()
}

// watch runs a watcher with short times until it is done.
func (a *apiServer) watch() *outcome {
	a.t.Helper()
	return a.watchUntil(func(*outcome) bool { return false })
}

// watchUntil runs a watcher with short times until it is done or enough is so.
func (a *apiServer) watchUntil(enough func(*outcome) bool) *outcome {
	a.t.Helper()
	o := &outcome{}
	w, err := newWatcher(Config{
		Server: a.web.URL, Pod: "pod-1", Namespace: "default", Container: "me", TokenFile: filepath.Join(a.dir, "token"), CAFile: filepath.Join(a.dir, "ca.crt"),
		Logger: slog.New(slog.NewTextHandler(o, nil)), Done: func(reason string) { o.done = reason },
		Disruption: func(reason string) { o.disruptions = append(o.disruptions, reason) },
	})
	if err != nil {
		a.t.Fatal(err)
	}
	w.interval, w.refusedPause, w.silence, w.lifetime = a.interval, 2*a.interval, 2*time.Second, time.Minute
	ctx, cancel := context.WithTimeout(a.t.Context(), plenty)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil && !enough(o) {
			time.Sleep(interval / 4)
		}
		cancel()
	})
	w.run(ctx)
	cancel()
	wg.Wait()
	return o
}

const (
	interval = 20 * time.Millisecond
	plenty   = 20 * time.Second
	wantDone = "completed: app (exit code 0)"
)

var (
	running = podOf("Never", runs, "")
	ended   = podOf("Never", exit0, "")
)

// A completion is how an API server leads to the end, and how many lists that takes at least.
type completion struct {
	name   string
	answer func(w http.ResponseWriter, r *http.Request, watch bool, n int)
	lists  int
}

func (c completion) run(t *testing.T) {
	a := newAPIServer(t, c.answer)
	o := a.watch()
	if o.done != wantDone {
		t.Errorf("got %q, want %q\n%s", o.done, wantDone, o.text())
	}
	if lists, _, _ := a.requests(); lists < c.lists || c.lists == 0 && lists > 0 {
		t.Errorf("%d lists, want at least %d, none if 0", lists, c.lists)
	}
}

func TestWatchesSeeTheCompletion(t *testing.T) {
	for _, test := range []completion{
		{"in the first event", func(w http.ResponseWriter, r *http.Request, _ bool, _ int) {
			event(w, "ADDED", ended)
			<-r.Context().Done()
		}, 0},
		{"in a later event, after a bookmark", func(w http.ResponseWriter, r *http.Request, _ bool, _ int) {
			event(w, "ADDED", running)
			event(w, "BOOKMARK", `{"kind":"Pod","metadata":{"resourceVersion":"7"}}`)
			event(w, "MODIFIED", ended)
			<-r.Context().Done()
		}, 0},
		{"in a later watch, when the server ends one", func(w http.ResponseWriter, _ *http.Request, _ bool, n int) {
			if n < 3 {
				event(w, "ADDED", running)
			} else {
				event(w, "ADDED", ended)
			}
		}, 0},
	} {
		t.Run(test.name, test.run)
	}
}

func TestListsSeeTheCompletion(t *testing.T) {
	for _, test := range []completion{
		{"by lists, when a watch says ERROR with 200", func(w http.ResponseWriter, _ *http.Request, watch bool, n int) {
			switch {
			case watch:
				event(w, "ERROR", `{"kind":"Status","code":500,"message":"required storage feature RequestWatchProgress is disabled"}`)
			case n < 3:
				list(w, running)
			default:
				list(w, ended)
			}
		}, 3},
		{"by lists, when a watch is too old", func(w http.ResponseWriter, _ *http.Request, watch bool, _ int) {
			if watch {
				event(w, "ADDED", running)
				event(w, "ERROR", `{"kind":"Status","code":410,"message":"too old resource version"}`)
			} else {
				list(w, ended)
			}
		}, 1},
		{"by lists, when watches are cut", func(w http.ResponseWriter, _ *http.Request, watch bool, _ int) {
			if watch {
				event(w, "ADDED", running)
				panic(http.ErrAbortHandler)
			}
			list(w, ended)
		}, 1},
		{"by lists, when a watch is garbage", func(w http.ResponseWriter, _ *http.Request, watch bool, _ int) {
			if watch {
				_, _ = io.WriteString(w, "<html>\n")
			} else {
				list(w, ended)
			}
		}, 1},
		{"by lists, when watches are not allowed", func(w http.ResponseWriter, _ *http.Request, watch bool, _ int) {
			if watch {
				status(w, 403, "cannot watch")
			} else {
				list(w, ended)
			}
		}, 1},
		{"by a watch again, after enough lists", func(w http.ResponseWriter, r *http.Request, watch bool, n int) {
			switch {
			case watch && n == 1:
				status(w, 500, "not now")
			case watch:
				event(w, "ADDED", ended)
			default:
				list(w, running)
			}
		}, pollsAfter},
		{"after a 403 that somebody mends", func(w http.ResponseWriter, _ *http.Request, watch bool, n int) {
			if watch || n < 3 {
				status(w, 403, "pods is forbidden")
			} else {
				list(w, ended)
			}
		}, 3},
	} {
		t.Run(test.name, test.run)
	}
}

func TestErrorsDoNotEndTheWatcher(t *testing.T) {
	for _, test := range []completion{
		{"after errors of every kind", func(w http.ResponseWriter, _ *http.Request, watch bool, n int) {
			switch {
			case watch, n == 1:
				status(w, 503, "starting")
			case n == 2:
				status(w, 429, "slow down")
			case n == 3:
				panic(http.ErrAbortHandler)
			case n == 4:
				_, _ = io.WriteString(w, `{"items":[{`)
			case n == 5:
				w.Header().Set("Location", "https://127.0.0.1:1/")
				w.WriteHeader(http.StatusFound)
			default:
				list(w, ended)
			}
		}, 6},
	} {
		t.Run(test.name, test.run)
	}
}

func TestRequestsKeepTheirDistance(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request, watch bool, n int)
	}{
		{"when all fails at once", func(w http.ResponseWriter, _ *http.Request, _ bool, _ int) { status(w, 500, "no") }},
		{"when watches end at once", func(w http.ResponseWriter, _ *http.Request, _ bool, _ int) { event(w, "ADDED", running) }},
		{"when watches are empty", func(http.ResponseWriter, *http.Request, bool, int) {}},
		{"when the token is bad", func(w http.ResponseWriter, _ *http.Request, _ bool, _ int) { status(w, 401, "Unauthorized") }},
		{"when connections are cut", func(http.ResponseWriter, *http.Request, bool, int) { panic(http.ErrAbortHandler) }},
		{"when lists say it runs", func(w http.ResponseWriter, _ *http.Request, watch bool, _ int) {
			if watch {
				status(w, 405, "no")
			} else {
				list(w, running)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newAPIServer(t, test.answer)
			a.interval = 100 * time.Millisecond
			o := a.watchUntil(func(*outcome) bool { _, _, starts := a.requests(); return len(starts) >= 6 })
			_, _, starts := a.requests()
			if len(starts) < 6 {
				t.Errorf("%d requests, want more", len(starts))
			}
			for i := 1; i < len(starts); i++ {
				if gap := starts[i].Sub(starts[i-1]); gap < a.interval/2 { // some may be longer on their way than others
					t.Errorf("request %d came %v after the one before, want at least %v", i, gap, a.interval)
				}
			}
			if lines := strings.Count(o.text(), "\n"); lines > 1 {
				t.Errorf("%d log lines, want one:\n%s", lines, o.text())
			}
			if o.done != "" {
				t.Errorf("done: %q", o.done)
			}
		})
	}
}

func TestTheTokenIsReadAnewAfterA401(t *testing.T) {
	var a *apiServer
	a = newAPIServer(t, func(w http.ResponseWriter, r *http.Request, _ bool, n int) {
		if n == 1 {
			event(w, "ADDED", running)
			a.rotate("token-2", true) // the next request is right away with the new one
			return
		}
		event(w, "ADDED", ended)
		a.hold(r)
	})
	if o := a.watch(); o.done != wantDone || o.text() != "" {
		t.Errorf("got %q, log:\n%s", o.done, o.text())
	}

	// The server has a new token before the file: the watcher comes back for it.
	b := newAPIServer(t, func(w http.ResponseWriter, _ *http.Request, watch bool, _ int) {
		if watch {
			event(w, "ADDED", ended)
		} else {
			list(w, ended)
		}
	})
	b.rotate("token-2", false)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if _, _, starts := b.requests(); len(starts) >= 2 {
				b.file("token", "token-2")
				return
			}
		}
	})
	if o := b.watch(); o.done != wantDone || !strings.Contains(o.text(), "automountServiceAccountToken") {
		t.Errorf("got %q, log:\n%s", o.done, o.text())
	}
	wg.Wait()
}

func TestTheCAIsReadAnew(t *testing.T) {
	a := newAPIServer(t, func(w http.ResponseWriter, _ *http.Request, watch bool, _ int) {
		if watch {
			event(w, "ADDED", ended)
		} else {
			list(w, ended)
		}
	})
	good, err := os.ReadFile(filepath.Join(a.dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	other := newAPIServer(t, nil)
	bad, err := os.ReadFile(filepath.Join(other.dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	a.file("ca.crt", string(bad))
	if o := a.watchUntil(func(o *outcome) bool { return o.text() != "" }); o.done != "" || !strings.Contains(o.text(), "certificate") {
		t.Errorf("with another CA: got %q\n%s", o.done, o.text())
	}
	if _, _, starts := a.requests(); len(starts) != 0 {
		t.Errorf("%d requests with a token went to a server that is not trusted", len(starts))
	}
	time.AfterFunc(5*interval, func() { a.file("ca.crt", string(good)) })
	if o := a.watch(); o.done != wantDone {
		t.Errorf("after the CA came: got %q\n%s", o.done, o.text())
	}
}

func TestDisruptionsAreReportedOnce(t *testing.T) {
	var a *apiServer
	target := strings.Replace(running, `"status":{`, `"status":{"conditions":[{"type":"DisruptionTarget","status":"True","reason":"TerminationByKubelet"}],`, 1)
	a = newAPIServer(t, func(w http.ResponseWriter, r *http.Request, _ bool, _ int) {
		for _, object := range []string{running, target, target, running, target, ended} {
			event(w, "MODIFIED", object)
		}
		a.hold(r)
	})
	o := a.watch()
	if got, want := strings.Join(o.disruptions, ","), "TerminationByKubelet,,TerminationByKubelet,"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatCannotBeIsSaid(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(a *apiServer, w http.ResponseWriter, r *http.Request, watch bool)
		token  string
		want   string
	}{
		{"a pod that is not there, by a watch", func(a *apiServer, w http.ResponseWriter, r *http.Request, _ bool) {
			_ = http.NewResponseController(w).Flush()
			a.hold(r)
		}, "", "set POD_NAME from metadata.name"},
		{"a pod that is not there, by a list", func(_ *apiServer, w http.ResponseWriter, _ *http.Request, watch bool) {
			if watch {
				event(w, "ADDED", strings.Replace(running, "pod-1", "pod-2", 1))
			} else {
				list(w, strings.Replace(running, "pod-1", "pod-2", 1))
			}
		}, "", "the stream ended without the pod"},
		{"a Role that is missing", func(_ *apiServer, w http.ResponseWriter, _ *http.Request, _ bool) {
			status(w, 403, "pods is forbidden")
		}, "", "needs a Role with get, list and watch"},
		{"a token that is none", func(*apiServer, http.ResponseWriter, *http.Request, bool) {}, "a\nb", "token holds none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var a *apiServer
			a = newAPIServer(t, func(w http.ResponseWriter, r *http.Request, watch bool, _ int) { test.answer(a, w, r, watch) })
			if test.token != "" {
				a.file("token", test.token)
			}
			if o := a.watchUntil(func(o *outcome) bool { return strings.Contains(o.text(), test.want) }); !strings.Contains(o.text(), test.want) || strings.Contains(o.text(), "token-1") {
				t.Errorf("got %s, want %s", o.text(), test.want)
			}
		})
	}
}

func TestAMainContainerThatIsNotThereIsNamed(t *testing.T) {
	w, err := newWatcher(Config{Server: "https://a", Pod: "pod-1", Namespace: "b", TokenFile: "c", CAFile: "d", Main: []string{"ap"}})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	w.config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	for range 2 {
		if err := w.see(read(t, ended)); err != nil {
			t.Errorf("got %v", err)
		}
	}
	if n := strings.Count(log.String(), "no such main container"); n != 1 || !strings.Contains(log.String(), "container=ap") {
		t.Errorf("got %s", log.String())
	}
}

func TestPausesBetweenRequests(t *testing.T) {
	w, err := newWatcher(Config{Server: "https://a", Pod: "pod-1", Namespace: "b", TokenFile: "c", CAFile: "d"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name      string
		failures  int // before
		err       error
		low, high time.Duration
	}{
		{"after an answer", 9, nil, 5 * time.Second, 6 * time.Second},
		{"after a first failure", 0, errors.New("cut"), 5 * time.Second, 6 * time.Second},
		{"after many failures", 99, errors.New("cut"), 5 * time.Second, 31 * time.Second},
		{"after a 401", 0, &statusError{code: 401}, time.Minute, 61 * time.Second},
		{"after a 403", 5, &statusError{code: 403}, time.Minute, 61 * time.Second},
		{"for a pod that is not there", 5, errAbsent, time.Minute, 61 * time.Second},
		{"as the server says", 5, &statusError{code: 429, after: 20 * time.Second}, 20 * time.Second, 21 * time.Second},
		{"not sooner because the server says so", 5, &statusError{code: 429, after: time.Second}, 5 * time.Second, 6 * time.Second},
		{"not for ever because the server says so", 5, &statusError{code: 503, after: time.Hour}, 2 * time.Minute, 121 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 200 {
				w.failures = test.failures
				if got := w.pause(test.err); got < test.low || got > test.high {
					t.Fatalf("got %v, want %v to %v", got, test.low, test.high)
				}
			}
		})
	}
}
