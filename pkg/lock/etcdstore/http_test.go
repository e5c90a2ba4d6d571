package etcdstore

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func stringReader(s string) io.Reader { return strings.NewReader(s) }

func TestOldProtocol(t *testing.T) {
	r := startReplica(t)
	body := `{"key":"a","value":"me","labels":{"x":"y"},"timestamp":"2026-01-01T00:00:00Z"}`
	status, id, header := r.do(t, "POST", "/lease", body, "x-lease-ttl", "2s")
	if status != 201 {
		t.Fatalf("lease: %d %s", status, id)
	}
	if n, err := strconv.ParseInt(id, 10, 64); err != nil || n <= 0 || header.Get("X-Fencing-Token") == "" {
		t.Errorf("lease id %q, token %q", id, header.Get("X-Fencing-Token"))
	}
	for range 3 {
		if status, text, _ := r.do(t, "POST", "/lease", body, "x-lease-ttl", "2s"); status != 202 || text != "" {
			t.Errorf("second lease: %d %q, want 202 without a body", status, text)
		}
	}
	if status, text, _ := r.do(t, "POST", "/keepalive", id); status != 200 || text != "" {
		t.Errorf("keepalive: %d %q", status, text)
	}
	eventually(t, 30*time.Second, "the lock ends", func() error {
		status, text, _ := r.do(t, "POST", "/lease", body, "x-lease-ttl", "2s")
		if status != 201 {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
	if status, text, _ := r.do(t, "POST", "/keepalive", id); status != 204 || text != "" {
		t.Errorf("keepalive of an old lease: %d %q", status, text)
	}
}

// acquired is what acquire answers.
type acquired struct {
	Token int64
	TTL   int64 `json:"ttlMs"`
	Slot  int
}

// acquire tries to get a lock.
func (r *replica) acquire(t *testing.T, key, body string) (acquired, int, string) {
	t.Helper()
	status, text, _ := r.do(t, "POST", "/v1/locks/"+key+"/acquire", body)
	var a acquired
	if status < 300 {
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatalf("acquire: %v in %s", err, text)
		}
	}
	return a, status, text
}

// must acquires a lock that is free.
func (r *replica) must(t *testing.T, key, body string) acquired {
	t.Helper()
	a, status, text := r.acquire(t, key, body)
	if status != http.StatusCreated {
		t.Fatalf("acquire %s: %d %s", key, status, text)
	}
	return a
}

func (r *replica) renew(t *testing.T, key string, token int64) int {
	t.Helper()
	status, _, _ := r.do(t, "PUT", "/v1/locks/"+key+"/renew", fmt.Sprintf(`{"token":%d}`, token))
	return status
}

func (r *replica) release(t *testing.T, key string, token int64) int {
	t.Helper()
	status, _, _ := r.do(t, "DELETE", fmt.Sprintf("/v1/locks/%s?token=%d", key, token), "")
	return status
}

func TestLifeOfALock(t *testing.T) {
	for name, extra := range map[string]string{"with a lease of its own": "", "on a session": `,"session":"0123456789abcdef"`} {
		t.Run(name, func(t *testing.T) {
			r := startReplica(t)
			a := r.must(t, "a", `{"owner":"me","ttl":"5s"`+extra+`}`)
			_, status, text := r.acquire(t, "a", `{"owner":"other"}`)
			if status != 409 || !strings.Contains(text, `"owner":"me"`) || strings.Contains(text, `"token"`) {
				t.Errorf("acquire by another: %d %s", status, text)
			}
			if got := r.renew(t, "a", a.Token); got != 200 {
				t.Errorf("renew: %d", got)
			}
			if got := r.renew(t, "a", a.Token+1); got != 410 {
				t.Errorf("renew with another token: %d", got)
			}
			if got := r.release(t, "a", a.Token+1); got != 410 {
				t.Errorf("release with another token: %d", got)
			}
			if got := r.release(t, "a", a.Token); got != 204 {
				t.Errorf("release: %d", got)
			}
			if got := r.renew(t, "a", a.Token); got != 410 {
				t.Errorf("renew after the release: %d", got)
			}
			if b := r.must(t, "a", `{"owner":"other"`+extra+`}`); b.Token <= a.Token {
				t.Errorf("token %d after %d", b.Token, a.Token)
			}
		})
	}
}
