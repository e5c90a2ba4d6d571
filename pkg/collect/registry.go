package collect

import (
	"math"
	"strings"
	"sync"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// Limits bound a [Registry]. Zero means the default in brackets.
type Limits struct {
	Series        int           // of all names (100,000)
	SeriesPerName int           // (as Series)
	Bytes         int64         // of names, labels and buckets (1 KiB for each of Series)
	TTL           time.Duration // of a series that no message names (24 h); negative: for ever
	Native        bool          // every histogram is native too
}

const (
	seriesBytes = 192 // what a series takes beyond its key: itself, its places in the map, the family and the heap
	maxHelp     = 1024
)

func (l Limits) withDefaults() Limits {
	if l.Series <= 0 {
		l.Series = 100_000
	}
	if l.SeriesPerName <= 0 {
		l.SeriesPerName = l.Series
	}
	if l.Bytes <= 0 {
		l.Bytes = 1024 * int64(l.Series)
	}
	if l.TTL == 0 {
		l.TTL = 24 * time.Hour
	}
	return l
}

type kind uint8

const (
	counter kind = iota + 1
	gauge
	histo
)

func kindOf(op datagram.Op) kind {
	switch op {
	case datagram.Inc:
		return counter
	case datagram.Obs:
		return histo
	}
	return gauge
}

// family is all series of a name.
type family struct {
	name   string
	help   string
	kind   kind
	series []*series
	bounds []float64 // of a histogram
	les    []string  // bounds as text
	native bool
	ttl    time.Duration // what a message of the name last said, or 0
}

// series is one set of labels of a name.
type series struct {
	key       string // see keyer
	family    *family
	value     float64
	histogram *histogram
	ttl       time.Duration
	expires   int64 // see Registry.at
	due       int64 // when the heap has it next
	pos       int32 // in family.series, -1 once it is gone
}

// Registry holds what messages said. Make one with [NewRegistry].
type Registry struct {
	limits   Limits
	prefixes []string  // of names that are taken
	began    time.Time // with its monotonic clock

	mu       sync.Mutex // guards what follows; nobody holds it for longer than a few hundred series take
	series   map[string]*series
	families map[string]*family
	claimed  map[string]string // name in the exposition → name of the family
	heap     expiries
	bytes    int64
	keys     keyer
	expired  uint64
}

// NewRegistry returns an empty registry. Names that are taken are refused as if
// they were of another type; one that ends with * stands for all that begin so.
func NewRegistry(l Limits, taken ...string) *Registry {
	r := &Registry{limits: l.withDefaults(), began: time.Now(), series: map[string]*series{}, families: map[string]*family{}, claimed: map[string]string{}}
	for _, name := range taken {
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			r.prefixes = append(r.prefixes, prefix)
		}
		r.claimed[name] = ""
	}
	return r
}

// at returns a moment in nanoseconds, on a clock that nobody sets: to set the wall
// clock must not expire what lives.
func (r *Registry) at(now time.Time) int64 { return int64(now.Sub(r.began)) + 1 }

// apply does what a message says. The caller holds mu.
func (r *Registry) apply(m *datagram.Message, added []datagram.Label, now int64) reason {
	key, why := r.keys.build(m, added)
	if why != 0 {
		return why
	}
	s := r.series[string(key)]
	if s == nil {
		if s, why = r.create(m, key); why != 0 {
			return why
		}
	} else if s.family.kind != kindOf(m.Op) {
		return typeConflict
	}
	if why := s.change(m); why != 0 {
		return why
	}
	r.touch(s, m.TTL, now)
	return 0
}

// value returns the value of the series that a message was applied to. The caller holds mu.
func (r *Registry) value(m *datagram.Message, added []datagram.Label) float64 {
	key, _ := r.keys.build(m, added)
	return r.series[string(key)].value
}

func (s *series) change(m *datagram.Message) reason {
	switch m.Op {
	case datagram.Set:
		s.value = m.Value
	case datagram.Obs:
		if math.IsInf(s.histogram.sum+m.Value, 0) {
			return overflow
		}
		s.histogram.observe(s.family.bounds, m.Value, 1)
	default:
		v := s.value + m.Value
		if math.IsInf(v, 0) {
			return overflow
		}
		s.value = v
	}
	return 0
}

// create makes a series of a key that is not known.
func (r *Registry) create(m *datagram.Message, key []byte) (*series, reason) {
	if len(r.series) >= r.limits.Series {
		return nil, seriesLimit
	}
	name := string(key)
	if i := strings.IndexByte(name, separator); i >= 0 {
		name = name[:i]
	}
	f := r.families[name]
	if f != nil && f.kind != kindOf(m.Op) {
		return nil, typeConflict
	}
	if f != nil && len(f.series) >= r.limits.SeriesPerName {
		return nil, nameLimit
	}
	isNew := f == nil
	if isNew {
		f = r.newFamily(name, m)
		if r.taken(f) {
			return nil, typeConflict
		}
	}
	cost := f.cost(len(key))
	if isNew {
		cost += f.ownCost()
	}
	if r.bytes+cost > r.limits.Bytes {
		return nil, bytesLimit
	}
	if isNew {
		r.families[strings.Clone(name)] = f
		for _, n := range f.names() {
			r.claimed[n] = f.name
		}
	}
	r.bytes += cost
	s := &series{key: string(key), family: f, ttl: r.limits.TTL, pos: int32(len(f.series))}
	if f.ttl > 0 {
		s.ttl = f.ttl
	}
	if f.kind == histo {
		s.histogram = newHistogram(f)
	}
	f.series = append(f.series, s)
	r.series[s.key] = s
	return s, 0
}

// taken reports whether another family has one of the names of f.
func (r *Registry) taken(f *family) bool {
	for _, prefix := range r.prefixes {
		if strings.HasPrefix(f.name, prefix) {
			return true
		}
	}
	for _, n := range f.names() {
		if _, ok := r.claimed[n]; ok {
			return true
		}
	}
	return false
}

func (r *Registry) newFamily(name string, m *datagram.Message) *family {
	f := &family{name: strings.Clone(name), kind: kindOf(m.Op), help: shorten(m.Help, maxHelp)}
	if f.kind == histo {
		f.native = m.Native || r.limits.Native
		if !f.native || m.Buckets != nil {
			f.bounds = m.Buckets.Bounds()
		}
		for _, b := range f.bounds {
			f.les = append(f.les, string(appendFloat(nil, b)))
		}
	}
	return f
}

// shorten returns a copy of at most n bytes of s, without half a character.
func shorten(s string, n int) string {
	if len(s) > n {
		for n > 0 && s[n]&0xc0 == 0x80 {
			n--
		}
		s = s[:n]
	}
	return strings.Clone(s)
}

// names returns what the family is called in the exposition.
func (f *family) names() []string {
	if f.kind == histo {
		return []string{f.name, f.name + "_bucket", f.name + "_count", f.name + "_sum"}
	}
	return []string{f.name}
}

// cost is how many bytes a series takes.
func (f *family) cost(key int) int64 {
	n := seriesBytes + key
	if f.kind == histo {
		n += 64 + 8*len(f.bounds)
		if f.native {
			n += nativeBytes
		}
	}
	return int64(n)
}

func (f *family) ownCost() int64 { return int64(512 + 2*len(f.name) + len(f.help) + 40*len(f.bounds)) }

// remove forgets a series, and its family with the last one.
func (r *Registry) remove(s *series) {
	f := s.family
	last := f.series[len(f.series)-1]
	f.series[s.pos], last.pos = last, s.pos
	f.series[len(f.series)-1] = nil
	f.series = f.series[:len(f.series)-1]
	s.pos = -1
	delete(r.series, s.key)
	r.bytes -= f.cost(len(s.key))
	if len(f.series) == 0 {
		r.bytes -= f.ownCost()
		delete(r.families, f.name)
		for _, n := range f.names() {
			delete(r.claimed, n)
		}
	}
}
