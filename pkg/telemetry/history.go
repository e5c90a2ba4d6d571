package telemetry

import (
	"math"
	"time"
)

const (
	historyTime   = 10 * time.Minute
	historyPoints = int(historyTime / sampleEvery)
)

// Point is what a process tree used at a time.
type Point struct {
	Time       time.Time
	CPUPercent float64 // since the point before, 100 is one core
	Memory     int64   // resident bytes
}

// history is a ring of points. It is small, for there may be a thousand of it.
type history struct {
	ring []sample
	next int
}

type sample struct {
	unix   int64 // seconds
	cpu    float32
	memory uint32 // KiB
}

// add notes what is used now. With a memory limit there are looks every second, of
// which one in ten is noted.
func (h *history) add(u Usage) {
	at := u.Time.Unix()
	if n := len(h.ring); n > 0 {
		last := h.ring[(h.next+n-1)%n]
		if at-last.unix < int64(sampleEvery/time.Second)-1 && at >= last.unix {
			return
		}
	}
	p := sample{at, float32(u.CPUPercent), uint32(min(u.Memory>>10, math.MaxUint32))}
	if len(h.ring) < historyPoints {
		h.ring = append(h.ring, p)
		return
	}
	h.ring[h.next] = p
	h.next = (h.next + 1) % historyPoints
}

// points returns the samples of the last ten minutes before now.
func (h *history) points(now time.Time) []Point {
	oldest := now.Add(-historyTime).Unix()
	var all []Point
	for i := range h.ring {
		if s := h.ring[(h.next+i)%len(h.ring)]; s.unix >= oldest {
			all = append(all, Point{time.Unix(s.unix, 0), float64(s.cpu), int64(s.memory) << 10})
		}
	}
	return all
}
