package prommerge

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"time"
)

// ownPrefix begins the names of all series that are the merger's own.
const ownPrefix = "prommerge_"

// isOwn reports whether name begins like those of the series that tell about a target.
func isOwn(name []byte) bool { return bytes.HasPrefix(name, []byte(ownPrefix+"target_")) }

// ownWriter writes the merger's own families into a part, in any format.
type ownWriter struct {
	builder
	metric []byte // a protobuf Metric under construction
}

// ownPart returns the merger's own series.
func (p *Page) ownPart() *part {
	ix := p.index(p.out.wire)
	w := &ownWriter{}
	w.start(newPart(p.out.wire), ix)
	ix.mu.RLock()
	p.ownSeries(w)
	ix.mu.RUnlock()
	w.finish(true)
	return w.p
}

func (p *Page) ownSeries(w *ownWriter) {
	w.head("prommerge_target_up", "Whether the target has its part in this page.", typGauge)
	for i := range p.results {
		up := 0.0
		if p.results[i].Up {
			up = 1
		}
		w.sample("", p.label(i), "", up)
	}
	w.head("prommerge_target_scrape_duration_seconds", "How long the target took.", typGauge)
	for i := range p.results {
		w.sample("", p.label(i), "", p.results[i].Duration.Seconds())
	}
	w.head("prommerge_target_samples", "Samples in the page of the target.", typGauge)
	for i := range p.results {
		w.sample("", p.label(i), "", float64(p.results[i].Samples))
	}
	w.head("prommerge_target_body_bytes", "Size of the page of the target, decompressed.", typGauge)
	for i := range p.results {
		w.sample("", p.label(i), "", float64(p.results[i].Bytes))
	}
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	p.errorSeries(w)
	w.head("prommerge_type_conflicts", "TYPEs left out because another target had said otherwise.", typCounter)
	w.sample("_total", nil, "", float64(p.m.conflicts))
	w.head("prommerge_merge_duration_seconds", "How long it took to ask all targets and merge their pages.", typGauge)
	w.sample("", nil, "", time.Since(p.start).Seconds())
}

// errorSeries writes a family only where there are errors: encoders refuse one without series.
func (p *Page) errorSeries(w *ownWriter) {
	none := true
	for i := range p.results {
		for reason, n := range p.states[i].errors {
			if none {
				w.head("prommerge_target_errors", "Merges without the target, by reason.", typCounter)
				none = false
			}
			w.sample("_total", p.label(i), reason, float64(n))
		}
	}
}

// label returns the label that names target i.
func (p *Page) label(i int) *label { return &p.injs[i].labels[0] }

// head begins a family. Counters are given without their _total.
func (w *ownWriter) head(name, help string, t typ) {
	if t == typCounter && w.p.wire != wireOpenMetrics {
		name += "_total"
	}
	w.family([]byte(name))
	w.typ = t
	w.note(metaHelp, typNone, []byte(help))
	w.note(metaType, t, nil)
}

// sample writes one series. suffix is for OpenMetrics, where it is not in the name of the family.
func (w *ownWriter) sample(suffix string, target *label, reason string, v float64) {
	if w.p.wire == wireProto {
		w.protoSample(target, reason, v)
		return
	}
	b := append(w.metric[:0], w.name...)
	if w.p.wire == wireOpenMetrics {
		b = append(b, suffix...)
	}
	if target != nil {
		b = append(append(b, '{'), target.pair...)
		if reason != "" {
			b = append(append(append(b, `,reason="`...), reason...), '"')
		}
		b = append(b, '}')
	}
	b = strconv.AppendFloat(append(b, ' '), v, 'g', -1, 64)
	w.metric = append(b, '\n')
	w.append(w.metric)
}

func (w *ownWriter) protoSample(target *label, reason string, v float64) {
	b := w.metric[:0]
	if target != nil {
		b = append(b, target.proto...)
		if reason != "" {
			b = appendLabelPair(b, []byte("reason"), []byte(reason))
		}
	}
	num := byte(fieldGauge)
	if w.typ == typCounter {
		num = fieldCounter
	}
	b = append(b, num<<3|wireBytes, 9, 1<<3|wireFixed64)
	w.metric = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	w.out = appendField(w.room(fieldLen(len(w.metric))), fieldMetric, w.metric)
}
