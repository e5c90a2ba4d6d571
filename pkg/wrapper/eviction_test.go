package wrapper

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/preempt"
	"github.com/process-wrapper/process-wrapper/pkg/status"
)

// evicted is a pod that can be evicted, and what it does about it.
type evicted struct {
	*eviction
	board *status.Board
	log   strings.Builder

	mu   sync.Mutex // guards said
	said []string
}

func evict(action string, envoy *preempt.Envoy) *evicted {
	e := &evicted{board: status.NewBoard()}
	e.eviction = (&eviction{
		action: action, board: e.board, envoy: envoy,
		end:   func(reason string) { e.say("end: " + reason) },
		back:  func() { e.say("back") },
		event: func(name, reason string) { e.say(name + ": " + reason) },
		log:   slog.New(slog.NewTextHandler(&e.log, nil)),
	}).ready()
	return e
}

func (e *evicted) say(s string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.said = append(e.said, s)
}

// count returns how often something was said.
func (e *evicted) count(s string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.said {
		if x == s {
			n++
		}
	}
	return n
}

func (e *evicted) pod() status.Pod {
	snap, _ := e.board.Load()
	return snap.Pod()
}

func TestANoticeIsReactedToOnce(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for action, want := range map[string]struct {
		preempted bool
		ends      int
	}{actionDrain: {true, 0}, actionTerminate: {true, 1}, actionNone: {false, 0}} {
		synctest.Test(t, func(t *testing.T) {
			e := evict(action, nil)
			for range 3 {
				e.notice("cloud", preempt.Notice{Active: true, Reason: "spot", Deadline: at})
			}
			e.notice("pod", preempt.Notice{Active: true, Reason: "taint"})
			got := e.pod()
			if got.Preempted != want.preempted || want.preempted && (got.Reason != "spot" || !got.Deadline.Equal(at)) {
				t.Errorf("%s: %+v", action, got)
			}
			time.Sleep(10 * time.Minute)
			if e.count("preempted: spot") != 1 || e.count("preemption_count: spot") != 60 || e.count("end: spot") != want.ends || len(e.said) != 61+want.ends {
				t.Errorf("%s: %q", action, e.said)
			}
			if n := e.state(); !n.Active || !e.deadline().Equal(at) {
				t.Errorf("%s: %+v", action, n)
			}
			e.close()
		})
	}
}

func TestANoticeMayBeWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := evict(actionDrain, nil)
		e.notice("cloud", preempt.Notice{Active: true, Reason: "spot"})
		e.notice("pod", preempt.Notice{Active: true, Reason: "taint"})
		time.Sleep(5500 * time.Millisecond)
		e.notice("cloud", preempt.Notice{})
		if got := e.pod(); !got.Preempted || got.Reason != "taint" {
			t.Errorf("with another notice left: %+v", got)
		}
		e.notice("pod", preempt.Notice{})
		if got := e.pod(); got != (status.Pod{}) {
			t.Errorf("%+v", got)
		}
		time.Sleep(time.Minute)
		if n := len(e.said); n < 7 || n > 8 || e.count("back") != 1 { // it has counted in between, and stopped
			t.Errorf("%q", e.said)
		}
		e.notice("cloud", preempt.Notice{Active: true, Reason: "spot"})
		if e.count("preempted: spot") != 2 || !e.pod().Preempted {
			t.Errorf("the next notice: %q", e.said)
		}
		e.close()
	})
}

func TestAnAnnouncementIsAnEventAndNothingElse(t *testing.T) {
	e := evict(actionTerminate, nil)
	for _, h := range []preempt.Hint{{Kind: "maintenance", Detail: "MIGRATE_ON_HOST_MAINTENANCE"}, {Kind: "rebalance", Detail: "2026-01-02T03:04:05Z"}, {Kind: "freeze", Detail: "Freeze"}} {
		e.hint(h)
	}
	e.close()
	if want := []string{"maintenance: MIGRATE_ON_HOST_MAINTENANCE", "rebalance: 2026-01-02T03:04:05Z", "freeze: Freeze"}; !slices.Equal(e.said, want) || e.pod() != (status.Pod{}) {
		t.Errorf("%q, %+v", e.said, e.pod())
	}
	if got := strings.Count(e.log.String(), "the cloud has an announcement"); got != 3 {
		t.Errorf("%d lines", got)
	}
}

func TestTheFirstDeadlineCounts(t *testing.T) {
	e := evict(actionDrain, nil)
	now := time.Now()
	e.notice("a", preempt.Notice{Active: true, Reason: "a"})
	e.notice("b", preempt.Notice{Active: true, Reason: "b", Deadline: now.Add(time.Hour)})
	e.notice("c", preempt.Notice{Active: true, Reason: "c", Deadline: now.Add(time.Minute)})
	if got := e.state(); got.Reason != "c" || e.pod().Reason != "c" {
		t.Errorf("%+v %+v", got, e.pod())
	}
	e.close()
}

func TestAPodThatDrainsKeepsItsReason(t *testing.T) {
	e := evict(actionDrain, nil)
	deadline := time.Now().Add(time.Minute)
	e.board.UpdatePod(func(p *status.Pod) { p.Draining, p.Reason, p.Deadline = true, "SIGTERM", deadline })
	e.notice("cloud", preempt.Notice{Active: true, Reason: "spot"})
	e.notice("cloud", preempt.Notice{})
	if got := e.pod(); got.Reason != "SIGTERM" || !got.Deadline.Equal(deadline) || !got.Draining {
		t.Errorf("%+v", got)
	}
	if got := reasonOf("SIGTERM", status.Pod{Preempted: true, Reason: "spot"}); got != "SIGTERM; spot" {
		t.Error(got)
	}
	if got := reasonOf("spot", status.Pod{Preempted: true, Reason: "spot"}); got != "spot" { // -preemption-action terminate
		t.Error(got)
	}
	e.close()
}

// admin is an Envoy that may be slow.
func admin(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) (*preempt.Envoy, *atomic.Int64) {
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		answer(w, r)
	}))
	t.Cleanup(srv.Close)
	envoy, err := preempt.NewEnvoy(srv.URL + "/drain_listeners?inboundonly&graceful")
	if err != nil {
		t.Fatal(err)
	}
	return envoy, &asked
}

func TestEnvoyIsDrainedOnceWhateverIsSaidHoweverOften(t *testing.T) {
	for action, want := range map[string]int64{actionDrain: 1, actionTerminate: 1, actionNone: 0} {
		envoy, asked := admin(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "OK") })
		e := evict(action, envoy)
		for range 3 {
			e.notice("cloud", preempt.Notice{Active: true, Reason: "spot"})
			e.notice("pod", preempt.Notice{Active: true, Reason: "taint"})
			e.notice("cloud", preempt.Notice{})
			e.notice("pod", preempt.Notice{})
		}
		e.close() // which waits for it
		if asked.Load() != want || want == 1 && !strings.Contains(e.log.String(), "Envoy stays drained") {
			t.Errorf("%s: %d times\n%s", action, asked.Load(), &e.log)
		}
	}
}

func TestASlowEnvoyHoldsNothingUp(t *testing.T) {
	envoy, _ := admin(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	e := evict(actionTerminate, envoy)
	began := time.Now()
	e.notice("cloud", preempt.Notice{Active: true, Reason: "spot"})
	if took := time.Since(began); took > 900*time.Millisecond || !e.pod().Preempted || e.count("end: spot") != 1 { // Envoy is waited for for a second
		t.Errorf("%v, %+v", took, e.pod())
	}
	e.close()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the pod ends after %v", took)
	}
}

func TestWhatEnvoySaysIsLoggedForWhoMustAct(t *testing.T) {
	envoy, _ := admin(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "skip_exit requires graceful", 400) })
	e := evict(actionDrain, envoy)
	e.notice("cloud", preempt.Notice{Active: true, Reason: "spot"})
	e.close()
	if got := e.log.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "400") || !strings.Contains(got, "skip_exit requires graceful") {
		t.Error(got)
	}
}

func TestASwitchThatIsNotUnderstoodIsNamed(t *testing.T) {
	for value, want := range map[string][2]bool{ // on, unclear
		"": {}, "0": {}, "false": {}, "False": {}, "disabled": {}, "off": {},
		"1": {true, false}, "true": {true, false}, "enabled": {true, false},
		"yes": {false, true}, "TRUE": {false, true}, "on": {false, true},
	} {
		if got := [2]bool{enabled(value), unclear(value)}; got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}
