package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const maxRedirects = 10

// HTTPConfig describes a GET request. Either URL is set, or the parts are.
type HTTPConfig struct {
	URL string // absolute; the scheme is http or https

	Scheme string // http (default) or https, in any case
	Host   string // name or IP address; default localhost, on both loopback addresses
	Port   int    // default: that of the scheme
	Path   string // default /; may have a query

	// Header is sent as it is. Host is the host of the request. An empty
	// User-Agent or Accept is not sent; without them they are
	// process-wrapper-probe/Version and */*.
	Header  http.Header
	Version string

	// BodyMustEnd makes a body that is still not complete when time is up a
	// failure. To the kubelet, and by default, that is inconclusive.
	BodyMustEnd bool
}

// HTTP passes when the answer has a status of 200 to 399, after at most 10
// redirects on the same host, whose port and scheme may change. The answer is a
// [Warning] where it is itself a redirect: to another host, or to nowhere.
// Certificates are not verified, no proxy is used, nothing is kept open, and of
// the body at most 10 KiB are read; a body that is cut short is inconclusive.
//
// HTTP returns an error, without secrets in it, when c makes no request.
func HTTP(c HTTPConfig) (Probe, error) {
	u, err := c.url()
	if err != nil {
		return nil, err
	}
	h, err := newHTTPProbe(c, u)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", redact(u), err)
	}
	return h, nil
}

// url puts the address together.
func (c HTTPConfig) url() (*url.URL, error) {
	if c.URL == "" {
		return c.join()
	}
	u, err := url.Parse(strings.TrimSpace(c.URL))
	if err != nil {
		// The text of a *url.Error repeats the whole URL.
		var ue *url.Error
		if errors.As(err, &ue) {
			return nil, errors.New("probe URL is not valid, want http://host:port/path")
		}
		return nil, err
	}
	u.Scheme = strings.ToLower(u.Scheme)
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("probe URL has the scheme %q, want http or https", excerpt(u.Scheme, 20))
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("probe URL %s has no host, want %s://host:port/path", redact(u), u.Scheme)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("probe port is %s, want 1 to 65535", excerpt(p, 20))
		}
	}
	return u, nil
}

// join is the kubelet's way to a URL: what the path says of scheme and host is
// ignored, and a path that does not parse is sent as it is.
func (c HTTPConfig) join() (*url.URL, error) {
	scheme := strings.ToLower(c.Scheme)
	if scheme == "" {
		scheme = "http"
	}
	if scheme != "http" && scheme != "https" {
		return nil, fmt.Errorf("probe scheme is %q, want HTTP or HTTPS", excerpt(c.Scheme, 20))
	}
	u, err := url.Parse(c.Path)
	if err != nil {
		u = &url.URL{Path: c.Path}
	}
	u.Scheme, u.Opaque = scheme, ""
	if u.Path != "" && u.Path[0] != '/' {
		if u.RawPath != "" {
			u.RawPath = "/" + u.RawPath
		}
		u.Path = "/" + u.Path
	}
	u.Host, err = c.hostPort(scheme)
	return u, err
}

func (c HTTPConfig) hostPort(scheme string) (string, error) {
	host := strings.Trim(c.Host, "[]")
	if host == "" {
		host = "localhost"
	}
	if strings.ContainsAny(host, "/?#@\\ ") {
		return "", errors.New("probe host is not a name or an address; scheme, port and path have their own keys")
	}
	if c.Port < 0 || c.Port > 65535 {
		return "", fmt.Errorf("probe port is %d, want 1 to 65535", c.Port)
	}
	if c.Port == 0 && !strings.Contains(host, ":") {
		return host, nil
	}
	return net.JoinHostPort(host, port(scheme, c.Port)), nil
}

func port(scheme string, n int) string {
	switch {
	case n != 0:
		return strconv.Itoa(n)
	case scheme == "https":
		return "443"
	}
	return "80"
}

type httpProbe struct {
	shown       string // for errors
	url         *url.URL
	host        string // of the request
	header      http.Header
	tls         *tls.Config
	first       []byte // the request for url, ready to send
	bodyMustEnd bool
}

func newHTTPProbe(c HTTPConfig, u *url.URL) (*httpProbe, error) {
	if err := checkHeader(c.Header); err != nil {
		return nil, err
	}
	h := &httpProbe{
		shown:       redact(u),
		url:         u,
		host:        c.Header.Get("Host"),
		header:      probeHeader(c, u),
		bodyMustEnd: c.BodyMustEnd,
		tls: &tls.Config{
			InsecureSkipVerify: true,         // as the kubelet: the target is our own process
			ServerName:         u.Hostname(), // redirects stay on it
			NextProtos:         []string{"http/1.1"},
		},
	}
	var err error
	h.first, err = h.request(u, h.host)
	return h, err
}

func probeHeader(c HTTPConfig, u *url.URL) http.Header {
	header := c.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if _, ok := header["User-Agent"]; !ok {
		header.Set("User-Agent", "process-wrapper-probe/"+c.Version)
	}
	if _, ok := header["Accept"]; !ok {
		header.Set("Accept", "*/*")
	} else if header.Get("Accept") == "" {
		header.Del("Accept")
	}
	if u.User != nil && header.Get("Authorization") == "" {
		password, _ := u.User.Password()
		r := http.Request{Header: header}
		r.SetBasicAuth(u.User.Username(), password)
	}
	return header
}

// checkHeader refuses what would break out of its line of the request.
func checkHeader(header http.Header) error {
	for name, values := range header {
		if name == "" || strings.ContainsFunc(name, notToken) {
			return fmt.Errorf("header name %q is not valid", excerpt(name, 40))
		}
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return fmt.Errorf("value of header %q has a control character in it", name)
			}
		}
	}
	return nil
}

func notToken(r rune) bool {
	const punctuation = "!#$%&'*+-.^_`|~"
	alnum := '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	return !alnum && !strings.ContainsRune(punctuation, r)
}

// request is the request for u as it goes over the wire.
func (h *httpProbe) request(u *url.URL, host string) ([]byte, error) {
	var b bytes.Buffer
	r := http.Request{
		Method: http.MethodGet, URL: u, Host: host, Header: h.header, Close: true,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if err := r.Write(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Check sends the request and those that the answers ask for.
func (h *httpProbe) Check(ctx context.Context) error {
	start := time.Now()
	u, host, request := h.url, h.host, h.first
	for hop := 0; ; hop++ {
		var a answer
		err := h.exchange(ctx, u, request, &a)
		if err != nil {
			return h.failed(ctx, start, &a, err)
		}
		if !a.redirects() {
			return h.verdict(&a)
		}
		next, err := u.Parse(a.location)
		switch {
		case err != nil:
			return &failure{text: h.shown + ": redirect to an address that is not valid"}
		case next.Hostname() != h.url.Hostname():
			return &Warning{Target: h.shown, Text: fmt.Sprintf("status %d, redirect to another host, %s, not followed", a.status, excerpt(next.Hostname(), 80))}
		case hop+1 >= maxRedirects:
			return &failure{text: fmt.Sprintf("%s: stopped after %d redirects", h.shown, maxRedirects)}
		case next.Scheme != "http" && next.Scheme != "https":
			return &failure{text: fmt.Sprintf("%s: redirect to the scheme %q", h.shown, excerpt(next.Scheme, 20))}
		}
		if ref, err := url.Parse(a.location); err != nil || ref.IsAbs() {
			host = "" // the Host header was meant for the first address
		}
		u = next
		if request, err = h.request(u, host); err != nil {
			return &failure{text: h.shown + ": redirect to an address that is not valid"}
		}
	}
}

// verdict judges the last answer.
func (h *httpProbe) verdict(a *answer) error {
	switch {
	case a.status >= 200 && a.status < 300:
		return nil
	case a.status >= 300 && a.status < 400:
		return &Warning{Target: h.shown, Text: fmt.Sprintf("status %d is a redirect to nowhere", a.status)}
	}
	text := fmt.Sprintf("%s: status %d", h.shown, a.status)
	if said := excerpt(a.excerpt, 80); said != "" {
		text += ": " + said
	}
	return &failure{text: text}
}

// failed says why there is no whole answer. What goes wrong in the body is the
// prober's trouble, what goes wrong before it the target's.
func (h *httpProbe) failed(ctx context.Context, start time.Time, a *answer, err error) error {
	if a.status == 0 || errors.Is(ctx.Err(), context.Canceled) {
		return broken(ctx, h.shown, start, err)
	}
	if ctx.Err() != nil || isTimeout(err) {
		late := timedOut(fmt.Sprintf("%s: status %d, body not complete", h.shown, a.status), start)
		if h.bodyMustEnd {
			return late
		}
		return inconclusive(late.Error(), late)
	}
	return inconclusive(fmt.Sprintf("%s: status %d, body cut short", h.shown, a.status), err)
}
