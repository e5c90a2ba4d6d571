package prommerge

import (
	"bytes"
	"errors"
	"math"
	"strconv"
)

// toText returns src, which is OpenMetrics or protobuf, as text 0.0.4.
func toText(src *part, from, to *index) (*part, error) {
	c := &converter{src: src, from: from}
	c.start(newPart(wireText), to)
	c.p.samples = src.samples
	c.collect()
	to.mu.RLock()
	err := c.run()
	to.mu.RUnlock()
	c.finish(err == nil)
	if err != nil {
		c.p.release()
		return nil, err
	}
	return c.p, nil
}

// converter rewrites a part family by family. Its lines were checked before: they are canonical.
type converter struct {
	builder
	src   *part
	from  *index
	fams  map[int32]*slot // what src says about its families
	line  []byte
	proto protoText
}

// collect gathers the metadata of src.
func (c *converter) collect() {
	c.fams = make(map[int32]*slot)
	metas := c.src.metas
	for i, g := range c.src.segs {
		s := c.fams[g.fam]
		if s == nil {
			s = &slot{}
			c.fams[g.fam] = s
		}
		s.known(&c.from.fams[g.fam], g.flags())
		for len(metas) > 0 && int(metas[0].seg) == i {
			s.meta(metas[0], c.src.text(metas[0]))
			metas = metas[1:]
		}
	}
}

func (c *converter) run() error {
	for _, g := range c.src.segs {
		s := c.fams[g.fam]
		name := c.from.fams[g.fam].name
		if c.src.wire == wireProto {
			if err := c.protoSeg(name, s, c.src.data(g)); err != nil {
				return err
			}
			continue
		}
		if err := c.omSeg(name, s, c.src.data(g), g.flags()&segCreated != 0); err != nil {
			return err
		}
	}
	return nil
}

// open makes name the current family, unless it is, and repeats the metadata for it.
func (c *converter) open(name string, s *slot, t typ) {
	if c.named && c.name == name {
		return
	}
	c.family([]byte(name))
	c.typ = t
	if s.hasHelp {
		c.note(metaHelp, typNone, helpToText(s.help, c.src.wire))
	}
	if t != typNone {
		c.note(metaType, t, nil)
	}
}

// helpToText rewrites a HELP: OpenMetrics escapes quotes too, protobuf escapes nothing.
func helpToText(help []byte, w wire) []byte {
	if w == wireOpenMetrics {
		if bytes.IndexByte(help, '\\') < 0 {
			return help
		}
		help = appendUnescaped(nil, help)
	}
	return bytes.ReplaceAll(bytes.ReplaceAll(help, []byte(`\`), []byte(`\\`)), []byte("\n"), []byte(`\n`))
}

// omSeg converts lines of one OpenMetrics family. Text has fewer types, and counters are called by their series.
func (c *converter) omSeg(name string, s *slot, b []byte, created bool) error {
	if created {
		c.open(name+"_created", &slot{}, typGauge)
	} else {
		switch s.typ {
		case typCounter:
			c.open(name+"_total", s, typCounter)
		case typInfo:
			c.open(name+"_info", s, typGauge)
		case typStateset:
			c.open(name, s, typGauge)
		case typGaugeHistogram:
			c.open(name, s, typUntyped)
		default:
			c.open(name, s, s.typ)
		}
	}
	for len(b) > 0 {
		e := bytes.IndexByte(b, '\n')
		if err := c.omLine(b[:e]); err != nil {
			return err
		}
		b = b[e+1:]
	}
	return nil
}

// omLine converts one line without its end: the exemplar goes, seconds become milliseconds.
func (c *converter) omLine(l []byte) error {
	j := bytes.IndexByte(l, '{') + 1
	for l[j] != '}' { // over the labels; braces may stand in their values
		if l[j] == '"' {
			j, _ = endQuote(l, j+1)
		}
		j++
	}
	j += 2
	k := j
	for k < len(l) && l[k] != ' ' {
		k++
	}
	w := append(c.line[:0], l[:k]...)
	if k+1 < len(l) && l[k+1] != '#' {
		stamp := l[k+1:]
		if e := bytes.IndexByte(stamp, ' '); e >= 0 {
			stamp = stamp[:e]
		}
		sec, _ := parseFloat(stamp)
		ms := sec * 1000
		if ms < 0 || ms >= math.MaxInt64 {
			return errors.New("a timestamp that text cannot say")
		}
		w = strconv.AppendInt(append(w, ' '), int64(ms), 10)
	}
	c.line = append(w, '\n')
	c.append(c.line)
	return nil
}
