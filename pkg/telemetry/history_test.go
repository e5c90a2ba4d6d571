package telemetry

import (
	"testing"
	"time"
)

func TestHistoryIsTheLastTenMinutes(t *testing.T) {
	var h history
	began := time.Unix(1_700_000_000, 0)
	for i := range 1000 { // a look each second
		h.add(Usage{Time: began.Add(time.Duration(i) * time.Second), CPUPercent: float64(i), Memory: int64(i) << 20})
	}
	now := began.Add(999 * time.Second)
	all := h.points(now)
	if len(all) < 55 || len(all) > 60 {
		t.Fatalf("%d points", len(all))
	}
	for i, p := range all {
		if now.Sub(p.Time) > historyTime || p.Memory != int64(p.CPUPercent)<<20 {
			t.Errorf("%+v", p)
		}
		if i > 0 {
			if gap := p.Time.Sub(all[i-1].Time); gap < 9*time.Second || gap > 11*time.Second {
				t.Errorf("%v between two points", gap)
			}
		}
	}
	if len(h.points(now.Add(time.Hour))) != 0 {
		t.Error("there are points of an hour ago")
	}
	h.add(Usage{Time: began}) // the clock was set back
	if last := h.points(began)[len(h.points(began))-1]; !last.Time.Equal(began) {
		t.Errorf("the last point is %+v", last)
	}
}
