package collect

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// Sink takes messages; it must not block. An error means that it did not accept
// the message, which is its own from then on otherwise.
type Sink interface {
	Put(*datagram.Message) error
}

// Config is what a [Server] does with what it receives. Registry is needed.
type Config struct {
	Registry *Registry
	Events   []Sink // get op event; at most 7
	Index    []Sink // get op index; at most 7
	Forward  Sink   // gets everything, or nil
	Labels   []datagram.Label

	Allow         []netip.Prefix // who may send datagrams; empty: anybody
	Rate          float64        // messages a second of one address; 0: any
	QueueBytes    int            // 8 MiB if 0
	MessageBytes  int            // largest message of a stream, 64 KiB if 0
	Idle          time.Duration  // after which a silent connection is closed, 5 min if 0
	Connections   int            // at most, of each socket, 1024 if 0
	AllowShutdown bool
	Shutdown      func() // called when a local sender asks for it
	Log           *slog.Logger
}

// Server receives. Make one with [NewServer], give it sockets, then Run it. It
// is a prometheus.Collector of its own metrics.
type Server struct {
	cfg       Config
	stats     stats
	queue     *queue
	limiter   *limiter
	recent    *recent
	listeners []*listener
}

// NewServer returns a server without any socket.
func NewServer(cfg Config) *Server {
	def := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	def(&cfg.QueueBytes, 8<<20)
	def(&cfg.MessageBytes, 64<<10)
	def(&cfg.Connections, 1024)
	if cfg.Idle <= 0 {
		cfg.Idle = 5 * time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, queue: newQueue(cfg.QueueBytes), limiter: newLimiter(cfg.Rate), recent: newRecent()}
}

// Full reports whether the queue is over four fifths.
func (s *Server) Full() bool { return s.queue.full() }

// Run receives until ctx ends. It then reads what the sockets hold and what is
// queued, for a second at most, and closes the sockets.
func (s *Server) Run(ctx context.Context) error {
	var readers, others sync.WaitGroup
	worker, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	others.Go(func() { s.work(worker) })
	errs := make([]error, len(s.listeners))
	for i, l := range s.listeners {
		readers.Go(func() { errs[i] = l.serve(ctx, s) })
	}
	readers.Wait()
	end()
	others.Wait()
	return errors.Join(errs...)
}

// work reads what is queued.
func (s *Server) work(ctx context.Context) {
	var p processor
	var b batch
	for {
		b = s.queue.take(b)
		if len(b.parts) == 0 {
			select {
			case <-s.queue.wake:
				continue
			case <-ctx.Done():
				if b = s.queue.take(b); len(b.parts) == 0 {
					return
				}
			}
		}
		from := 0
		for _, part := range b.parts {
			now := time.Now()
			s.cfg.Registry.mu.Lock()
			s.datagram(&p, part.in, part.src, b.data[from:part.end], now)
			s.cfg.Registry.mu.Unlock()
			s.deliver(&p)
			from = part.end
			s.queue.busy.Add(-1)
		}
	}
}

// receive handles n datagrams, at once where that is possible.
func (s *Server) receive(p *processor, l *listener, in *inbox, n int) {
	l.received.Add(uint64(n))
	now := time.Now()
	held, size := false, 0
	for i := range n {
		data, from, cut := in.at(i)
		l.bytes.Add(uint64(len(data)))
		if cut {
			s.stats.refuse(cutOff, 1)
			continue
		}
		src, ok := s.admit(from, now)
		if !ok {
			continue
		}
		if !held {
			held, size = s.queue.busy.Load() == 0 && s.cfg.Registry.mu.TryLock(), 0
		}
		if !held {
			if !s.queue.put(l, src, data) {
				s.stats.refuse(queueFull, 1)
			}
			continue
		}
		s.datagram(p, l, src, data, now)
		if size += len(data); size > holdBytes {
			s.cfg.Registry.mu.Unlock()
			held = false
		}
	}
	if held {
		s.cfg.Registry.mu.Unlock()
	}
	s.deliver(p)
}

// admit reports whether a source may send now.
func (s *Server) admit(a netip.Addr, now time.Time) (src uint64, ok bool) {
	if !a.IsValid() || len(s.cfg.Allow) == 0 && s.limiter == nil {
		return 0, true // a local one
	}
	a = a.Unmap()
	if len(s.cfg.Allow) > 0 && !s.listed(a) {
		s.stats.refuse(notAllowed, 1)
		return 0, false
	}
	if s.limiter == nil {
		return 0, true
	}
	src = s.limiter.source(a)
	if !s.limiter.allow(src, s.cfg.Registry.at(now)) {
		s.stats.refuse(rateLimit, 1)
		return 0, false
	}
	return src, true
}

func (s *Server) listed(a netip.Addr) bool {
	a = a.WithZone("")
	for _, p := range s.cfg.Allow {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// processor reads messages, in one goroutine.
type processor struct {
	dec    datagram.Decoder
	statsd datagram.StatsD
	held   []*datagram.Message // for sinks, once the registry is free
}

// datagram reads a whole datagram. The caller holds the registry.
func (s *Server) datagram(p *processor, in *listener, src uint64, data []byte, now time.Time) {
	n := 0
	if in.statsd {
		p.statsd.Reset(data)
		n, _ = s.messages(p, in, p.statsd.Next, now)
	} else {
		p.dec.Reset(data, false)
		n, _ = s.messages(p, in, p.dec.Next, now)
	}
	if s.limiter != nil && in.remote {
		s.limiter.spend(src, n)
	}
}

// messages reads until next has no more, and returns how many there were and
// why it ended. The caller holds the registry.
func (s *Server) messages(p *processor, in *listener, next func() (*datagram.Message, error), now time.Time) (n int, err error) {
	at := s.cfg.Registry.at(now)
	for {
		m, err := next()
		if err == nil {
			s.message(p, in, m, now, at)
			n++
			continue
		}
		why, ok := err.(datagram.Reason) //nolint:errorlint // never wrapped, and the hot path
		if !ok {
			return n, err
		}
		s.stats.malformed[why].Add(1)
		n++
	}
}

// message applies or holds back a message that came now, which is at for the registry.
func (s *Server) message(p *processor, in *listener, m *datagram.Message, now time.Time, at int64) {
	switch m.Op {
	case datagram.Event, datagram.Index:
		p.held = append(p.held, s.labelled(m, in, now))
		return
	case datagram.Raw:
		s.stats.refuse(unsupported, 1)
		return
	case datagram.Shutdown:
		s.shutdown(in)
		return
	}
	if why := s.cfg.Registry.apply(m, in.labels, at); why != 0 {
		s.stats.refuse(why, 1)
		return
	}
	s.stats.applied[m.Op].Add(1)
	if s.cfg.Forward == nil {
		return
	}
	c := s.labelled(m, in, now)
	if m.Op == datagram.Add { // which JSON has no word for
		c.Op, c.Value = datagram.Set, s.cfg.Registry.value(m, in.labels)
	}
	p.held = append(p.held, c)
}

func (s *Server) shutdown(in *listener) {
	if in.remote || !s.cfg.AllowShutdown || s.cfg.Shutdown == nil {
		s.stats.refuse(shutdownOff, 1)
		return
	}
	s.stats.applied[datagram.Shutdown].Add(1)
	s.cfg.Log.Info("a sender asked to shut down", "listener", in.name)
	s.cfg.Shutdown()
}

// labelled returns a copy with the labels of the source, and a time.
func (s *Server) labelled(m *datagram.Message, in *listener, now time.Time) *datagram.Message {
	var k keyer
	c := *m
	c.Labels = k.join(m.Labels, in.labels)
	if c.Time.IsZero() && !m.Op.Metric() {
		c.Time = now.Round(0).UTC()
	}
	return c.Clone()
}

// deliver gives to the sinks what was held back.
func (s *Server) deliver(p *processor) {
	for i, m := range p.held {
		p.held[i] = nil
		if m.Op.Metric() {
			_ = s.cfg.Forward.Put(m) // which counts what it drops
			continue
		}
		s.event(m)
	}
	p.held = p.held[:0]
}

func (s *Server) event(m *datagram.Message) {
	sinks := s.cfg.Events
	if m.Op == datagram.Index {
		sinks = s.cfg.Index
	}
	if len(sinks) == 0 && s.cfg.Forward == nil {
		s.stats.refuse(noSink, 1)
		return
	}
	all := sinks
	if s.cfg.Forward != nil {
		all = append(all[:len(all):len(all)], s.cfg.Forward)
	}
	missing := takers(1)<<len(all) - 1
	if m.ID != "" {
		if missing = s.recent.claim(identity{m.Op, m.ID}, missing); missing == 0 {
			s.stats.refuse(duplicate, 1)
			return
		}
	}
	var refused takers
	for i, sink := range all {
		if bit := takers(1) << i; missing&bit != 0 && sink.Put(m) != nil {
			refused |= bit
		}
	}
	if m.ID != "" && refused != 0 {
		s.recent.release(identity{m.Op, m.ID}, refused) // its second copy may find room
	}
	if refused == missing {
		s.stats.refuse(sinkFull, 1)
		return
	}
	s.stats.applied[m.Op].Add(1)
}
