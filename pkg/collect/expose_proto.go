package collect

import (
	"math"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Numbers of the fields of io.prometheus.client.
const (
	familyName, familyHelp, familyType, familyMetric = 1, 2, 3, 4
	metricLabel, metricGauge, metricCounter          = 1, 2, 3
	metricHistogram                                  = 7
	pairName, pairValue                              = 1, 2
	histogramCount, histogramSum, histogramBucket    = 1, 2, 3
	bucketCount, bucketBound                         = 1, 2
)

var protoTypes = [...]uint64{
	counter: uint64(dto.MetricType_COUNTER), gauge: uint64(dto.MetricType_GAUGE), histo: uint64(dto.MetricType_HISTOGRAM),
}

// protoPage is the delimited protobuf format, which alone carries native
// histograms. It is encoded by hand: the messages of 100,000 series would take
// a hundred megabytes.
type protoPage struct{}

func (protoPage) whole() bool { return true }

func (protoPage) begin(b []byte, f *family) []byte {
	b = appendText(b, familyName, f.name)
	if f.help != "" {
		b = appendText(b, familyHelp, f.help)
	}
	b = protowire.AppendTag(b, familyType, protowire.VarintType)
	return protowire.AppendVarint(b, protoTypes[f.kind])
}

func (protoPage) end(b []byte, _ *family) []byte { return prefixed(b, 0) }

func (protoPage) series(b []byte, f *family, s *series) []byte {
	b = protowire.AppendTag(b, familyMetric, protowire.BytesType)
	start := len(b)
	eachLabel(s.key, func(name, value string) {
		b = protowire.AppendTag(b, metricLabel, protowire.BytesType)
		from := len(b)
		b = appendText(b, pairName, name)
		b = prefixed(appendText(b, pairValue, value), from)
	})
	switch {
	case f.kind == counter:
		b = appendNested(b, metricCounter, appendDouble(nil, 1, s.value))
	case f.kind == gauge:
		b = appendNested(b, metricGauge, appendDouble(nil, 1, s.value))
	case s.histogram.native != nil:
		var m dto.Metric
		if err := s.histogram.native.Write(&m); err == nil {
			if body, err := proto.Marshal(m.GetHistogram()); err == nil {
				b = appendNested(b, metricHistogram, body)
			}
		}
	default:
		b = appendNested(b, metricHistogram, s.histogram.proto(f.bounds))
	}
	return prefixed(b, start)
}

func (h *histogram) proto(bounds []float64) []byte {
	b := protowire.AppendTag(nil, histogramCount, protowire.VarintType)
	b = protowire.AppendVarint(b, h.count)
	b = appendDouble(b, histogramSum, h.sum)
	var sum uint64
	for i, bound := range bounds {
		sum += h.counts[i]
		one := protowire.AppendTag(nil, bucketCount, protowire.VarintType)
		one = protowire.AppendVarint(one, sum)
		b = appendNested(b, histogramBucket, appendDouble(one, bucketBound, bound))
	}
	return b
}

// classic returns the counts of the classic buckets of a native histogram.
func (h *histogram) classic(n int) []uint64 {
	out := make([]uint64, n+1)
	var m dto.Metric
	if err := h.native.Write(&m); err != nil {
		return out
	}
	var last uint64
	for i, b := range m.GetHistogram().GetBucket() {
		if i < n {
			out[i] = b.GetCumulativeCount() - last
			last = b.GetCumulativeCount()
		}
	}
	return out
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendDouble(b []byte, field protowire.Number, v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), math.Float64bits(v))
}

func appendNested(b []byte, field protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), body)
}

// prefixed puts the length of what is in b since start before it.
func prefixed(b []byte, start int) []byte {
	size := len(b) - start
	n := protowire.SizeVarint(uint64(size))
	b = append(b, make([]byte, n)...)
	copy(b[start+n:], b[start:start+size])
	protowire.AppendVarint(b[start:start], uint64(size))
	return b
}
