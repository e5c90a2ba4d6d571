package probe

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// kubeletServer answers like the endpoints of the verdict table: by path.
func kubeletServer(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/status/", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Path[len("/status/"):])
		w.WriteHeader(code)
	})
	mux.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("loc"), http.StatusFound)
	})
	mux.HandleFunc("/hops/", func(w http.ResponseWriter, r *http.Request) {
		if n, _ := strconv.Atoi(r.URL.Path[len("/hops/"):]); n > 0 {
			http.Redirect(w, r, fmt.Sprintf("/hops/%d", n-1), http.StatusMovedPermanently)
		}
	})
	mux.HandleFunc("/via/", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Path[len("/via/"):])
		http.Redirect(w, r, "/status/200", code)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/loop", http.StatusFound)
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/hang-in-body", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "partly")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Repeat("x", 1<<20))
	})
	mux.HandleFunc("/ask", func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.UserAgent(), "process-wrapper-probe/") {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	cut := func(header string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprint(conn, header)
			conn.Close()
		}
	}
	mux.Handle("/cut", cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"))
	mux.Handle("/cut-chunk", cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nshort"))
	mux.Handle("/cut-error", cut("HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nshort"))
	mux.Handle("/early-hints", cut("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"))
	mux.Handle("/upgrade", cut("HTTP/1.1 101 Switching Protocols\r\n\r\n"))
	mux.Handle("/moved-to-nowhere", cut("HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n"))
	mux.Handle("/reset", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv
}

// TestKubeletVerdicts pins what the kubelet says to the same answers.
func TestKubeletVerdicts(t *testing.T) {
	srv := kubeletServer(t)
	other := kubeletServer(t)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(secure.Close)
	to := func(loc string) string { return srv.URL + "/to?loc=" + url.QueryEscape(loc) }
	const brief, long = 150 * time.Millisecond, 20 * time.Second
	for _, c := range []struct {
		name, url string
		timeout   time.Duration
		want      string
	}{
		{"200 passes", srv.URL + "/status/200", long, "passed"},
		{"204 passes", srv.URL + "/status/204", long, "passed"},
		{"299 passes", srv.URL + "/status/299", long, "passed"},
		{"300 passes with a warning", srv.URL + "/status/300", long, "warned"},
		{"301 without address passes with a warning", srv.URL + "/moved-to-nowhere", long, "warned"},
		{"304 passes with a warning", srv.URL + "/status/304", long, "warned"},
		{"399 passes with a warning", srv.URL + "/status/399", long, "warned"},
		{"400 fails", srv.URL + "/status/400", long, "failed"},
		{"404 fails", srv.URL + "/status/404", long, "failed"},
		{"500 fails", srv.URL + "/status/500", long, "failed"},
		{"503 fails", srv.URL + "/status/503", long, "failed"},
		{"999 fails", srv.URL + "/status/999", long, "failed"},
		{"101 fails", srv.URL + "/upgrade", long, "failed"},
		{"an answer after early hints passes", srv.URL + "/early-hints", long, "passed"},
		{"a redirect by 301 is followed", srv.URL + "/via/301", long, "passed"},
		{"a redirect by 302 is followed", srv.URL + "/via/302", long, "passed"},
		{"a redirect by 303 is followed", srv.URL + "/via/303", long, "passed"},
		{"a redirect by 307 is followed", srv.URL + "/via/307", long, "passed"},
		{"a redirect by 308 is followed", srv.URL + "/via/308", long, "passed"},
		{"a redirect by 305 is not, with a warning", srv.URL + "/via/305", long, "warned"},
		{"a redirect to a failure fails", to("/status/500"), long, "failed"},
		{"a redirect to another port of the host is followed", to(other.URL + "/status/200"), long, "passed"},
		{"a failure on another port of the host fails", to(other.URL + "/status/500"), long, "failed"},
		{"a redirect to https on the host is followed", to(secure.URL), long, "passed"},
		{"a redirect to another host passes with a warning", to("http://0.0.0.0/status/500"), long, "warned"},
		{"a redirect to another name of the host does too", to(strings.Replace(other.URL, "127.0.0.1", "localhost", 1)), long, "warned"},
		{"9 redirects are followed", srv.URL + "/hops/9", long, "passed"},
		{"the 10th is not, and fails", srv.URL + "/hops/10", long, "failed"},
		{"a redirect loop fails", srv.URL + "/loop", long, "failed"},
		{"a redirect to another scheme on the host fails", to("ftp://127.0.0.1/"), long, "failed"},
		{"a redirect to a bad address fails", to("http://127.0.0.1:port/"), long, "failed"},
		{"a hung endpoint fails", srv.URL + "/hang", brief, "failed"},
		{"a redirect to a hung endpoint fails", to("/hang"), brief, "failed"},
		{"a hung body is inconclusive", srv.URL + "/hang-in-body", brief, "inconclusive"},
		{"a large body passes", srv.URL + "/large", long, "passed"},
		{"a body that is cut short is inconclusive", srv.URL + "/cut", long, "inconclusive"},
		{"a chunked body that is cut short is inconclusive", srv.URL + "/cut-chunk", long, "inconclusive"},
		{"an error whose body is cut short is inconclusive", srv.URL + "/cut-error", long, "inconclusive"},
		{"a reset connection fails", srv.URL + "/reset", long, "failed"},
		{"a closed port fails", "http://" + closedPort(t, "127.0.0.1"), long, "failed"},
		{"a certificate that nobody signed passes", secure.URL, long, "passed"},
		{"http to an https port fails", strings.Replace(secure.URL, "https", "http", 1), long, "failed"},
		{"https to an http port fails", strings.Replace(srv.URL, "http", "https", 1), long, "failed"},
		{"an endpoint for probes only knows us", srv.URL + "/ask", long, "passed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := HTTP(HTTPConfig{URL: c.url})
			if err != nil {
				t.Fatal(err)
			}
			err = within(t, c.timeout, p)
			want(t, err, c.want)
			if err != nil && strings.Contains(err.Error(), "loc=h") {
				t.Errorf("error %q shows the value of a query", err)
			}
		})
	}
}
