package probe

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

func mustHTTP(t *testing.T, c HTTPConfig) Probe {
	t.Helper()
	p, err := HTTP(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// seen is the request that c makes of a server on addr.
func seen(t *testing.T, addr string, c HTTPConfig) *http.Request {
	t.Helper()
	got := make(chan *http.Request, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	if addr != "" {
		srv.Listener.Close()
		srv.Listener = mustListen(t, addr)
	}
	srv.Start()
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	c.Port, _ = strconv.Atoi(u.Port())
	want(t, within(t, 20*time.Second, mustHTTP(t, c)), "passed")
	return <-got
}

func TestHTTPRequest(t *testing.T) {
	for name, c := range map[string]struct {
		addr   string
		config HTTPConfig
		uri    string
		host   string // without the port, or all of it
		header http.Header
	}{
		"the defaults are those of a probe": {
			config: HTTPConfig{Version: "1.2.3"}, uri: "/", host: "localhost:",
			header: http.Header{"User-Agent": {"process-wrapper-probe/1.2.3"}, "Accept": {"*/*"}},
		},
		"an IPv6 host works without brackets": {
			addr: "[::1]:0", config: HTTPConfig{Host: "::1"}, uri: "/", host: "[::1]:",
		},
		"an IPv6 host works with brackets": {
			addr: "[::1]:0", config: HTTPConfig{Host: "[::1]"}, uri: "/", host: "[::1]:",
		},
		"no host reaches a listener on ::1": {
			addr: "[::1]:0", config: HTTPConfig{}, uri: "/", host: "localhost:",
		},
		"a path has its query": {
			config: HTTPConfig{Path: "/a/b?x=1&y=%20"}, uri: "/a/b?x=1&y=%20", host: "localhost:",
		},
		"a path needs no slash": {config: HTTPConfig{Path: "a%2Fb"}, uri: "/a%2Fb", host: "localhost:"},
		"a path that does not parse is sent": {
			config: HTTPConfig{Path: "/100%"}, uri: "/100%25", host: "localhost:",
		},
		"a path does not name the host": {
			config: HTTPConfig{Path: "http://elsewhere:1/x"}, uri: "/x", host: "localhost:",
		},
		"headers are sent, the host where it belongs": {
			config: HTTPConfig{Header: http.Header{"Host": {"shop.example"}, "X-Probe": {"a", "b"}}},
			uri:    "/", host: "shop.example",
			header: http.Header{"X-Probe": {"a", "b"}},
		},
		"User-Agent and Accept can be replaced": {
			config: HTTPConfig{Header: http.Header{"User-Agent": {"me"}, "Accept": {"text/html"}}},
			uri:    "/", host: "localhost:",
			header: http.Header{"User-Agent": {"me"}, "Accept": {"text/html"}},
		},
		"User-Agent and Accept can be removed": {
			config: HTTPConfig{Header: http.Header{"User-Agent": {""}, "Accept": {""}}},
			uri:    "/", host: "localhost:",
			header: http.Header{"User-Agent": nil, "Accept": nil},
		},
		"nothing asks for compression or a longer life": {
			config: HTTPConfig{}, uri: "/", host: "localhost:",
			header: http.Header{"Accept-Encoding": nil, "Connection": {"close"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := seen(t, c.addr, c.config)
			if r.Method != http.MethodGet || r.RequestURI != c.uri || !strings.HasPrefix(r.Host, c.host) {
				t.Errorf("%s %s of %s, want GET %s of %s", r.Method, r.RequestURI, r.Host, c.uri, c.host)
			}
			for name, values := range c.header {
				if got := strings.Join(r.Header[name], ","); got != strings.Join(values, ",") {
					t.Errorf("header %s is %q, want %q", name, got, values)
				}
			}
		})
	}
}

func TestHTTPUsesNoProxy(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://"+closedPort(t, "127.0.0.1"))
	}
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		t.Setenv(name, "")
	}
	seen(t, "", HTTPConfig{Host: "127.0.0.1"})
}

func TestHTTPSendsTheUserOfTheURL(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "probe" || password != "s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer srv.Close()
	withUser := func(s string) string { return strings.Replace(srv.URL, "http://", "http://probe:"+s+"@", 1) }
	want(t, within(t, 20*time.Second, mustHTTP(t, HTTPConfig{URL: withUser("s3cret")})), "passed")
	err := within(t, 20*time.Second, mustHTTP(t, HTTPConfig{URL: withUser("wr0ng") + "/a?token=t0ken"}))
	want(t, err, "failed", "xxxxx@127.0.0.1:", "/a?token=xxxxx: status 401")
	if strings.Contains(err.Error(), "wr0ng") || strings.Contains(err.Error(), "t0ken") {
		t.Errorf("error %q shows a secret", err)
	}
}

func TestHTTPKeepsTheHostHeaderOfARelativeRedirect(t *testing.T) {
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/relative":
			http.Redirect(w, r, "/named", http.StatusFound)
		case "/absolute":
			http.Redirect(w, r, srv.URL+"/unnamed", http.StatusFound)
		case "/named", "/unnamed":
			if (r.Host == "shop.example") != (r.URL.Path == "/named") {
				w.WriteHeader(http.StatusMisdirectedRequest)
			}
		}
	}))
	defer srv.Close()
	for _, path := range []string{"/relative", "/absolute"} {
		p := mustHTTP(t, HTTPConfig{URL: srv.URL + path, Header: http.Header{"Host": {"shop.example"}}})
		want(t, within(t, 20*time.Second, p), "passed")
	}
}

func TestHTTPRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		config HTTPConfig
		want   string
	}{
		"a URL that does not parse":        {HTTPConfig{URL: "http://u:s3cret@h:port/"}, "probe URL is not valid, want http://host:port/path"},
		"a URL of another scheme":          {HTTPConfig{URL: "ftp://u:s3cret@h/"}, `probe URL has the scheme "ftp", want http or https`},
		"a URL without scheme":             {HTTPConfig{URL: "/s3cret"}, `probe URL has the scheme "", want http or https`},
		"a URL without host":               {HTTPConfig{URL: "http:///x"}, "probe URL http:///x has no host, want http://host:port/path"},
		"a URL that is no address":         {HTTPConfig{URL: "http:s3cret"}, "probe URL http: has no host, want http://host:port/path"},
		"a URL with a port too high":       {HTTPConfig{URL: "http://h:70000/"}, "probe port is 70000, want 1 to 65535"},
		"a port too high":                  {HTTPConfig{Port: 70000}, "probe port is 70000, want 1 to 65535"},
		"a port too low":                   {HTTPConfig{Port: -1}, "probe port is -1, want 1 to 65535"},
		"another scheme":                   {HTTPConfig{Scheme: "tcp"}, `probe scheme is "tcp", want HTTP or HTTPS`},
		"a host that is an address":        {HTTPConfig{Host: "http://h/"}, "probe host is not a name or an address; scheme, port and path have their own keys"},
		"a header name with a space":       {HTTPConfig{Header: http.Header{"X Y": {"s3cret"}}}, `probe http://localhost: header name "X Y" is not valid`},
		"a header value with a line break": {HTTPConfig{Header: http.Header{"X": {"s3cret\r\nY: z"}}}, `probe http://localhost: value of header "X" has a control character in it`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := HTTP(c.config)
			if err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}

func TestHTTPCancelledIsInconclusive(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer srv.Close()
	err := mustHTTP(t, HTTPConfig{URL: srv.URL}).Check(ctx)
	want(t, err, "inconclusive", "cancelled")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not context.Canceled", err)
	}
}

func TestHTTPAddress(t *testing.T) {
	for name, c := range map[string]struct {
		config HTTPConfig
		want   string
	}{
		"the parts default to plain localhost":      {HTTPConfig{}, "http://localhost"},
		"a scheme of Kubernetes is in upper case":   {HTTPConfig{Scheme: "HTTPS", Port: 8443, Path: "/x"}, "https://localhost:8443/x"},
		"an IPv6 address is told from its port":     {HTTPConfig{Scheme: "https", Host: "::1"}, "https://[::1]:443"},
		"an IPv6 address may have a zone":           {HTTPConfig{Host: "fe80::1%eth0", Port: 80}, "http://[fe80::1%25eth0]:80"},
		"a URL keeps what it says":                  {HTTPConfig{URL: " HTTP://h:1/a%2Fb?x#y "}, "http://h:1/a%2Fb?x#y"},
		"a URL wins over the parts":                 {HTTPConfig{URL: "http://h/", Host: "other", Port: 1}, "http://h/"},
		"a path that looks like a host is a path's": {HTTPConfig{Port: 1, Path: "//other/x"}, "http://localhost:1/x"},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := c.config.url()
			if err != nil || u.String() != c.want {
				t.Errorf("%v, %v, want %s", u, err, c.want)
			}
		})
	}
}
