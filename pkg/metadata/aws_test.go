package metadata

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// plain sends a request with headers, as pairs.
func plain(s http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://169.254.169.254"+target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func token(t *testing.T, s *Server, seconds int) string {
	t.Helper()
	w := plain(s, "PUT", "/latest/api/token", awsTTL, strconv.Itoa(seconds))
	if w.Code != 200 || w.Header().Get(awsTTL) != strconv.Itoa(seconds) {
		t.Fatalf("token: %d %s", w.Code, w.Header().Get(awsTTL))
	}
	return w.Body.String()
}

func TestAWSAnswers(t *testing.T) {
	for _, test := range []struct {
		name, method, target string
		header               []string
		status               int
		body                 string // "": any
	}{
		{"a value without a token", "GET", "/latest/meta-data/instance-id", nil, 401, ""},
		{"a value with a wrong token", "GET", "/latest/meta-data/instance-id", []string{awsToken, "x"}, 401, ""},
		{"a value", "GET", "/latest/meta-data/instance-id", []string{awsToken, "good"}, 200, "i-0123456789abcdef0"},
		{"a listing", "GET", "/latest/meta-data/placement/", []string{awsToken, "good"}, 200, "availability-zone\nregion"},
		{"a listing without the slash", "GET", "/latest/meta-data/placement", []string{awsToken, "good"}, 200, "availability-zone\nregion"},
		{"the listing of the top", "GET", "/latest/", []string{awsToken, "good"}, 200, "meta-data/"},
		{"no notice", "GET", "/latest/meta-data/spot/instance-action", []string{awsToken, "good"}, 404, ""},
		{"no time", "GET", "/latest/meta-data/spot/termination-time", []string{awsToken, "good"}, 404, ""},
		{"no recommendation", "GET", "/latest/meta-data/events/recommendations/rebalance", []string{awsToken, "good"}, 404, ""},
		{"another path", "GET", "/computeMetadata/v1/instance/preempted", []string{awsToken, "good"}, 404, ""},
		{"a value is not posted", "POST", "/latest/meta-data/instance-id", []string{awsToken, "good"}, 405, ""},
		{"a token is not got", "GET", "/latest/api/token", []string{awsTTL, "60"}, 405, ""},
		{"a token without a time", "PUT", "/latest/api/token", nil, 400, ""},
		{"a token for no time", "PUT", "/latest/api/token", []string{awsTTL, "0"}, 400, ""},
		{"a token for too long", "PUT", "/latest/api/token", []string{awsTTL, "21601"}, 400, ""},
		{"a token for a word", "PUT", "/latest/api/token", []string{awsTTL, "long"}, 400, ""},
		{"a token through a proxy", "PUT", "/latest/api/token", []string{awsTTL, "60", "X-Forwarded-For", "10.0.0.1"}, 403, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, Config{Personality: AWS})
			for i, value := range test.header {
				if value == "good" {
					test.header[i] = token(t, s, 60)
				}
			}
			w := plain(s, test.method, test.target, test.header...)
			if w.Code != test.status || test.body != "" && w.Body.String() != test.body {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, test.status, test.body)
			}
		})
	}
}

func TestAWSTokensEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{Personality: AWS})
		good := token(t, s, 60)
		time.Sleep(59 * time.Second)
		if w := plain(s, "GET", "/latest/meta-data/instance-id", awsToken, good); w.Code != 200 {
			t.Errorf("after 59 s: got %d, want 200", w.Code)
		}
		time.Sleep(time.Second)
		if w := plain(s, "GET", "/latest/meta-data/instance-id", awsToken, good); w.Code != 401 {
			t.Errorf("after 60 s: got %d, want 401", w.Code)
		}
	})
}

func TestAWSNotices(t *testing.T) {
	for _, test := range []struct {
		name           string
		notice         time.Duration
		action         string
		after          time.Duration // from the notice to its time
		hasTermination bool
	}{
		{"two minutes", 0, "terminate", 2 * time.Minute, true},
		{"another notice", time.Minute, "stop", time.Minute, false},
		{"a notice that came late", -time.Minute, "terminate", -time.Minute, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Config{Personality: AWS, Notice: test.notice})
				good := token(t, s, awsMaxTTL)
				get := func(path string) *httptest.ResponseRecorder {
					return plain(s, "GET", "/latest/meta-data/"+path, awsToken, good)
				}
				fields := map[string]string{"action": test.action}
				if _, err := s.Do(t.Context(), "preempt", fields); err != nil {
					t.Fatal(err)
				}
				want := time.Now().Add(test.after).UTC().Format(awsTime)
				for range 3 { // the time stands still, however often it is asked for
					var got struct{ Action, Time string }
					w := get("spot/instance-action")
					if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Action != test.action || got.Time != want {
						t.Errorf("got %s, want %s at %s", w.Body, test.action, want)
					}
					time.Sleep(10 * time.Second)
					s.Preempt()
				}
				if got := get("spot/termination-time").Code == 200; got != test.hasTermination {
					t.Errorf("there is a termination time: %t", got)
				}
				s.Cancel()
				if w := get("spot/instance-action"); w.Code != 404 {
					t.Errorf("after the notice was taken back: got %d %s", w.Code, w.Body)
				}
				s.Preempt()
				if w := get("spot/instance-action"); w.Code != 200 {
					t.Errorf("after a second notice: got %d", w.Code)
				}
			})
		})
	}
}

func TestAWSRecommendsARebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{Personality: All})
		want := `{"noticeTime":"` + time.Now().UTC().Format(awsTime) + `"}`
		s.Rebalance()
		time.Sleep(time.Minute)
		s.Rebalance()
		if w := plain(s, "GET", "/latest/meta-data/events/recommendations/rebalance", awsToken, token(t, s, 60)); w.Body.String() != want {
			t.Errorf("got %s, want %s", w.Body, want)
		}
	})
}

func TestAWSBoundsItsTokens(t *testing.T) {
	s := newServer(t, Config{Personality: AWS})
	for range awsMaxToken + 10 {
		token(t, s, 60)
	}
	if got := len(s.tokens); got > awsMaxToken {
		t.Errorf("%d tokens, want at most %d", got, awsMaxToken)
	}
}
