package datagram

import (
	"io"
	"math"
	"time"
)

const (
	maxName   = 512
	maxLabels = 64
	maxLabel  = 4096
	maxID     = 256
	maxIndex  = 200
)

// Decoder reads messages one after another. Its zero value is ready; it reuses
// its memory.
type Decoder struct {
	buf     []byte
	pos     int
	more    bool // what is in buf may go on
	m       Message
	soft    Reason // why the message is refused although it is JSON
	labels  []Label
	arena   []byte // strings without their escapes
	buckets Buckets
	custom  []float64
	field   func(string) Reason // bound once
	label   func(string) Reason
	element func() Reason
}

// Reset makes d read buf. With more, buf may be the beginning of something
// longer.
func (d *Decoder) Reset(buf []byte, more bool) {
	d.buf, d.pos, d.more = buf, 0, more
	if d.field == nil {
		d.field, d.label, d.element = d.readField, d.readLabel, d.readElement
	}
}

// Rest returns what was not read.
func (d *Decoder) Rest() []byte { return d.buf[d.pos:] }

// Next returns the next message, which shares memory with the input and is good
// until the next call; [Message.Clone] keeps it. The error is a [Reason] for a
// message that is refused, after which there may be others, io.EOF at the end,
// and io.ErrUnexpectedEOF where [Decoder.Rest] is to be read again when there
// is more.
func (d *Decoder) Next() (*Message, error) {
	for d.pos < len(d.buf) {
		switch d.buf[d.pos] {
		case ' ', '\t', '\n', '\r', ',', '[', ']':
			d.pos++
		case '{':
			return d.message()
		default:
			return nil, d.refuseUntil(garbage(d.buf, d.pos))
		}
	}
	return nil, io.EOF
}

// refuseUntil leaves out what is before end, negative if that is not known yet.
func (d *Decoder) refuseUntil(end int, why ...Reason) error {
	if end < 0 {
		if d.more {
			return io.ErrUnexpectedEOF
		}
		end = len(d.buf)
	}
	d.pos = end
	if len(why) > 0 {
		return why[0]
	}
	return Syntax
}

func (d *Decoder) message() (*Message, error) {
	start := d.pos
	d.m = Message{}
	d.soft, d.labels, d.arena, d.custom, d.buckets = 0, d.labels[:0], d.arena[:0], d.custom[:0], Buckets{}
	why := d.members(d.field)
	if why != 0 {
		d.pos = start
		if why == Truncated && d.more {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, d.refuseUntil(broken(d.buf, start), why)
	}
	if d.soft == 0 {
		d.finish()
	}
	if d.soft != 0 {
		return nil, d.soft
	}
	return &d.m, nil
}

// refuse remembers the first reason.
func (d *Decoder) refuse(r Reason) {
	if d.soft == 0 {
		d.soft = r
	}
}

func (d *Decoder) readField(key string) Reason {
	m := &d.m
	switch key {
	case "name":
		return d.readString(&m.Name)
	case "op":
		var op string
		r := d.readString(&op)
		m.Op = parseOp(op)
		return r
	case "value":
		return d.readNumber(&m.Value, Value)
	case "labels":
		return d.readLabels()
	case "help":
		return d.readString(&m.Help)
	case "index":
		return d.readString(&m.Index)
	case "id":
		return d.readString(&m.ID)
	case "timestamp":
		return d.readTime()
	case "ttl":
		return d.readTTL()
	case "native":
		return d.readBool(&m.Native)
	}
	return d.readBucket(key)
}

func (d *Decoder) readBucket(key string) Reason {
	b := &d.buckets
	switch key {
	case "buckets":
		var n float64
		r := d.readNumber(&n, BucketDef)
		if n != math.Trunc(n) || math.Abs(n) > 1<<31 {
			d.refuse(BucketDef)
			n = 0
		}
		b.Count, d.m.Buckets = int(n), b
		return r
	case "bucket_width":
		return d.bucketNumber(&b.Width)
	case "bucket_start":
		return d.bucketNumber(&b.Start)
	case "bucket_factor":
		return d.bucketNumber(&b.Factor)
	case "bucket_min":
		return d.bucketNumber(&b.Min)
	case "bucket_max":
		return d.bucketNumber(&b.Max)
	case "bucket_custom":
		d.m.Buckets, d.custom = b, d.custom[:0]
		if c := d.next(); c != '[' {
			return d.other(c, Type)
		}
		r := d.elements(d.element)
		b.Custom = d.custom
		return r
	}
	return d.skip(0)
}

func (d *Decoder) bucketNumber(to *float64) Reason {
	d.m.Buckets = &d.buckets
	return d.readNumber(to, BucketDef)
}

func (d *Decoder) readElement() Reason {
	var v float64
	r := d.readNumber(&v, BucketDef)
	if len(d.custom) <= maxBuckets {
		d.custom = append(d.custom, v)
	}
	return r
}

// other goes over a value of the wrong type; null is none.
func (d *Decoder) other(c byte, why Reason) Reason {
	if c != 'n' {
		d.refuse(why)
	}
	return d.skip(0)
}

func (d *Decoder) readString(to *string) Reason {
	c := d.next()
	if c != '"' {
		return d.other(c, Type)
	}
	s, r := d.str()
	*to = s
	return r
}

func numeric(c byte) bool { return c == '-' || c-'0' <= 9 }

func (d *Decoder) readNumber(to *float64, why Reason) Reason {
	c := d.next()
	if !numeric(c) {
		return d.other(c, Type)
	}
	v, r := d.number()
	if math.IsInf(v, 0) {
		d.refuse(why)
	}
	*to = v
	return r
}

func (d *Decoder) readBool(to *bool) Reason {
	c := d.next()
	if c != 't' && c != 'f' {
		return d.other(c, Type)
	}
	*to = c == 't'
	return d.skip(0)
}

func (d *Decoder) readLabels() Reason {
	switch d.next() {
	case '{':
		return d.members(d.label)
	case '[': // what PHP makes of an empty object
		return d.elements(func() Reason {
			d.refuse(Type)
			return d.skip(0)
		})
	}
	d.refuse(Type)
	return d.skip(0)
}

func (d *Decoder) readLabel(name string) Reason {
	if d.next() != '"' {
		d.refuse(Type)
		return d.skip(0)
	}
	value, r := d.str()
	if r == 0 {
		d.addLabel(name, value)
	}
	return r
}

// addLabel keeps the labels sorted.
func (d *Decoder) addLabel(name, value string) {
	if name == "" || len(name) > maxLabel || len(value) > maxLabel {
		d.refuse(Labels)
		return
	}
	i := len(d.labels)
	for i > 0 && d.labels[i-1].Name >= name {
		i--
	}
	if i < len(d.labels) && d.labels[i].Name == name {
		d.labels[i].Value = value
		return
	}
	if len(d.labels) == maxLabels {
		d.refuse(Labels)
		return
	}
	d.labels = append(d.labels, Label{})
	copy(d.labels[i+1:], d.labels[i:])
	d.labels[i] = Label{name, value}
}

func (d *Decoder) readTime() Reason {
	switch c := d.next(); {
	case c == '"':
		s, r := d.str()
		if r == 0 && s != "" {
			var ok bool
			if d.m.Time, ok = parseTime(s); !ok {
				d.refuse(TimeDef)
			}
		}
		return r
	case numeric(c):
		from := d.pos
		_, r := d.number()
		if r == 0 {
			var ok bool
			if d.m.Time, ok = parseUnix(text(d.buf[from:d.pos])); !ok {
				d.refuse(TimeDef)
			}
		}
		return r
	default:
		return d.other(c, Type)
	}
}

func (d *Decoder) readTTL() Reason {
	switch c := d.next(); {
	case c == '"':
		s, r := d.str()
		if r == 0 {
			ttl, err := time.ParseDuration(s)
			d.setTTL(ttl, err == nil)
		}
		return r
	case numeric(c):
		v, r := d.number()
		d.setTTL(time.Duration(v*float64(time.Second)), v < maxTTL.Seconds())
		return r
	default:
		return d.other(c, Type)
	}
}

const maxTTL = 100 * 365 * 24 * time.Hour

func (d *Decoder) setTTL(ttl time.Duration, ok bool) {
	if !ok || ttl <= 0 || ttl > maxTTL {
		d.refuse(TTLDef)
		return
	}
	d.m.TTL = ttl
}
