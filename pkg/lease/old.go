package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// oldTTL is what a server of the old protocol is asked for: such cut a TTL to whole seconds, and know
// none below two.
func oldTTL(ttl time.Duration) time.Duration {
	return max((ttl + time.Second - 1).Truncate(time.Second), 2*time.Second)
}

// acquireOld speaks the old protocol, which does not wait.
func (l *Lock) acquireOld(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if l.reclaim(ctx) {
		return nil
	}
	body, err := json.Marshal(map[string]any{
		"key": l.req.Key, "value": l.req.Owner, "labels": l.req.Labels, "timestamp": time.Now().UTC().Format(time.RFC3339),
	})
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	sent := Boottime()
	a, err := l.client.send(ctx, request{http.MethodPost, "/lease", body, http.Header{
		"Content-Type": {"application/json"}, "X-Lease-Ttl": {oldTTL(l.req.TTL).String()},
	}})
	switch {
	case err != nil:
		return err
	case a.status == http.StatusAccepted:
		return &heldError{}
	case a.status != http.StatusCreated:
		return refusalOf(a)
	}
	l.lease = strings.TrimSpace(string(a.text))
	if id, err := strconv.ParseInt(l.lease, 10, 64); err != nil || id <= 0 {
		return fmt.Errorf("decode answer of shared-lock: %.40q is no lease id", a.text)
	}
	l.token, _ = strconv.ParseInt(a.header.Get("X-Fencing-Token"), 10, 64) // 0: it has none
	l.acknowledged(sent)
	return nil
}

// reclaim takes up a lock that could not be released and is still ours.
func (l *Lock) reclaim(ctx context.Context) bool {
	l.lease, l.key.lease = l.key.lease, ""
	if l.lease == "" || Boottime() >= l.key.until || l.Renew(ctx) != nil {
		l.lease = ""
		return false
	}
	return true
}

func (l *Lock) keepOld(ctx context.Context) error {
	return l.client.old(ctx, http.MethodPost, "/keepalive", l.lease)
}

// releaseOld releases where the server can do that, which was added to the protocol later.
func (l *Lock) releaseOld(ctx context.Context) error {
	err := l.client.old(ctx, http.MethodDelete, "/lease", l.lease)
	var r *refusal
	if errors.As(err, &r) && (r.status == http.StatusNotFound || r.status == http.StatusMethodNotAllowed) {
		l.key.lease, l.key.until = l.lease, l.Until()
		return nil // its TTL will
	}
	return err
}

func (c *Client) old(ctx context.Context, method, path, lease string) error {
	a, err := c.send(ctx, request{method: method, path: path, body: []byte(lease)})
	switch {
	case err != nil:
		return err
	case a.status == http.StatusNoContent:
		return ErrGone
	case a.status != http.StatusOK:
		return refusalOf(a)
	}
	return nil
}
