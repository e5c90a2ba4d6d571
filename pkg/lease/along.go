package lease

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Bounds of one request for many locks: servers take 64 KiB, and JSON may need six bytes for one of a key.
const (
	maxAlong     = 100
	maxAlongKeys = 8 << 10
)

// errOdd says that an answer is not for what was asked.
var errOdd = errors.New("the answer of shared-lock is for other locks")

// holds are those of a client that are renewed by /v1. When one is due, others go along in the same request whose time is half over: so
// holds of about the same TTL need about as many requests as one of them.
type holds struct {
	mu  sync.Mutex // guards all
	all map[*hold]bool
}

func (s *holds) join(h *hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[*hold]bool)
	}
	s.all[h] = true
}

func (s *holds) leave(h *hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, h)
}

// along returns a hold that is due, first, and those that go along with it. All count as asked for then.
func (s *holds) along(due *hold, now time.Duration) []*hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	due.asked = now
	all, size := []*hold{due}, len(due.lock.req.Key)
	for h := range s.all {
		if h == due || len(all) == maxAlong || now-h.asked < h.lock.req.TTL/6 || size+len(h.lock.req.Key) > maxAlongKeys {
			continue
		}
		h.asked = now
		all, size = append(all, h), size+len(h.lock.req.Key)
	}
	return all
}

// renew renews the lock of a hold, and those of others where that costs nothing. The error is about its own.
func (h *hold) renew(ctx context.Context) error {
	all := h.lock.client.holds.along(h, Boottime())
	if len(all) > 1 {
		err := renewAll(ctx, all)
		if !errors.Is(err, ErrRefused) {
			return err
		}
		// The server does not do that for all of them.
	}
	if err := h.lock.Renew(ctx); err != nil {
		return err
	}
	h.renewed()
	return nil
}

// ref is a lock of a request for many, and renewal the answer for one.
type (
	ref struct {
		Key   string `json:"key"`
		Token int64  `json:"token"`
	}
	renewal struct {
		Token  int64  `json:"token"`
		Status string `json:"status"`
	}
)

// of tells if the answer is for a lock.
func (r *renewal) of(l *Lock) error {
	if r.Token != l.token {
		return fmt.Errorf("%w: token %d, not %d", errOdd, r.Token, l.token)
	}
	return nil
}

// renewAll renews the locks of holds in one request, and returns what became of the first. Of the others, those that are gone are told
// to ask for themselves.
func renewAll(ctx context.Context, all []*hold) error {
	var in struct {
		Locks []ref `json:"locks"`
	}
	for _, h := range all {
		in.Locks = append(in.Locks, ref{h.lock.req.Key, h.lock.token})
	}
	var out struct {
		Locks []renewal `json:"locks"`
	}
	sent := Boottime()
	if _, err := all[0].lock.client.do(ctx, http.MethodPut, "/v1/renew", in, &out); err != nil {
		return err
	}
	if len(out.Locks) != len(all) {
		return fmt.Errorf("%w: %d of %d", errOdd, len(out.Locks), len(all))
	}
	for i, h := range all {
		if err := out.Locks[i].of(h.lock); err != nil {
			return err
		}
		switch status := out.Locks[i].Status; {
		case status == "ok":
			h.lock.acknowledged(sent)
			h.renewed()
		case status == "gone" && i > 0:
			h.nudge()
		}
	}
	switch status := out.Locks[0].Status; status {
	case "ok":
		return nil
	case "gone":
		return ErrGone
	default:
		return fmt.Errorf("shared-lock could not tell: %.20q", status)
	}
}
