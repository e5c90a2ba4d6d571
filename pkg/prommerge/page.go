package prommerge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"
)

// Page is the outcome of a merge.
type Page struct {
	m     *Merger
	start time.Time
	asked wire   // what targets were asked for
	out   format // what the page is in

	parts   []*part // by target; nil where it failed
	results []Result
	states  []*targetState
	injs    []*injection
	own     *part

	indexes   [3]*index // by wire
	conflicts int
	clash     bool // types conflict in protobuf
}

// ContentType returns the Content-Type of the page.
func (p *Page) ContentType() string { return p.out.contentType() }

// Results returns what each target did, in the order of the targets.
func (p *Page) Results() []Result { return p.results }

// WriteTo writes the page to w.
func (p *Page) WriteTo(w io.Writer) (int64, error) {
	return p.index(p.out.wire).group.write(w, p.out.wire, p.m.opt.OmitMeta)
}

// Size returns the length of the page in bytes.
func (p *Page) Size() int64 {
	return p.index(p.out.wire).group.size(p.out.wire, p.m.opt.OmitMeta)
}

// Close gives the memory of the page up. Only the results may be used afterwards.
func (p *Page) Close() {
	for i, pt := range p.parts {
		if pt != nil {
			pt.release()
			p.parts[i] = nil
		}
	}
	if p.own != nil {
		p.own.release()
		p.own = nil
	}
	for w, ix := range p.indexes {
		if ix != nil {
			p.m.returnIndex(wire(w), ix)
			p.indexes[w] = nil
		}
	}
}

// index returns the index of this page for w.
func (p *Page) index(w wire) *index {
	if p.indexes[w] == nil {
		p.indexes[w] = p.m.takeIndex(w)
	}
	return p.indexes[w]
}

// merge groups what arrived and adds the merger's own series.
func (p *Page) merge(ctx context.Context) {
	for i, pt := range p.parts {
		if pt != nil && p.out.wire != pt.wire && p.results[i].Up {
			p.out = p.out.asText()
		}
	}
	p.note(ctx)
	if p.m.opt.EmptyOnFailure && p.failed() {
		for i, pt := range p.parts {
			if pt != nil {
				pt.release()
				p.parts[i] = nil
			}
		}
	}
	if p.out.wire == wireText {
		p.convert()
	}
	g := p.group()
	if p.out.wire == wireProto && g.conflicts() > 0 {
		// The value of a protobuf metric is in a field that depends on the type.
		p.out, p.clash = p.out.asText(), true
		p.convert()
		g = p.group()
	}
	g.fold(p.out.wire)
	p.conflicts = g.conflicts()
	p.m.note(ctx, p)
	p.own = p.ownPart()
	g.add(p.own)
	g.finish(p.m.opt.Sort)
	g.relearn(p.out.wire)
	g.shield(p.out.wire)
}

func (p *Page) group() *grouping {
	ix := p.index(p.out.wire)
	g := &ix.group
	g.reset(ix)
	for _, pt := range p.parts {
		if pt != nil {
			g.add(pt)
		}
	}
	return g
}

func (p *Page) failed() bool {
	for i := range p.results {
		if !p.results[i].Up {
			return true
		}
	}
	return false
}

// note writes the log lines of failed targets.
func (p *Page) note(ctx context.Context) {
	if p.m.opt.SuppressErrors || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	for i := range p.results {
		if r := &p.results[i]; !r.Up {
			p.m.opt.Logger.LogAttrs(ctx, slog.LevelWarn, "target is not in the merged page",
				slog.String("name", r.Name), slog.String("url", redacted(r.URL)), slog.String("reason", r.Reason), slog.Any("err", r.Err))
		}
	}
}

// convert turns parts in other formats into text. One that cannot be said in text counts as failed.
func (p *Page) convert() {
	for i, pt := range p.parts {
		if pt == nil || pt.wire == wireText {
			continue
		}
		text, err := toText(pt, p.index(pt.wire), p.index(wireText))
		pt.release()
		p.parts[i] = text
		if err != nil {
			r := &p.results[i]
			r.Up, r.Err, r.Reason = false, &targetError{reason: reasonConvert, err: err}, reasonConvert
		}
	}
}
