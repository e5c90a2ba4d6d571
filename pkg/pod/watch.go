package pod

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxObject  = 4 << 20 // of one pod; etcd takes no more than 1.5 MiB
	maxPause   = 30 * time.Second
	pollsAfter = 12 // lists after a watch that failed
	logEvery   = time.Minute
)

var (
	errDone   = errors.New("the main containers have ended")
	errAbsent = errors.New("there is no such pod")
)

// statusError is an answer that is an error.
type statusError struct {
	code    int
	message string
	after   time.Duration // Retry-After
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.code, http.StatusText(e.code), e.message)
}

// A watcher asks the API server. One goroutine uses it.
type watcher struct {
	config       Config
	interval     time.Duration // between two requests, and between two polls
	refusedPause time.Duration // after 401, 403 and for a pod that is not there
	silence      time.Duration // until the first event of a watch has to come
	lifetime     time.Duration // of a watch

	client *http.Client
	ca     []byte // of client
	token  string // that was used last

	asked     time.Time // when the last request was answered, or failed
	polls     int       // lists to do before the next watch
	failures  int       // in a row
	disrupted string
	warned    bool // of a main container that is not there

	logged time.Time // the last error
	hidden int       // errors since then
}

// run asks until the main containers have ended or ctx ends.
func (w *watcher) run(ctx context.Context) {
	defer func() {
		if w.client != nil {
			w.client.CloseIdleConnections()
		}
	}()
	for {
		w.asked = time.Now()
		err := w.ask(ctx)
		if errors.Is(err, errDone) || ctx.Err() != nil {
			return
		}
		pause := w.pause(err)
		w.report(err, pause)
		t := time.NewTimer(pause - time.Since(w.asked))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// ask watches or, after a failure, lists.
func (w *watcher) ask(ctx context.Context) error {
	if w.polls > 0 {
		w.polls--
		return w.retry(ctx, w.list)
	}
	err := w.retry(ctx, w.watch)
	if err != nil && !errors.Is(err, errDone) {
		w.polls = pollsAfter
	}
	return err
}

// retry does it once more after a 401, when there is another token.
func (w *watcher) retry(ctx context.Context, do func(context.Context) error) error {
	err := do(ctx)
	var status *statusError
	if !errors.As(err, &status) || status.code != http.StatusUnauthorized {
		return err
	}
	if token, rerr := readSmall(w.config.TokenFile); rerr != nil || strings.TrimSpace(string(token)) == w.token {
		return err
	}
	return do(ctx)
}

// pause says how long after the answer to a request, which is where a watch begins, the next one comes.
func (w *watcher) pause(err error) time.Duration {
	jitter := rand.N(w.interval/5 + 1)
	if err == nil {
		w.failures = 0
		return w.interval + jitter
	}
	w.failures++
	var status *statusError
	if errors.As(err, &status) {
		switch {
		case status.code == http.StatusUnauthorized, status.code == http.StatusForbidden:
			return w.refusedPause + jitter
		case status.after > 0:
			return max(w.interval, min(status.after, 2*time.Minute)) + jitter
		}
	}
	if errors.Is(err, errAbsent) {
		return w.refusedPause + jitter
	}
	most := min(w.interval<<min(w.failures-1, 10), max(maxPause, w.interval))
	return w.interval + rand.N(most-w.interval+1) + jitter
}

// report logs an error, at most one a minute.
func (w *watcher) report(err error, pause time.Duration) {
	if err == nil {
		return
	}
	if !w.logged.IsZero() && time.Since(w.logged) < logEvery {
		w.hidden++
		return
	}
	hint := "the API server is asked again"
	var status *statusError
	switch {
	case errors.As(err, &status) && status.code == http.StatusForbidden:
		hint = "the service account needs a Role with get, list and watch of pods, and a RoleBinding"
	case errors.As(err, &status) && status.code == http.StatusUnauthorized:
		hint = "the token of the service account is not accepted; is automountServiceAccountToken on?"
	case errors.Is(err, errAbsent):
		hint = "set POD_NAME from metadata.name: HOSTNAME is not the name of the pod with hostNetwork or spec.hostname"
	}
	w.config.Logger.Warn("cannot watch the pod", "pod", w.config.Pod, "namespace", w.config.Namespace, "err", err,
		"again_in", pause.Round(time.Second).String(), "unlogged", w.hidden, "hint", hint)
	w.logged, w.hidden = time.Now(), 0
}

// list asks for the pod once.
func (w *watcher) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*w.silence)
	defer cancel()
	body, err := w.open(ctx, url.Values{})
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	var list struct {
		Items []*object `json:"items"`
	}
	if err := json.NewDecoder(io.LimitReader(body, maxObject)).Decode(&list); err != nil {
		return fmt.Errorf("read pod: %w", err)
	}
	for _, o := range list.Items {
		if o != nil && o.Metadata.Name == w.config.Pod {
			return w.see(o)
		}
	}
	return errAbsent
}

// watch follows the pod until the server ends that, which is nil, or something goes wrong.
func (w *watcher) watch(ctx context.Context) error {
	life := w.lifetime + rand.N(w.lifetime/10+1)
	ctx, cancel := context.WithTimeout(ctx, life+w.silence)
	defer cancel()
	body, err := w.open(ctx, url.Values{
		"watch": {"1"}, "allowWatchBookmarks": {"true"}, "timeoutSeconds": {strconv.Itoa(int(max(life, time.Second).Seconds()))},
	})
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	// The pod as it is comes first. If it does not, there is none of this name.
	seen := false
	var absent atomic.Bool // a read that is cancelled may say that the stream has ended
	late := time.AfterFunc(w.silence, func() {
		absent.Store(true)
		cancel()
	})
	defer late.Stop()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxObject)
	for lines.Scan() {
		o, err := parseEvent(lines.Bytes())
		if err != nil {
			return err
		}
		if o == nil || o.Metadata.Name != w.config.Pod {
			continue
		}
		seen = true
		late.Stop()
		w.failures = 0
		if err := w.see(o); err != nil {
			return err
		}
	}
	switch err := lines.Err(); {
	case !seen && absent.Load():
		return errAbsent
	case err != nil:
		return fmt.Errorf("watch pod: %w", err)
	case !seen:
		return errors.New("watch pod: the stream ended without the pod")
	}
	return nil
}

// parseEvent reads a line of a watch. It returns nil for one without a pod.
func parseEvent(line []byte) (*object, error) {
	if len(bytes.TrimSpace(line)) == 0 {
		return nil, nil
	}
	var event struct {
		Type   string          `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	switch event.Type {
	case "ADDED", "MODIFIED":
		o := &object{}
		if err := json.Unmarshal(event.Object, o); err != nil {
			return nil, fmt.Errorf("read pod: %w", err)
		}
		return o, nil
	case "BOOKMARK", "DELETED":
		return nil, nil
	case "ERROR":
		code, message := readStatus(event.Object)
		return nil, &statusError{code: code, message: "watch: " + message}
	default:
		return nil, fmt.Errorf("read event: its type is %q", event.Type)
	}
}

// readStatus reads a Status of Kubernetes.
func readStatus(text []byte) (code int, message string) {
	var status struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(text, &status) != nil || status.Message == "" {
		return status.Code, "no reason given"
	}
	if len(status.Message) > 500 {
		status.Message = status.Message[:500]
	}
	return status.Code, status.Message
}

// see acts on a pod as it is now.
func (w *watcher) see(o *object) error {
	if reason := o.disruption(); reason != w.disrupted {
		w.disrupted = reason
		w.config.Disruption(reason)
	}
	if name := o.missing(w.config.Main); name != "" && !w.warned {
		w.warned = true
		w.config.Logger.Warn("the pod has no such main container, so it never completes", "container", name, "pod", w.config.Pod)
	}
	if reason, done := o.completed(w.config.Container, w.config.Main); done {
		w.config.Done(reason)
		return errDone
	}
	return nil
}

// open sends a request for our pod and returns the body of a 200.
func (w *watcher) open(ctx context.Context, query url.Values) (io.ReadCloser, error) {
	if err := w.renew(); err != nil {
		return nil, err
	}
	query.Set("fieldSelector", "metadata.name="+w.config.Pod)
	target := w.config.Server + "/api/v1/namespaces/" + url.PathEscape(w.config.Namespace) + "/pods?" + query.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for pod: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+w.token)
	r.Header.Set("Accept", "application/json")
	resp, err := w.client.Do(r)
	w.asked = time.Now()
	if err != nil {
		return nil, fmt.Errorf("ask for pod: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // the status is what matters
	_, message := readStatus(text)
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return nil, &statusError{code: resp.StatusCode, message: message, after: time.Duration(max(seconds, 0)) * time.Second}
}

// renew reads token and CA, which are rotated.
func (w *watcher) renew() error {
	token, err := readSmall(w.config.TokenFile)
	if err != nil {
		return fmt.Errorf("read token: %w", err)
	}
	w.token = strings.TrimSpace(string(token))
	if strings.ContainsAny(w.token, "\r\n") || w.token == "" {
		return fmt.Errorf("read token: %s holds none", w.config.TokenFile)
	}
	ca, err := readSmall(w.config.CAFile)
	if err != nil {
		return fmt.Errorf("read CA: %w", err)
	}
	if w.client != nil && bytes.Equal(ca, w.ca) {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return fmt.Errorf("read CA: %s holds no certificate", w.config.CAFile)
	}
	if w.client != nil {
		w.client.CloseIdleConnections()
	}
	w.ca = ca
	w.client = &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    5 * time.Second,
			ResponseHeaderTimeout:  w.silence,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}
