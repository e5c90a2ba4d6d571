package output

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	readBytes  = 64 << 10 // of one turn of one stream
	flushBytes = 60 << 10 // of records, before they are written: with the last of them they still fit into an empty pipe
	outBytes   = flushBytes * 3 / 2

	defaultQueueBytes   = 1 << 20
	defaultFlushTimeout = 2 * time.Second
)

// PumpOptions are the limits of a Pump. The zero value gives the defaults.
type PumpOptions struct {
	QueueBytes   int           // our own lines that wait to be written, 1 MiB
	FlushTimeout time.Duration // for a destination that is full when Run ends, 2s
	// Failing is called when the destination fails, then at most once a minute
	// while it does: with why, and how many lines were lost since the last call. It
	// must not block, nor write to this pump.
	Failing func(cause error, lost int)
}

// Pump carries the lines of many streams, and our own, to one destination.
type Pump struct {
	opts     PumpOptions
	flushFor atomic.Int64 // FlushTimeout
	dst      *sink        // belongs to Run while it runs, else to Write under mu
	counters Counters     // what belongs to no stream: DroppedByQueue, DroppedByError

	mu      sync.Mutex // guards the following
	state   runState
	taken   bool      // by a Run
	poll    *poller   // while running
	slots   []*Stream // attached streams; the index is what the poller calls them
	free    []int32   // indices of slots that are free
	own     []byte    // whole lines from Write
	sweeps  []*Stream // streams that are to end with what their pipes hold
	blocked *poller   // that of dst, while Run waits for it

	run // what only Run touches
}

type runState uint8

const (
	idle runState = iota
	running
	ended
)

// NewPump returns a pump for dst, which stays open and in the mode it is in. It fails where dst is not open.
func NewPump(dst *os.File, opts PumpOptions) (*Pump, error) {
	if opts.QueueBytes <= 0 {
		opts.QueueBytes = defaultQueueBytes
	}
	if opts.FlushTimeout <= 0 {
		opts.FlushTimeout = defaultFlushTimeout
	}
	s, err := newSink(dst)
	if err != nil {
		return nil, err
	}
	p := &Pump{opts: opts, dst: s}
	p.FlushWithin(opts.FlushTimeout)
	return p, nil
}

// FlushWithin changes the flush timeout, before the context of Run ends.
func (p *Pump) FlushWithin(d time.Duration) { p.flushFor.Store(int64(d)) }

// Counters returns the counts that belong to no stream: our own lines that were dropped, and all lines that the
// destination did not take.
func (p *Pump) Counters() *Counters { return &p.counters }

// Write takes whole lines of our own. It never blocks: it drops and counts them when too many wait. Before and after Run
// it writes them itself, as far as the destination takes them. It always reports success.
func (p *Pump) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != running {
		p.writeNow(b)
		return len(b), nil
	}
	if len(p.own)+len(b) >= p.opts.QueueBytes {
		p.counters.drop(DroppedByQueue, countLines(b))
		return len(b), nil
	}
	p.own = append(p.own, b...)
	if b[len(b)-1] != '\n' {
		p.own = append(p.own, '\n')
	}
	p.poll.wake()
	return len(b), nil
}

// writeNow is Write without Run. mu is held.
func (p *Pump) writeNow(b []byte) {
	if b[len(b)-1] != '\n' {
		b = append(bytes.Clone(b), '\n')
	}
	for len(b) > 0 {
		n, err := p.dst.write(b)
		b = b[n:]
		if err != nil && !interrupted(err) {
			p.counters.drop(DroppedByError, countLines(b))
			return
		}
	}
}

// countLines counts an unterminated last line too.
func countLines(b []byte) int {
	n := bytes.Count(b, newline)
	if len(b) > 0 && b[len(b)-1] != '\n' {
		n++
	}
	return n
}

func (p *Pump) attach(s *Stream) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == ended {
		return errEnded
	}
	if n := len(p.free); n > 0 {
		s.slot, p.free = p.free[n-1], p.free[:n-1]
		p.slots[s.slot] = s
	} else {
		s.slot = int32(len(p.slots))
		p.slots = append(p.slots, s)
	}
	if p.state == idle {
		return nil
	}
	err := p.poll.add(s.fd, s.slot, false)
	if err != nil {
		p.release(s)
	}
	return err
}

// release frees the slot of a stream. mu is held.
func (p *Pump) release(s *Stream) {
	p.slots[s.slot] = nil
	p.free = append(p.free, s.slot)
}

func (p *Pump) sweep(s *Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweeps = append(p.sweeps, s)
	if p.state == running {
		p.poll.wake()
	}
}

// Start makes what Run needs and takes up the streams that are attached already.
// Run does it where that was not done; from here on lines wait for Run.
func (p *Pump) Start() error {
	poll, err := newPoller()
	if err != nil {
		return fmt.Errorf("start output pump: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != idle {
		poll.close()
		return fmt.Errorf("start output pump: it runs or has ended")
	}
	for _, s := range p.slots {
		if s == nil {
			continue
		}
		if err := poll.add(s.fd, s.slot, false); err != nil {
			poll.close()
			return fmt.Errorf("start output pump: %w", err)
		}
	}
	p.poll, p.state = poll, running
	p.dst.open()
	return nil
}

// starting is Start for Run.
func (p *Pump) starting() error {
	p.mu.Lock()
	started := p.state == running && !p.taken
	p.taken = p.taken || started
	p.mu.Unlock()
	if started {
		return nil
	}
	err := p.Start()
	p.mu.Lock()
	p.taken = p.taken || err == nil
	p.mu.Unlock()
	return err
}

// wakeAll makes Run notice that its context has ended, wherever it waits.
func (p *Pump) wakeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == running {
		p.poll.wake()
	}
	if p.blocked != nil {
		p.blocked.wake()
	}
}

// Run carries lines until ctx ends. Then it reads what the pipes still hold, writes it, for at most the flush timeout
// where the destination is full, closes all streams and returns nil. It runs at most once.
func (p *Pump) Run(ctx context.Context) error {
	if err := p.starting(); err != nil {
		return err
	}
	p.done = ctx.Done()
	p.buf = make([]byte, readBytes)
	p.enc.out = make([]byte, 0, outBytes)
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		p.wakeAll()
	})
	defer func() {
		if !stop() {
			<-woken
		}
	}()
	var err error
	for ctx.Err() == nil && err == nil {
		err = p.round()
	}
	p.finish()
	return err
}
