package lease

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrHeld says that another holds the lock.
	ErrHeld = errors.New("another holds the lock")
	// ErrRefused says that the server does not do that: the key or the TTL is bad, or who asks may not.
	ErrRefused = errors.New("refused")
	// ErrGone says that the lock is not held any more.
	ErrGone = errors.New("the server says that the lock is gone")
	// ErrLate says that the lock was not renewed in time.
	ErrLate = errors.New("the lock was not renewed in time")
)

// Request says which lock is wanted. All but Key and TTL is for people who look at who holds it.
type Request struct {
	Key              string
	TTL              time.Duration // 200 ms to 24 h
	Owner, Host, Pod string
	Labels           map[string]string
}

// margin is how long before the end of the TTL a lock is over for its holder: its clock may be slow.
func (r *Request) margin() time.Duration { return max(r.TTL/10, 50*time.Millisecond) }

// stopping is how long before that it is lost: what it protects must be killed.
func (r *Request) stopping() time.Duration {
	return min(max(r.TTL/20, 20*time.Millisecond), 250*time.Millisecond)
}

// Lock is one that is held, until it is released. All of its methods but Until are not to be called at
// the same time.
type Lock struct {
	client *Client
	key    *key
	req    Request
	token  int64
	lease  string       // of the old protocol
	until  atomic.Int64 // a time.Duration, by Boottime

	mu sync.Mutex // held while until is changed: a lock may be renewed along with another
}

// Token is the fencing token, 0 where the server has none.
func (l *Lock) Token() int64 { return l.token }

// Until is when, by [Boottime], the lock is over unless it is renewed.
func (l *Lock) Until() time.Duration { return time.Duration(l.until.Load()) }

// acknowledged says that a request was answered with success.
func (l *Lock) acknowledged(sent time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until.Store(int64(max(l.Until(), sent+l.req.TTL-l.req.margin())))
}

// holder is what a server tells of one.
type holder struct{ Owner, Host, Pod string }

func (h *holder) String() string {
	switch {
	case h == nil:
		return "another"
	case h.Pod != "":
		return strconv.Quote(h.Owner) + " of pod " + strconv.Quote(h.Pod)
	case h.Host != "":
		return strconv.Quote(h.Owner) + " at " + strconv.Quote(h.Host)
	}
	return strconv.Quote(h.Owner)
}

// heldError is ErrHeld by somebody.
type heldError struct{ by *holder }

func (e *heldError) Error() string        { return "held by " + e.by.String() }
func (e *heldError) Is(target error) bool { return target == ErrHeld }

// Acquire asks for a lock and waits for it for up to wait, at most an hour. The error is [ErrHeld]
// if another holds it; every other one says that it is not known whether the lock is held. It may be
// called again then.
func (c *Client) Acquire(ctx context.Context, req Request, wait time.Duration) (*Lock, error) {
	k := c.keys.of(req.Key)
	if err := k.enter(ctx, wait); err != nil {
		return nil, err
	}
	l := &Lock{client: c, key: k, req: req}
	err := l.acquire(ctx, wait)
	if errors.Is(err, errHadIt) {
		err = l.acquire(ctx, wait)
	}
	var r *refusal
	if errors.As(err, &r) && r.isUnknown() {
		err = l.acquireOld(ctx)
	}
	if err != nil {
		k.leave()
		return nil, err
	}
	return l, nil
}

// errHadIt says that the session had the lock already, of an acquire whose answer was lost or of a
// release that did not get through. The server may undo either at any moment, so it is given back.
var errHadIt = errors.New("the session still had the lock")

// acquireBody is the request of /v1.
type acquireBody struct {
	Owner     string            `json:"owner,omitempty"`
	Host      string            `json:"host,omitempty"`
	Pod       string            `json:"pod,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	TTL       string            `json:"ttl"`
	Wait      string            `json:"wait"`
	Session   string            `json:"session"`
	Reentrant bool              `json:"reentrant"` // so that we learn of errHadIt
}

// acquire speaks /v1.
func (l *Lock) acquire(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait+askTime)
	defer cancel()
	var out struct {
		Token    int64  `json:"token"`
		Cluster  string `json:"cluster"`
		WaitedMs int64  `json:"waitedMs"`
		TTLMs    int64  `json:"ttlMs"`
	}
	sent := Boottime()
	status, err := l.client.do(ctx, http.MethodPost, path(l.req.Key)+"/acquire", acquireBody{
		l.req.Owner, l.req.Host, l.req.Pod, l.req.Labels, l.req.TTL.String(), wait.String(), l.client.session, true,
	}, &out)
	var r *refusal
	switch {
	case errors.As(err, &r) && r.code == "held":
		return &heldError{r.holder}
	case err != nil:
		return err
	case out.Token <= 0 || out.WaitedMs < 0 || out.TTLMs <= 0:
		return fmt.Errorf("decode answer of shared-lock: token %d, %d ms after %d ms", out.Token, out.TTLMs, out.WaitedMs)
	}
	l.token = out.Token
	l.req.TTL = min(l.req.TTL, time.Duration(out.TTLMs)*time.Millisecond)
	if status != http.StatusCreated {
		return errors.Join(errHadIt, l.end(ctx))
	}
	// The wait was over before the lock was had. It cannot have been longer than ours.
	l.acknowledged(sent + min(time.Duration(out.WaitedMs)*time.Millisecond, wait, Boottime()-sent))
	return nil
}

func path(key string) string { return "/v1/locks/" + url.PathEscape(key) }

// Renew asks for another TTL. The error is [ErrGone] if the lock is gone; every other one says that
// it is not known.
func (l *Lock) Renew(ctx context.Context) error {
	sent := Boottime()
	if err := l.renew(ctx); err != nil {
		return err
	}
	l.acknowledged(sent)
	return nil
}

func (l *Lock) renew(ctx context.Context) error {
	if l.lease != "" {
		return l.keepOld(ctx)
	}
	var out renewal
	if _, err := l.client.do(ctx, http.MethodPut, path(l.req.Key)+"/renew", map[string]int64{"token": l.token}, &out); err != nil {
		return gone(err)
	}
	return out.of(l) // else whoever says 200 to everything would renew
}

// Release gives the lock back, after which it is not used any more. That it is gone already is no
// error.
func (l *Lock) Release(ctx context.Context) error {
	defer l.key.leave()
	return l.end(ctx)
}

func (l *Lock) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var err error
	if l.lease != "" {
		err = l.releaseOld(ctx)
	} else {
		_, err = l.client.do(ctx, http.MethodDelete, path(l.req.Key)+"?token="+strconv.FormatInt(l.token, 10), nil, nil)
		err = gone(err)
	}
	if errors.Is(err, ErrGone) {
		return nil
	}
	return err
}

// gone makes ErrGone of the answer that says so.
func gone(err error) error {
	var r *refusal
	if errors.As(err, &r) && r.status == http.StatusGone {
		return ErrGone
	}
	return err
}
