package preempt

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// amazonServer is the instance metadata service, version 2 only.
type amazonServer struct {
	t *testing.T

	mu      sync.Mutex // guards what follows
	tokens  int        // given
	token   string     // that is good, "": none
	expires time.Time
	values  map[string]string
}

func newAmazon(t *testing.T) *amazonServer {
	return &amazonServer{t: t, values: map[string]string{}}
}

func (a *amazonServer) put(path, value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.values[path] = value; value == "" {
		delete(a.values, path)
	}
}

func (a *amazonServer) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token = ""
}

func (a *amazonServer) given() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tokens
}

func (a *amazonServer) serve(_ context.Context, r *http.Request) response {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.URL.Path == tokenPath {
		ttl, err := strconv.Atoi(r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds"))
		switch {
		case r.Method != http.MethodPut || r.Header.Get("X-Forwarded-For") != "":
			return response{403, nil, ""}
		case err != nil || ttl < 1 || ttl > 21600:
			return response{400, nil, ""}
		}
		a.tokens++
		a.token = fmt.Sprintf("AQAEAsecret%d==", a.tokens)
		a.expires = time.Now().Add(time.Duration(ttl) * time.Second)
		return response{200, nil, a.token}
	}
	if a.token == "" || r.Header.Get("X-aws-ec2-metadata-token") != a.token || time.Now().After(a.expires) {
		return response{401, nil, ""}
	}
	if v, ok := a.values[r.URL.Path]; ok {
		return response{200, nil, v}
	}
	return response{404, nil, ""}
}

func onAmazon(t *testing.T, f func(t *testing.T, n *network, a *amazonServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, a := newNetwork(t), newAmazon(t)
		n.hosts["169.254.169.254:80"] = a
		f(t, n, a)
	})
}

func TestASpotInterruptionIsSeenAndMayBeWithdrawn(t *testing.T) {
	onAmazon(t, func(t *testing.T, n *network, a *amazonServer) {
		w := watch(n, Config{Provider: AWS})
		time.Sleep(time.Minute)
		if got := n.count(); got > 62 {
			t.Errorf("%d requests in a quiet minute", got)
		}
		at := time.Now().Add(2 * time.Minute).UTC().Truncate(time.Second)
		action := fmt.Sprintf(`{"action": "terminate", "time": "%s"}`, at.Format(time.RFC3339))
		began := time.Now()
		a.put(actionPath, action)
		time.Sleep(10 * time.Second)
		want := Notice{Active: true, Reason: "AWS will terminate this spot instance", Deadline: at}
		if got := w.told(); len(got) != 1 || got[0] != want || w.at[0].Sub(began) > awsPeriod+awsJitter {
			t.Fatalf("%+v", got)
		}
		// A poll without it, an outage, and it is there again: nothing is withdrawn.
		a.put(actionPath, "")
		time.Sleep(awsPeriod)
		a.put(actionPath, action)
		n.set("503")
		time.Sleep(20 * time.Second)
		n.set("")
		time.Sleep(30 * time.Second)
		if got := w.told(); len(got) != 1 {
			t.Fatalf("%+v", got)
		}
		a.put(actionPath, "")
		time.Sleep(10 * time.Second)
		if got := w.told(); len(got) != 2 || got[1].Active {
			t.Fatalf("%+v", got)
		}
		a.put(actionPath, action)
		time.Sleep(10 * time.Second)
		if got := w.told(); len(got) != 3 || got[2] != want {
			t.Errorf("%+v", got)
		}
		w.end()
	})
}

func TestATimeTooFarAheadIsOneNoticeThatStays(t *testing.T) {
	onAmazon(t, func(t *testing.T, n *network, a *amazonServer) {
		w := watch(n, Config{Provider: AWS})
		began := time.Now().UTC()
		action := `{"action": "terminate", "time": "` + began.Add(time.Hour).Format(time.RFC3339) + `"}`
		a.put(actionPath, action)
		time.Sleep(time.Minute)
		latest := began.Add(awsNotice + awsPeriod + awsJitter) // it may be seen a poll later
		if got := w.told(); len(got) != 1 || got[0].Deadline.After(latest) || got[0].Deadline.Before(began.Add(awsNotice-time.Second)) {
			t.Fatalf("%+v", got)
		}
		a.put(actionPath, "")
		time.Sleep(10 * time.Second)
		a.put(actionPath, action)
		began = time.Now().UTC()
		time.Sleep(time.Minute)
		latest = began.Add(awsNotice + awsPeriod + awsJitter)
		if got := w.told(); len(got) != 3 || got[2].Deadline.After(latest) || got[2].Deadline.Before(began.Add(awsNotice-time.Second)) {
			t.Errorf("after one that was withdrawn: %+v", got)
		}
		w.end()
	})
}

func TestAnActionIsReadAsItMayCome(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for body, want := range map[string]time.Time{
		`{"action":"stop","time":"2026-01-02T03:05:05Z"}`:      now.Add(time.Minute),
		`{"action":"terminate","time":"2026-01-02T03:00:00Z"}`: now.Add(-4*time.Minute - 5*time.Second), // act now
		`{"action":"terminate","time":"2026-01-02T09:00:00Z"}`: now.Add(2 * time.Minute),                // a clock's mistake
		`{"action":"hibernate","time":"soon"}`:                 {},
		`{"action":"hibernate"}`:                               {},
	} {
		n, err := parseAction(body)
		if got := new(aws).bound(n.Deadline, now); err != nil || !n.Active || !got.Equal(want) {
			t.Errorf("%s: %+v %v, until %v", body, n, err, got)
		}
	}
	for _, body := range []string{"", "{}", "null", "<html>", `{"time":"2026-01-02T03:05:05Z"}`, `"terminate"`, `[{"action":"stop"}]`} {
		if n, err := parseAction(body); err == nil {
			t.Errorf("%s: %+v", body, n)
		}
	}
}

func FuzzParseAction(f *testing.F) {
	f.Add(`{"action":"stop","time":"2026-01-02T03:05:05Z"}`)
	f.Add(`{"action":1}`)
	f.Fuzz(func(t *testing.T, body string) {
		now := time.Now()
		n, err := parseAction(body)
		if (err == nil) != n.Active || new(aws).bound(n.Deadline, now).After(now.Add(awsNotice)) || len(n.Reason) > 200 {
			t.Errorf("%+v %v", n, err)
		}
	})
}

func TestTheTokenIsRenewedInTimeAndWhenItIsForgotten(t *testing.T) {
	onAmazon(t, func(t *testing.T, n *network, a *amazonServer) {
		w := watch(n, Config{Provider: AWS, life: 10 * time.Minute})
		time.Sleep(time.Minute)
		if a.given() != 1 {
			t.Errorf("%d tokens in a minute", a.given())
		}
		a.forget()
		time.Sleep(10 * time.Second)
		if got := w.Stats(); a.given() != 2 || !got.Up || got.Requests["401"] != 1 {
			t.Errorf("%d tokens, %+v", a.given(), got)
		}
		time.Sleep(10 * time.Minute)
		if got := w.Stats(); a.given() != 3 || got.Requests["401"] != 1 {
			t.Errorf("%d tokens, %+v", a.given(), got)
		}
		n.set("500")
		time.Sleep(time.Minute)
		w.end()
		if strings.Contains(w.log.String(), "secret") {
			t.Errorf("the log has the token: %s", w.log)
		}
	})
}

func TestAForgottenTokenDelaysNoNotice(t *testing.T) {
	onAmazon(t, func(t *testing.T, n *network, a *amazonServer) {
		w := watch(n, Config{Provider: AWS})
		time.Sleep(time.Second) // the burst is used up
		a.forget()
		a.put(actionPath, `{"action": "stop", "time": "2000-01-01T00:02:00Z"}`)
		time.Sleep(10 * time.Second)
		w.end()
		if len(w.notices) != 1 || w.at[0].Sub(n.times[0]) > awsPeriod+awsJitter || a.given() != 2 {
			t.Errorf("%+v after %v, with %d tokens", w.notices, w.at[0].Sub(n.times[0]), a.given())
		}
		if got := n.crowded(awsEvery); got != "" {
			t.Error(got)
		}
	})
}

func TestARebalanceRecommendationIsAHintOnce(t *testing.T) {
	onAmazon(t, func(t *testing.T, n *network, a *amazonServer) {
		w := watch(n, Config{Provider: AWS})
		a.put(rebalancePath, `{"noticeTime": "2026-01-02T03:04:05Z"}`)
		time.Sleep(time.Minute)
		w.end()
		if len(w.hints) != 1 || w.hints[0] != (Hint{"rebalance", "2026-01-02T03:04:05Z"}) || len(w.notices) > 0 {
			t.Errorf("%+v %+v", w.hints, w.notices)
		}
	})
}

func TestATokenThatIsNoneIsNeitherSentNorShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.hosts["169.254.169.254:80"] = portal{}
		w := watch(n, Config{Provider: AWS})
		time.Sleep(time.Minute)
		w.end()
		if strings.Contains(w.log.String(), "html") || w.Stats().Up {
			t.Errorf("%s", w.log)
		}
	})
}

// portal answers everything with its login page.
type portal struct{}

func (portal) serve(context.Context, *http.Request) response {
	return response{200, nil, "<html>\nX-Injected: 1"}
}
