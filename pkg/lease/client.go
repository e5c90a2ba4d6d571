package lease

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxAnswer = 1 << 20  // bytes of an answer that are read
	maxSecret = 64 << 10 // bytes of TokenFile
	askTime   = 2 * time.Second
)

// Config says where the servers are and how to get in. Only URLs is needed.
type Config struct {
	// URLs are the servers, replicas of each other: "http://host:8191". One that does not answer is
	// followed by the next.
	URLs      []string
	Namespace string // of the keys
	// TokenFile holds the bearer token. It is read for each request: such tokens change.
	TokenFile string
	TLS       *tls.Config // of https; nil: the system's CAs
}

// Client acquires locks. All locks of a client are one session of the server.
type Client struct {
	cfg     Config
	http    *http.Client
	session string
	server  atomic.Int64 // which of the URLs is asked
	spoke   atomic.Bool  // /v1 was answered: there may be a session
	keys    keys
	holds   holds
}

// New returns a client. Nothing is sent before its first use.
func New(cfg Config) (*Client, error) {
	if len(cfg.URLs) == 0 {
		return nil, errors.New("no URL of a shared-lock server is given")
	}
	cfg.URLs = slices.Clone(cfg.URLs)
	for i, text := range cfg.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("%q is no URL of a shared-lock server: write http://host:8191", redacted(u, text))
		}
		cfg.URLs[i] = strings.TrimSuffix(text, "/")
	}
	dialer := &net.Dialer{Timeout: askTime, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3, // a waiter has nothing else to tell that its server is gone
	}}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: cfg.TLS,
		TLSHandshakeTimeout: askTime, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second,
	}
	return &Client{
		cfg: cfg, session: rand.Text(),
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// redacted is a URL without the password that it may have.
func redacted(u *url.URL, text string) string {
	switch {
	case u != nil:
		return u.Redacted()
	case strings.Contains(text, "@"):
		return "(hidden)"
	}
	return text
}

// Close ends the session, which frees all its locks, and the connections. The client is not used
// after that, and nothing that its locks protect runs any more.
func (c *Client) Close(ctx context.Context) error {
	defer c.http.CloseIdleConnections()
	if !c.spoke.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTime)
	defer cancel()
	if _, err := c.do(ctx, http.MethodDelete, "/v1/sessions/"+c.session, nil, nil); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// refusal is an answer of a server that is no success.
type refusal struct {
	status int
	code   string // of /v1, else empty
	text   string
	holder *holder
}

func (r *refusal) Error() string {
	if r.text == "" {
		return fmt.Sprintf("shared-lock answers %d %s", r.status, http.StatusText(r.status))
	}
	return fmt.Sprintf("shared-lock answers %d: %s", r.status, r.text)
}

// Is says that it is [ErrRefused], unless it is about the state of the lock or the server.
func (r *refusal) Is(target error) bool {
	return target == ErrRefused && r.status >= 400 && r.status < 500 && r.code != "held" && r.code != "gone" &&
		r.status != http.StatusRequestTimeout && r.status != http.StatusTooManyRequests
}

// isUnknown says that a path is not known there, which is how a server of the old protocol answers.
func (r *refusal) isUnknown() bool { return r.status == http.StatusNotFound && r.code == "" }

// request is one to be sent.
type request struct {
	method, path string
	body         []byte
	header       http.Header
}

// answer is what came back.
type answer struct {
	status int
	text   []byte
	header http.Header
}

// do sends JSON and decodes the JSON of a success into out, unless that is nil.
func (c *Client) do(ctx context.Context, method, path string, in, out any) (status int, err error) {
	r := request{method: method, path: path}
	if in != nil {
		if r.body, err = json.Marshal(in); err != nil {
			return 0, fmt.Errorf("encode request: %w", err)
		}
		r.header = http.Header{"Content-Type": {"application/json"}}
	}
	a, err := c.send(ctx, r)
	if err != nil {
		return 0, err
	}
	if a.status < 200 || a.status >= 300 {
		return a.status, refusalOf(a)
	}
	c.spoke.Store(true)
	if out == nil {
		return a.status, nil
	}
	if err := json.Unmarshal(a.text, out); err != nil {
		return a.status, fmt.Errorf("decode answer of shared-lock: %w", err)
	}
	return a.status, nil
}

func refusalOf(a answer) *refusal {
	var e struct {
		Error  struct{ Code, Message string }
		Holder *holder
	}
	if json.Unmarshal(a.text, &e) != nil || e.Error.Code == "" {
		return &refusal{status: a.status, text: strings.TrimSpace(strings.ToValidUTF8(string(a.text[:min(len(a.text), 200)]), ""))}
	}
	return &refusal{a.status, e.Error.Code, e.Error.Message, e.Holder}
}

// send sends a request to the present server. One that does not answer is followed by the next.
func (c *Client) send(ctx context.Context, r request) (a answer, err error) {
	server := c.server.Load()
	defer func() {
		if err != nil || a.status >= 500 {
			c.server.CompareAndSwap(server, server+1)
		}
	}()
	resp, err := c.open(ctx, server, r)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a, fmt.Errorf("read answer of shared-lock: %w", err)
	}
	return answer{resp.StatusCode, text, resp.Header}, nil
}

// open sends a request, whose answer is yet to be read.
func (c *Client) open(ctx context.Context, server int64, r request) (*http.Response, error) {
	base := c.cfg.URLs[int(server)%len(c.cfg.URLs)]
	req, err := http.NewRequestWithContext(ctx, r.method, base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if c.cfg.Namespace != "" {
		req.Header.Set("X-Lock-Namespace", c.cfg.Namespace)
	}
	if c.cfg.TokenFile != "" {
		secret, err := readSecret(c.cfg.TokenFile)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unanswered(req.URL, err)
	}
	return resp, nil
}

// unanswered says in a line why a server does not answer. What failed on the way there, and that it
// was a POST, is of no use to people.
func unanswered(at *url.URL, err error) error {
	var dial *net.OpError
	var call *os.SyscallError
	switch said := (*url.Error)(nil); {
	case errors.As(err, &call):
		err = call.Err
	case errors.As(err, &dial):
		err = dial.Err
	case errors.As(err, &said):
		err = said.Err
	}
	base := url.URL{Scheme: at.Scheme, User: at.User, Host: at.Host}
	return fmt.Errorf("no shared-lock server answers at %s: %w", base.Redacted(), err)
}

func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
