package collect

import (
	"sort"

	"github.com/prometheus/client_golang/prometheus"
)

// What a native histogram gets: buckets that grow by 10 %, at most so many.
const (
	nativeFactor  = 1.1
	nativeBuckets = 160
	nativeBytes   = 4096 // what one may come to take
)

// histogram is classic, or native with classic buckets where those were given.
type histogram struct {
	counts []uint64 // of each bucket alone, the last one is +Inf
	count  uint64
	sum    float64
	native prometheus.Histogram
}

func newHistogram(f *family) *histogram {
	if !f.native {
		return &histogram{counts: make([]uint64, len(f.bounds)+1)}
	}
	return &histogram{native: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: f.name, Buckets: f.bounds, NativeHistogramBucketFactor: nativeFactor, NativeHistogramMaxBucketNumber: nativeBuckets,
	})}
}

func (h *histogram) observe(bounds []float64, v float64, times uint64) {
	if h.native != nil {
		for range times {
			h.native.Observe(v)
		}
		h.count += times
		h.sum += v * float64(times)
		return
	}
	h.counts[sort.SearchFloat64s(bounds, v)] += times
	h.count += times
	h.sum += v * float64(times)
}
