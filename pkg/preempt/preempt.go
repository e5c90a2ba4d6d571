// Package preempt tells when the machine below is about to be taken away, and
// drains an Envoy in front of the processes.
//
// A [Watcher] asks the metadata server of one cloud:
//
//	GCE    a plain read, then one long poll after the other: a change is seen when it happens
//	AWS    IMDSv2: spot/instance-action and events/recommendations/rebalance every 2 s
//	Azure  scheduled events that name this machine, every second
//
// A metadata server is shared by a whole machine, so no request leaves without
// a token of the watcher's one [bucket], whatever the answers are. Failures are retried after
// pauses that grow with the outage; an answer that says that there is nothing
// to learn here is believed for a minute.
//
//	┌─▶ ask ──good─────────────────▶ pause of the cloud ──┐
//	│    ├──5xx, 429, lost, garbage▶ 0 … as long as it has been failing, at most 30 s, or Retry-After
//	│    ├──403, 404, other 4xx────▶ 60 s                 │
//	│    └──GCE: TRUE──▶ end                              │
//	└─────────────────────────────────────────────────────┘
package preempt

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Provider is a cloud.
type Provider string

// The providers.
const (
	Auto  Provider = "auto" // found out
	GCE   Provider = "gce"
	AWS   Provider = "aws"
	Azure Provider = "azure"
)

// Notice is what a cloud says of this machine.
type Notice struct {
	Active   bool      // false: an earlier notice is withdrawn
	Reason   string    // for people
	Deadline time.Time // when the machine will be gone, zero where nobody says
}

// Hint is news about this machine that is no notice: it may go on as it is.
type Hint struct {
	Kind   string // maintenance, rebalance or freeze
	Detail string // what the cloud says
}

// Config is what a watcher watches. All but Log is optional.
type Config struct {
	Provider Provider // "" is Auto
	// URL is the key preempted of GCE's metadata server, which makes Auto mean
	// GCE; for AWS and Azure it is the address of the server, without a path.
	URL string
	// Host replaces the host of GCE's default URL: GCE_METADATA_HOST.
	Host string
	// OnNotice is called for each notice that is new or differs from the last,
	// and OnHint for each hint, one call at a time. They must not block.
	OnNotice func(Notice)
	OnHint   func(Hint)
	Log      *slog.Logger

	dial func(ctx context.Context, network, addr string) (net.Conn, error) // for tests
	dmi  string                                                            // where the kernel says what hardware this is
	life time.Duration                                                     // of a token of AWS
}

// Stats is what a watcher knows and has done.
type Stats struct {
	Provider    Provider          // Auto until it is found out
	Up          bool              // the last answer of the server was a good one
	LastSuccess time.Time         // of the last such answer, zero before the first
	Notice      Notice            // the latest
	Requests    map[string]uint64 // by status code, or a word for what came instead
}

// Watcher watches for the end of this machine. Make one with [New].
type Watcher struct {
	cfg          Config
	preemptedURL *url.URL // of GCE
	local        string   // where AWS and Azure are asked
	tokens       *bucket

	mu    sync.Mutex // guards what follows
	stats Stats
	ends  []string // events of Azure that end this machine and have not begun

	telling sync.Mutex // held while OnNotice or OnHint runs
}

// New returns a watcher, or what is wrong with its config.
func New(cfg Config) (*Watcher, error) {
	if cfg.OnNotice == nil {
		cfg.OnNotice = func(Notice) {}
	}
	if cfg.OnHint == nil {
		cfg.OnHint = func(Hint) {}
	}
	if cfg.dmi == "" {
		cfg.dmi = "/sys/class/dmi/id"
	}
	cfg.life = cmp.Or(cfg.life, tokenLife)
	w := &Watcher{cfg: cfg, local: linkLocal, tokens: &bucket{every: time.Second, burst: 3}, stats: Stats{Provider: cfg.Provider, Requests: make(map[string]uint64)}}
	switch cfg.Provider {
	case "", Auto:
		w.stats.Provider = Auto
		if cfg.URL != "" || cfg.Host != "" {
			w.stats.Provider = GCE
		}
	case GCE, AWS, Azure:
	default:
		return nil, fmt.Errorf("preemption provider %q is unknown: use auto, gce, aws or azure", cfg.Provider)
	}
	return w, w.parse()
}

// parse reads the addresses of the config.
func (w *Watcher) parse() (err error) {
	p := w.stats.Provider
	if p == AWS || p == Azure {
		if w.cfg.URL == "" {
			return nil
		}
		u, err := parseHTTP("METADATA_URL", w.cfg.URL)
		if err == nil && strings.Trim(u.Path, "/") != "" {
			err = fmt.Errorf("METADATA_URL %q has a path, which is for gce: for %s leave out %s, or the variable", w.cfg.URL, p, u.Path)
		}
		if err == nil {
			w.local = u.Scheme + "://" + u.Host
		}
		return err
	}
	if w.cfg.URL != "" {
		w.preemptedURL, err = parseHTTP("METADATA_URL", w.cfg.URL)
	} else {
		host := cmp.Or(w.cfg.Host, googleHost)
		w.preemptedURL, err = parseHTTP("GCE_METADATA_HOST", "http://"+host+preemptedPath)
		if err != nil || w.preemptedURL.Host != host {
			return fmt.Errorf("GCE_METADATA_HOST %q is no host: write %s or 127.0.0.1:8989", host, googleHost)
		}
	}
	if err != nil {
		return err
	}
	_, err = newKey(w.preemptedURL)
	return err
}

func parseHTTP(name, s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s %q is no URL: write http://host:port/path", name, s)
	}
	return u, nil
}

// Run watches until ctx ends, or there is nothing left to learn.
func (w *Watcher) Run(ctx context.Context) {
	p := w.Stats().Provider
	if p == Auto {
		if p = w.detect(ctx); p == Auto {
			return // ctx has ended
		}
		w.change(func(s *Stats) { s.Provider = p })
	}
	w.cfg.Log.Info("watching for preemption", "provider", string(p))
	switch p {
	case GCE:
		w.watchGCE(ctx)
	case AWS:
		w.follow(ctx, newAWS(w), true)
	default:
		w.follow(ctx, newAzure(w), true)
	}
}

// Stats returns a copy of what is known.
func (w *Watcher) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.Requests = maps.Clone(s.Requests)
	return s
}

func (w *Watcher) change(f func(*Stats)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.stats)
}

// notice hands on a notice that is news.
func (w *Watcher) notice(n Notice) {
	w.telling.Lock()
	defer w.telling.Unlock()
	var old Notice
	w.change(func(s *Stats) { old, s.Notice = s.Notice, n })
	if old != n && (old.Active || n.Active) {
		w.cfg.OnNotice(n)
	}
}

func (w *Watcher) hint(h Hint) {
	w.telling.Lock()
	defer w.telling.Unlock()
	w.cfg.OnHint(h)
}
