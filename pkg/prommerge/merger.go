package prommerge

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// LabelName is the label that says which target a series is from.
const LabelName = "process_name"

// Defaults of Options and Limits.
const (
	DefaultTimeout     = 10 * time.Second
	DefaultTargetBytes = 64 << 20
	DefaultTotalBytes  = 512 << 20
	DefaultConcurrency = 100
	DefaultMerges      = 16
	MaxHeaderBytes     = 256 << 10 // of an answer, where the client is the merger's own
)

// Options of a Merger. The zero value is a good one: targets are asked one by one, families come in the order in
// which they were first seen, labels that clash are renamed as Prometheus does it.
type Options struct {
	Async          bool // ask targets at the same time
	Sort           bool // families by name
	OmitMeta       bool // no HELP, TYPE and UNIT
	EmptyOnFailure bool // a failing target leaves nothing but the merger's own series
	SuppressErrors bool // no log line per failure

	HonorLabels HonorLabels   // what becomes of a target's label that is called like an added one
	Timeout     time.Duration // per target that has none of its own; 0: DefaultTimeout
	Limits      Limits
	Client      *http.Client // nil: one that reuses connections and uses no proxy
	Encodings   []Encoding   // for answers of Handler, in order of preference; none: they are not compressed
	Logger      *slog.Logger // nil: slog.Default()
}

// Limits bound what targets can make a merge cost. Zero means the default, a negative number no limit.
type Limits struct {
	TargetBytes int64 // page of one target, as it comes over the wire and again when it is decompressed
	TotalBytes  int64 // all pages of one merge, decompressed
	Concurrency int   // targets that are asked at the same time
	Merges      int   // requests that Handler answers at the same time; others wait
}

// A Merger merges the pages of targets. It remembers between merges what pages look like and how often each target
// failed; the targets themselves are given anew each time. All methods may be called concurrently.
type Merger struct {
	opt    Options
	id     string // for viaHeader
	client *http.Client
	own    *http.Transport // nil where the client is the caller's
	slots  chan struct{}   // one for each merge that Handler may run; nil: any number
	crew   crew            // asks targets side by side

	mu        sync.Mutex // guards all below
	idle      [3][]*index
	targets   map[targetKey]*targetState
	conflicts uint64
	merges    uint64
}

type targetKey struct{ name, url string }

// targetState is what is remembered of a target.
type targetState struct {
	errors   map[string]uint64              // by reason
	injs     [len(escapingNames)]*injection // by escaping
	address  *address                       // set once
	seen     uint64                         // last merge that it took part in
	textOnly time.Time                      // when text was last all that it could be asked for
	last     Result
}

// How long a target that only speaks text, or contradicts another one in protobuf, keeps all from being asked for
// more, and how many merges a target that is gone is remembered.
const (
	textOnlyFor  = 5 * time.Minute
	forgetMerges = 100
	maxIdle      = 4
)

// New returns a Merger. Nothing runs until it is used.
func New(opt Options) *Merger {
	m := &Merger{id: strconv.FormatUint(rand.Uint64(), 36), targets: make(map[targetKey]*targetState), crew: crew{tasks: make(chan task)}}
	opt.Limits.TargetBytes = orDefault(opt.Limits.TargetBytes, DefaultTargetBytes)
	opt.Limits.TotalBytes = orDefault(opt.Limits.TotalBytes, DefaultTotalBytes)
	opt.Limits.Concurrency = orDefault(opt.Limits.Concurrency, DefaultConcurrency)
	if n := orDefault(opt.Limits.Merges, DefaultMerges); n < math.MaxInt {
		m.slots = make(chan struct{}, n)
	}
	if opt.Timeout <= 0 {
		opt.Timeout = DefaultTimeout
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	m.opt = opt
	m.client = m.newClient(opt.Client)
	return m
}

func orDefault[T int | int64](n, def T) T {
	switch {
	case n == 0:
		return def
	case n < 0:
		return math.MaxInt
	}
	return n
}

// Close gives up idle connections and what else is kept for the next merge. It does not end merges that run, but waits
// until they have asked their targets. Later merges are possible, and leave only idle connections behind.
func (m *Merger) Close() {
	m.crew.close()
	if m.own != nil {
		m.own.CloseIdleConnections()
	}
}

// Last returns what each target did last, in no order. Targets that were not asked for a long time are forgotten.
func (m *Merger) Last() []Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	rs := make([]Result, 0, len(m.targets))
	for _, st := range m.targets {
		rs = append(rs, st.last)
	}
	return rs
}

// takeIndex returns an index for pages of w, one that was used before if possible.
func (m *Merger) takeIndex(w wire) *index {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.idle[w]); n > 0 {
		ix := m.idle[w][n-1]
		m.idle[w] = m.idle[w][:n-1]
		return ix
	}
	return newIndex()
}

func (m *Merger) returnIndex(w wire, ix *index) {
	if len(ix.fams) > maxFamilies {
		return
	}
	clear(ix.group.parts)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.idle[w]) < maxIdle {
		m.idle[w] = append(m.idle[w], ix)
	}
}

// begin notes that a merge of targets begins. It says whether one of them can only be asked for text, and fills in what
// p has of each.
func (m *Merger) begin(targets []Target, p *Page) (textOnly bool) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.merges++
	for i := range targets {
		t := &targets[i]
		k := targetKey{t.Name, t.URL}
		st := m.targets[k]
		if st == nil {
			st = &targetState{}
			m.targets[k] = st
		}
		inj := &st.injs[p.out.esc]
		if *inj == nil || !(*inj).fits(t) {
			*inj = newInjection(t, m.opt.HonorLabels, p.out.esc)
		}
		if st.address == nil && t.Open == nil {
			st.address = addressOf(t.URL)
		}
		st.seen = m.merges
		textOnly = textOnly || now.Sub(st.textOnly) < textOnlyFor
		p.states[i], p.injs[i] = st, *inj
	}
	if m.merges%forgetMerges == 0 {
		maps.DeleteFunc(m.targets, func(_ targetKey, st *targetState) bool { return m.merges-st.seen > forgetMerges })
	}
	return textOnly
}

// note remembers the results of a merge.
func (m *Merger) note(ctx context.Context, p *Page) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conflicts += uint64(p.conflicts)
	for i := range p.results {
		r, st := &p.results[i], p.states[i]
		st.last = *r
		if p.asked != wireText && (r.text || p.clash) {
			st.textOnly = time.Now()
		}
		if r.Up || errors.Is(context.Cause(ctx), context.Canceled) {
			continue
		}
		if st.errors == nil {
			st.errors = make(map[string]uint64)
		}
		st.errors[r.Reason]++
	}
}
