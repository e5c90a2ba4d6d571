package output

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheRateLimitDropsCountsAndReports(t *testing.T) {
	p := &Pump{}
	var counters Counters
	s := testStream(Wrap, nil)
	cfg := StreamConfig{RateLines: 10}
	s.limit, s.counters = newLimiter(&cfg), &counters
	start := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	say := func(after time.Duration, lines int) string {
		p.now = start.Add(after)
		p.enc.setTime(p.now)
		p.encode(s, []byte(strings.Repeat("hi\n", lines)))
		s.counters.add(&p.enc.tally, 0)
		p.report(false)
		out := string(p.enc.out)
		p.enc.out = p.enc.out[:0]
		return out
	}
	for _, step := range []struct {
		name   string
		after  time.Duration
		lines  int
		passes int
		report string
	}{
		{"a burst of one second's worth passes", 0, 25, 10, ""},
		{"half a second later half of it", 500 * time.Millisecond, 25, 5, ""},
		{"after ten seconds the loss is reported", 10 * time.Second, 1, 2, ` dropped=35`},
		{"once", 10500 * time.Millisecond, 1, 1, ""},
		{"and never more than a burst is saved up", time.Minute, 11, 10, ""},
	} {
		got := say(step.after, step.lines)
		if strings.Count(got, "\n") != step.passes || strings.Contains(got, "dropped=") != (step.report != "") || !strings.Contains(got, step.report) {
			t.Errorf("%s: %q", step.name, got)
		}
	}
	if got := counters.Dropped(DroppedByRate); got != 36 {
		t.Errorf("%d dropped", got)
	}
	if at := p.nextReport(); !at.Equal(start.Add(70 * time.Second)) {
		t.Errorf("the next report comes at %v", at)
	}
}

func TestALineLargerThanTheByteRatePassesAndIsPaidForLater(t *testing.T) {
	cfg := StreamConfig{RateBytes: 100}
	l := newLimiter(&cfg)
	now := time.Unix(1, 0)
	var passed []int
	for second := range 6 {
		l.fill(now.Add(time.Duration(second) * time.Second))
		if l.take(250) {
			passed = append(passed, second)
		}
	}
	if !slices.Equal(passed, []int{0, 2, 5}) {
		t.Errorf("passed in seconds %v", passed)
	}
}

func TestTheLossIsReportedAtTheEndOfAStream(t *testing.T) {
	pump, read := runToFile(t)
	var counters Counters
	s, w := pump.feed(StreamConfig{RateLines: 1, Format: Plain, Counters: &counters})
	_, _ = w.WriteString(strings.Repeat("x\n", 1000))
	_ = w.Close()
	pump.drain(s)
	got := read()
	if len(got) != 2 || got[0] != "x\n" || !strings.HasSuffix(got[1], " dropped=999\n") || counters.Dropped(DroppedByRate) != 999 {
		t.Errorf("%d, %q", counters.Dropped(DroppedByRate), got)
	}
}
