package datagram

import (
	"math"
)

const (
	maxBuckets = 500

	defaultBuckets = 20
	defaultWidth   = 10
	defaultFirst   = 0.1 // of exponential ones
)

// Buckets says which buckets a histogram has. With Min and Max they are
// exponential from Min to Max, with Factor they are exponential from Start
// (0.1), with Custom they are as given, else Count (20) linear ones of Width
// (10) from Start. The first of these that is given counts.
type Buckets struct {
	Count        int
	Start, Width float64
	Factor       float64
	Min, Max     float64
	Custom       []float64
}

// OK reports whether the buckets make sense: at most 500, ascending, finite.
func (b *Buckets) OK() bool {
	if b == nil {
		return true
	}
	if b.Count > maxBuckets || len(b.Custom) > maxBuckets || b.negative() {
		return false
	}
	switch {
	case b.Min > 0 || b.Max > 0:
		return b.Min > 0 && b.Min < b.Max && b.count() > 1
	case b.Factor > 0 && b.Factor <= 1, b.Factor > 0 && b.Start < 0:
		return false
	}
	return ascending(b.Bounds())
}

func (b *Buckets) negative() bool {
	return b.Count < 0 || b.Width < 0 || b.Factor < 0 || b.Min < 0 || b.Max < 0
}

func (b *Buckets) count() int {
	if b.Count == 0 {
		return defaultBuckets
	}
	return b.Count
}

// Bounds returns the upper bounds, without +Inf. b may be nil, and is OK.
func (b *Buckets) Bounds() []float64 {
	if b == nil {
		b = &Buckets{}
	}
	if !(b.Min > 0 && b.Max > 0) && b.Factor == 0 && len(b.Custom) > 0 {
		return append([]float64(nil), b.Custom...)
	}
	out := make([]float64, b.count())
	switch {
	case b.Min > 0 && b.Max > 0:
		growth := math.Pow(b.Max/b.Min, 1/float64(len(out)-1))
		for i := range out {
			out[i] = b.Min * math.Pow(growth, float64(i))
		}
	case b.Factor > 0:
		next := b.Start
		if next == 0 {
			next = defaultFirst
		}
		for i := range out {
			out[i] = next
			next *= b.Factor
		}
	default:
		width := b.Width
		if width == 0 {
			width = defaultWidth
		}
		next := b.Start
		for i := range out {
			out[i] = next
			next += width
		}
	}
	return out
}

func ascending(bounds []float64) bool {
	last := math.Inf(-1)
	for _, x := range bounds {
		if !(x > last) || math.IsInf(x, 0) {
			return false
		}
		last = x
	}
	return true
}
