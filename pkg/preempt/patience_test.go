package preempt

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const otherPath = "/other" // beside which no maintenance-event is asked for

var logged = regexp.MustCompile(`^time=(\S+) level=WARN msg="cannot ask the metadata server" .* count=(\d+)`)

func TestARepeatedErrorIsLoggedOnceAMinuteWithACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.hosts[googleAddr] = newGoogle(t)
		n.set("503")
		w := watch(n, Config{URL: "http://" + googleHost + otherPath})
		time.Sleep(10*time.Minute + time.Second)
		w.end()
		var last time.Time
		total, lines := 0, w.lines()[1:]
		for i, l := range lines {
			m := logged.FindStringSubmatch(l)
			if m == nil {
				t.Fatalf("%q", l)
			}
			at, err := time.Parse(time.RFC3339, m[1])
			count, _ := strconv.Atoi(m[2])
			if err != nil || at.Sub(last) < logEvery || i == 0 && count != 1 {
				t.Errorf("%v after the one before: %q, %v", at.Sub(last), l, err)
			}
			total, last = total+count, at
		}
		failed := 0
		for _, at := range n.times {
			if !at.Truncate(time.Millisecond).After(last) { // the log has milliseconds
				failed++
			}
		}
		if len(lines) < 6 || len(lines) > 11 || total != failed {
			t.Errorf("%d lines, which count %d of %d failures", len(lines), total, failed)
		}
	})
}

// mute never answers those who wait for a change.
type mute struct{ *googleServer }

func (m mute) serve(ctx context.Context, r *http.Request) response {
	if r.URL.Query().Has("wait_for_change") {
		<-ctx.Done()
	}
	return response{200, map[string]string{"ETag": "0123456789abcdef"}, "FALSE"}
}

func TestALongPollMayTakeTenSecondsMoreThanItsTime(t *testing.T) {
	for query, want := range map[string]time.Duration{"": 70 * time.Second, "?timeout_sec=7": 17 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			n.hosts[googleAddr] = mute{newGoogle(t)}
			w := watch(n, Config{URL: "http://" + googleHost + otherPath + query})
			time.Sleep(want + firstRetry)
			w.end()
			if len(n.times) < 3 {
				t.Fatalf("%q: %d requests", query, len(n.times))
			}
			if took := n.times[2].Sub(n.times[1]); took < want || took > want+firstRetry {
				t.Errorf("%q: it was given up after %v, not %v", query, took, want)
			}
			if got := w.Stats().Requests; got["timeout"] != 1 || !strings.Contains(fmt.Sprint(w.lines()), "cannot ask") {
				t.Errorf("%q: %v", query, got)
			}
		})
	}
}
