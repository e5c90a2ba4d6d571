package output

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultMaxLineBytes is the longest line that is kept in one piece where StreamConfig does not say.
const DefaultMaxLineBytes = 256 << 10

// sweepGrace is how long Drain waits, after its context has ended, for the pump to read what the pipe holds. It is only
// used up when the destination is full.
const sweepGrace = 250 * time.Millisecond

var (
	errEnded       = errors.New("the output pump has ended")
	errNotTaken    = errors.New("nobody reads them")
	errNotAttached = errors.New("the stream is not attached")
)

// StreamConfig describes one stream of one process.
type StreamConfig struct {
	Name   string            // name= of its records
	Out    string            // out= of its records: stdout or stderr
	Labels map[string]string // further keys; one that is ours gets the prefix "label_"
	Format Format

	MaxLineBytes int // 0: DefaultMaxLineBytes

	// Lines and bytes per second that may pass, with bursts of one second's worth; 0: no limit. What is over is dropped
	// and counted, and every ten seconds a record says how much it was.
	RateLines, RateBytes int

	Counters *Counters // may be nil
	Ring     *Ring     // keeps the latest lines of the process; may be nil
}

// Stream is one output stream of one incarnation of a process: a pipe. It is either closed with Close, when the process
// could not be started, or attached and later drained.
type Stream struct {
	pump *Pump
	name string
	out  string

	// Until Attach these belong to the caller's goroutine, then to the pump's.
	cfg      *StreamConfig // nil after Attach
	child    *os.File      // the write end; nil after Attach
	fd       int           // the read end
	slot     int32
	label    label
	split    splitter
	limit    *limiter
	ring     *Ring
	counters *Counters

	attached bool
	ended    bool          // written by the pump: it has left the stream;
	eof      bool          // it has seen its end. Readable after done.
	done     chan struct{} // closed when all that was read has been handed over
}

// Open makes the pipe of a stream.
func (p *Pump) Open(cfg StreamConfig) (*Stream, error) {
	r, w, err := newPipe()
	if err != nil {
		return nil, fmt.Errorf("open %s of %s: %w", cfg.Out, cfg.Name, err)
	}
	if cfg.MaxLineBytes <= 0 {
		cfg.MaxLineBytes = DefaultMaxLineBytes
	}
	return &Stream{
		pump: p, name: cfg.Name, out: cfg.Out, cfg: &cfg, fd: r, counters: cfg.Counters,
		child: os.NewFile(uintptr(w), "|"+cfg.Name+"."+cfg.Out),
		split: splitter{max: cfg.MaxLineBytes}, limit: newLimiter(&cfg), ring: cfg.Ring,
	}, nil
}

// File returns the write end, for the child. It is nil after Attach and Close.
func (s *Stream) File() *os.File { return s.child }

// Close gives up a stream whose process was not started. After Attach it does nothing.
func (s *Stream) Close() {
	if s.child != nil {
		_ = s.child.Close()
		s.child = nil
		_ = unix.Close(s.fd)
	}
}

// Attach closes our copy of the write end and lets the lines flow, labelled with the pid. It fails when the pump has
// ended, and closes the stream then.
func (s *Stream) Attach(pid int) error {
	if s.child == nil {
		return fmt.Errorf("attach %s of %s: the stream is closed or attached already", s.out, s.name)
	}
	s.label = newLabel(s.cfg, pid)
	s.cfg = nil
	s.done = make(chan struct{})
	_ = s.child.Close()
	s.child = nil
	s.attached = true
	if err := s.pump.attach(s); err != nil {
		_ = unix.Close(s.fd)
		close(s.done)
		return fmt.Errorf("attach %s of %s: %w", s.out, s.name, err)
	}
	return nil
}

// Drain waits until the stream has come to its end and all of it, the last unterminated line too, was handed to the
// destination. When ctx ends first, because another process still holds the pipe, what the pipe holds now is still read,
// then the stream is closed and the cause of ctx is returned. Where the destination is full at that time, Drain does not
// wait for it: the pump catches up later.
func (s *Stream) Drain(ctx context.Context) error {
	if !s.attached {
		return fmt.Errorf("drain %s of %s: %w", s.out, s.name, errNotAttached)
	}
	select {
	case <-s.done:
		return s.result(nil)
	case <-ctx.Done():
	}
	s.pump.sweep(s)
	grace := time.NewTimer(sweepGrace)
	defer grace.Stop()
	select {
	case <-s.done:
		return s.result(context.Cause(ctx))
	case <-grace.C:
		return fmt.Errorf("drain %s of %s: %w", s.out, s.name, context.Cause(ctx))
	}
}

func (s *Stream) result(cause error) error {
	if s.eof {
		return nil
	}
	if cause == nil {
		cause = errEnded
	}
	return fmt.Errorf("drain %s of %s: %w", s.out, s.name, cause)
}
