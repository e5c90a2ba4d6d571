package preempt

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// linkLocal is where AWS and Azure have their metadata.
	linkLocal = "http://" + linkLocalIP

	tokenPath     = "/latest/api/token"
	actionPath    = "/latest/meta-data/spot/instance-action"
	rebalancePath = "/latest/meta-data/events/recommendations/rebalance"

	tokenLife  = 6 * time.Hour
	tokenEarly = 15 * time.Second // before its end it is replaced
	awsTimeout = 2 * time.Second
	awsPeriod  = 2 * time.Second
	awsEvery   = 500 * time.Millisecond // for a token of the bucket
	awsJitter  = 500 * time.Millisecond
	awsNotice  = 2 * time.Minute // the longest
)

// cleanPolls is after how many of them in a row a notice counts as withdrawn.
const cleanPolls = 2

// aws is a source: the instance metadata service, version 2.
type aws struct {
	w *Watcher
	*client
	base string

	token     string // "": none
	expires   time.Time
	rebalance string    // the last recommendation
	active    bool      // there was a notice
	clean     int       // polls in a row without it
	claimed   time.Time // the time of the notice as AWS has it
	latest    time.Time // that the notice may end, as of when claimed was first seen
}

func newAWS(w *Watcher) *aws {
	w.tokens.pace(awsEvery)
	return &aws{w: w, client: w.newClient(w.tokens.take), base: w.local}
}

func (a *aws) poll(ctx context.Context) (time.Duration, error) {
	body, found, err := a.read(ctx, actionPath)
	if err != nil {
		return 0, err
	}
	if found {
		n, err := parseAction(body)
		if err != nil {
			return 0, err
		}
		n.Deadline = a.bound(n.Deadline, time.Now())
		a.active, a.clean = true, 0
		a.w.notice(n)
	} else if a.clean++; a.active && a.clean >= cleanPolls {
		a.active, a.claimed = false, time.Time{}
		a.w.notice(Notice{})
	}
	if body, found, err := a.read(ctx, rebalancePath); err == nil { // else it is missed, and asked for again
		a.recommended(body, found)
	}
	return awsPeriod + rand.N(awsJitter), nil
}

// recommended hands on a recommendation to move elsewhere, each once.
func (a *aws) recommended(body string, found bool) {
	if !found {
		a.rebalance = ""
		return
	}
	var r struct{ NoticeTime string }
	if json.Unmarshal([]byte(body), &r) != nil || r.NoticeTime == a.rebalance {
		return
	}
	a.rebalance = r.NoticeTime
	a.w.hint(Hint{Kind: "rebalance", Detail: r.NoticeTime})
}

// bound is the deadline of a notice. One after more than two minutes is a clock's
// mistake. It is the same in each poll that has the same time, lest it be news.
func (a *aws) bound(claimed, now time.Time) time.Time {
	if !claimed.Equal(a.claimed) {
		a.claimed, a.latest = claimed, now.Add(awsNotice).Truncate(time.Second).UTC()
	}
	if claimed.After(a.latest) {
		return a.latest
	}
	return claimed
}

// parseAction reads what is to become of a spot instance. A time in the past
// means at once.
func parseAction(body string) (Notice, error) {
	var action struct{ Action, Time string }
	if err := json.Unmarshal([]byte(body), &action); err != nil || action.Action == "" {
		return Notice{}, garbage("spot/instance-action", body)
	}
	n := Notice{Active: true, Reason: "AWS will " + clip(action.Action) + " this spot instance"}
	if at, err := time.Parse(time.RFC3339, action.Time); err == nil { // else what matters is that it is there
		n.Deadline = at.UTC()
	}
	return n, nil
}

// clip bounds a word of others in what people read.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), 64)], "")
}

// read reads a value, which may not exist.
func (a *aws) read(ctx context.Context, path string) (body string, found bool, err error) {
	for again := false; ; again = true {
		if err := a.renew(ctx); err != nil {
			return "", false, err
		}
		got, err := a.do(ctx, request{method: http.MethodGet, url: a.base + path, header: [2]string{"X-aws-ec2-metadata-token", a.token}, timeout: awsTimeout})
		var f *fault
		switch {
		case err == nil:
			return got.body, true, nil
		case !errors.As(err, &f):
			return "", false, err
		case f.code == http.StatusNotFound:
			return "", false, nil
		case f.code == http.StatusUnauthorized && !again:
			a.token = "" // it was forgotten, or the clock jumped
			continue
		}
		return "", false, err
	}
}

// renew gets a token when there is none, or not for long.
func (a *aws) renew(ctx context.Context) error {
	if a.token != "" && time.Until(a.expires) > tokenEarly {
		return nil
	}
	a.token = ""
	asked := time.Now()
	got, err := a.do(ctx, request{
		method: http.MethodPut, url: a.base + tokenPath, timeout: awsTimeout,
		header: [2]string{"X-aws-ec2-metadata-token-ttl-seconds", strconv.Itoa(int(a.w.cfg.life.Seconds()))},
	})
	if err != nil {
		return err
	}
	token := strings.TrimSpace(got.body)
	if token == "" || strings.Trim(token, tokenBytes) != "" {
		return &fault{kind: "garbage", err: errToken} // which is not shown: it may be one
	}
	a.token, a.expires = token, asked.Add(a.w.cfg.life)
	return nil
}

const tokenBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_."

var errToken = errors.New("the token of the metadata server is none")

func (a *aws) hint(f *fault) string {
	if a.token == "" && (f.final() || f.kind == "timeout") {
		return "AWS answers pods only with a hop limit of 2: aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2, or use hostNetwork"
	}
	return ""
}
