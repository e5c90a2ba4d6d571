package preempt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	drainTries   = 3
	drainTimeout = time.Second
	drainPause   = 100 * time.Millisecond
)

// ErrNoEnvoy says that nobody listens where Envoy's admin interface should be.
var ErrNoEnvoy = errors.New("nobody listens there")

// Envoy is the admin interface of an Envoy. Make one with [NewEnvoy].
type Envoy struct {
	url  *url.URL
	http *http.Client
}

// NewEnvoy returns the Envoy that is drained by a POST to a URL, which is used
// as it is.
func NewEnvoy(drainURL string) (*Envoy, error) {
	u, err := parseHTTP("ENVOY_DRAIN_URL", drainURL)
	if err != nil {
		return nil, err
	}
	return &Envoy{url: u, http: newHTTP(nil)}, nil
}

// Abrupt reports whether the URL stops the listeners at once rather than
// graceful, and also those for connections that go out.
func (e *Envoy) Abrupt() bool {
	q := e.url.Query()
	return strings.HasSuffix(e.url.Path, "/drain_listeners") && !(q.Has("graceful") && q.Has("inboundonly"))
}

// Drain asks Envoy to drain, at most three times. The error says what it
// answered instead of 200, or is [ErrNoEnvoy].
func (e *Envoy) Drain(ctx context.Context) error {
	for try := 1; ; try++ {
		again, err := e.post(ctx)
		if err == nil || !again || try == drainTries {
			return err
		}
		if sleep(ctx, drainPause) != nil {
			return err
		}
	}
}

// post asks once, and reports whether it makes sense to ask again.
func (e *Envoy) post(ctx context.Context) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url.String(), nil)
	if err != nil {
		return false, fmt.Errorf("drain Envoy: %w", err)
	}
	res, err := e.http.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return true, fmt.Errorf("drain Envoy: POST %s: %w", e.url.Redacted(), ErrNoEnvoy)
		}
		return true, fmt.Errorf("drain Envoy: %w", err)
	}
	defer func() { _ = res.Body.Close() }() // what is wanted of it was read
	if res.StatusCode == http.StatusOK {
		return false, nil
	}
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxSaid)) // only for the message
	return res.StatusCode >= 500, fmt.Errorf("drain Envoy: POST %s: %d %s: %q", e.url.Redacted(), res.StatusCode, http.StatusText(res.StatusCode), strings.ToValidUTF8(string(body), ""))
}
