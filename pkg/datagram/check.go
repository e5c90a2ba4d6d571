package datagram

import (
	"math"
	"strconv"
	"strings"
	"time"
)

func parseOp(s string) Op {
	for op := Inc; op < Add; op++ { // which JSON does not know
		if opNames[op] == s {
			return op
		}
	}
	return 0
}

// finish checks a message as a whole.
func (d *Decoder) finish() {
	m := &d.m
	m.Labels = d.labels
	switch {
	case m.Op == 0:
		d.refuse(Operation)
	case m.Op == Shutdown:
		return
	case m.Name == "" || len(m.Name) > maxName:
		d.refuse(Name)
	case len(m.ID) > maxID:
		d.refuse(IDDef)
	case !indexName(m.Index):
		d.refuse(IndexName)
	case m.Op == Inc && m.Value < 0:
		d.refuse(Negative)
	case !m.Buckets.OK():
		d.refuse(BucketDef)
	case m.Op.Metric() && reserved(m.Labels):
		d.refuse(Reserved)
	}
}

// ReservedLabel reports whether Prometheus keeps a label name for itself.
func ReservedLabel(name string) bool {
	return name == "le" || name == "quantile" || len(name) > 1 && name[0] == '_' && name[1] == '_'
}

func reserved(labels []Label) bool {
	for _, l := range labels {
		if ReservedLabel(l.Name) {
			return true
		}
	}
	return false
}

// indexName reports whether s is empty or may begin the name of an index.
func indexName(s string) bool {
	if s == "" {
		return true
	}
	if len(s) > maxIndex || strings.IndexByte("-_+.", s[0]) >= 0 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c-'0' <= 9 || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

var lastTime = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

func parseTime(s string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return parseUnix(s)
	}
	return t, t.Unix() >= 0 && t.Before(lastTime)
}

// parseUnix reads seconds, milliseconds, microseconds or nanoseconds, by how
// many digits there are.
func parseUnix(s string) (time.Time, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		var t time.Time
		switch {
		case n < 0:
			return t, false
		case n < 1e11:
			t = time.Unix(n, 0)
		case n < 1e14:
			t = time.UnixMilli(n)
		case n < 1e17:
			t = time.UnixMicro(n)
		default:
			t = time.Unix(0, n)
		}
		return t.UTC(), t.Before(lastTime)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f < 1e17) {
		return time.Time{}, false
	}
	unit := 1e9
	switch {
	case f >= 1e14:
		unit = 1e3
	case f >= 1e11:
		unit = 1e6
	}
	perSecond := 1e9 / unit
	seconds := math.Floor(f / perSecond) // below 1e11, and as many nanoseconds would overflow
	t := time.Unix(int64(seconds), int64((f-seconds*perSecond)*unit)).UTC()
	return t, t.Before(lastTime)
}
