package lock

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of what clients may ask for.
const (
	minTTL     = 200 * time.Millisecond
	maxTTL     = 24 * time.Hour
	defaultTTL = 10 * time.Second
	maxDelay   = time.Hour
	maxWait    = time.Hour
	maxKey     = 512
	maxSlots   = 1000
	maxRefs    = 1000
	maxBody    = 64 << 10
	maxText    = 1024 // owner, host, pod
	maxList    = 10000
)

// problem is an answer that is not a success.
type problem struct {
	status  int
	code    string
	message string
}

func (p *problem) Error() string { return p.message }

func bad(code, format string, args ...any) *problem {
	return &problem{http.StatusBadRequest, code, fmt.Sprintf(format, args...)}
}

// checkKey tells what is wrong with a key.
func checkKey(key string) error {
	switch {
	case key == "":
		return bad("bad_key", "the key is empty")
	case len(key) > maxKey:
		return bad("bad_key", "the key has %d bytes, at most %d are possible", len(key), maxKey)
	case !utf8.ValidString(key):
		return bad("bad_key", "the key is not valid UTF-8")
	case strings.ContainsFunc(key, unicode.IsControl):
		return bad("bad_key", "the key %q has control characters", key)
	}
	return nil
}

func checkNamespace(namespace string) error {
	ok := len(namespace) <= 63 && !strings.ContainsFunc(namespace, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	})
	if !ok {
		return bad("bad_namespace", "the namespace %.80q is none: it is 1 to 63 of A-Z a-z 0-9 . _ -", namespace)
	}
	return nil
}

// parseTTL reads a TTL; "" is the default.
func parseTTL(text string) (time.Duration, error) {
	if text == "" {
		return defaultTTL, nil
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, bad("bad_ttl", "the TTL %.80q is no duration: write 500ms, 10s or 1h", text)
	case d < minTTL || d > maxTTL:
		return 0, bad("bad_ttl", "the TTL %s is not between 200ms and 24h", text)
	}
	return d, nil
}

// parseBounded reads a duration between 0 and most; "" is 0.
func parseBounded(name, text string, most time.Duration) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > most {
		return 0, bad("bad_request", "%s %.80q is no duration between 0s and %s", name, text, most)
	}
	return d, nil
}

func parseToken(text string) (int64, error) {
	token, err := strconv.ParseInt(text, 10, 64)
	if err != nil || token <= 0 {
		return 0, bad("bad_request", "token %.80q is no token: it is the number that acquire returned", text)
	}
	return token, nil
}

// acquireBody is the JSON of acquire.
type acquireBody struct {
	Owner     string            `json:"owner"`
	Host      string            `json:"host"`
	Pod       string            `json:"pod"`
	Labels    map[string]string `json:"labels"`
	TTL       string            `json:"ttl"`
	Wait      string            `json:"wait"`
	Session   string            `json:"session"`
	Reentrant bool              `json:"reentrant"`
	Slots     *int              `json:"slots"`
	LockDelay string            `json:"lockDelay"`
}

// request checks the body and translates it.
func (b *acquireBody) request(name Name) (req Request, wait time.Duration, err error) {
	req = Request{Name: name, Owner: b.Owner, Host: b.Host, Pod: b.Pod, Labels: b.Labels, Session: b.Session,
		Reentrant: b.Reentrant, Slots: 1}
	if b.Slots != nil {
		req.Slots = *b.Slots
	}
	if req.TTL, err = parseTTL(b.TTL); err != nil {
		return req, 0, err
	}
	if req.LockDelay, err = parseBounded("lockDelay", b.LockDelay, maxDelay); err != nil {
		return req, 0, err
	}
	if wait, err = parseBounded("wait", b.Wait, maxWait); err != nil {
		return req, 0, err
	}
	switch {
	case req.Slots < 1 || req.Slots > maxSlots:
		return req, 0, bad("bad_request", "slots %d is not between 1 and %d", req.Slots, maxSlots)
	case req.Session != "" && (len(req.Session) < 16 || len(req.Session) > 128):
		return req, 0, bad("bad_request", "session has %d bytes: it is a secret of 16 to 128", len(req.Session))
	case req.Reentrant && req.Session == "":
		return req, 0, bad("bad_request", "reentrant needs a session")
	case len(b.Owner) > maxText || len(b.Host) > maxText || len(b.Pod) > maxText:
		return req, 0, bad("bad_request", "owner, host and pod have at most %d bytes each", maxText)
	}
	return req, wait, nil
}
