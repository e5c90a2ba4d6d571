package sink

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// Verdict is what became of one record.
type Verdict uint8

// The verdicts. Sent is the zero value.
const (
	Sent  Verdict = iota // the store has it
	Retry                // not yet
	Dead                 // it never will
)

// Answer is a store's about one record.
type Answer struct {
	Verdict Verdict
	Reason  string // of Dead, for the dead-letter file
}

// Outcome is a store's answer to a request.
type Outcome struct {
	Err        error         // what went wrong, for the log; nil if all was sent
	Down       bool          // the store did not answer, or not with sense
	Split      bool          // send the halves on their own: some record spoils the rest; answers do not count then
	RetryAfter time.Duration // the store's wish, if it has one
}

// Backend is one kind of store. Its methods other than Encode are called by one goroutine.
type Backend interface {
	// Encode appends key, id and body of m to those of r, which are empty, and sets its time. It is
	// called by many goroutines. An error wraps ErrRefused.
	Encode(m *datagram.Message, r *Record) error
	// Open is called before the first Send, Close after the last.
	Open() error
	Close() error
	// Send sends records, at least one, and writes what became of each into answers, which has the
	// same length and is all zero. It returns soon after ctx has ended.
	Send(ctx context.Context, records []Record, answers []Answer) Outcome
}

// Sink is described in the package documentation.
type Sink struct {
	config  Config
	backend Backend
	queue   *queue
	scratch sync.Pool
	counters
	lost   atomic.Int64 // accepted and gone
	opened atomic.Pointer[spool]

	// Of Run.
	spool   *spool // nil: memory only
	dead    *deadLetter
	written chan struct{} // one element: writer did something, or ended
	room    chan struct{} // one element: sender committed
	direct  atomic.Bool   // the writer cannot write: the sender may take from the queue
	done    atomic.Bool   // the writer has ended
	taking  sync.Mutex    // held while a chunk is on its way to the spool: none may overtake it
}

// New checks c.
func New(c Config, b Backend) (*Sink, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	s := &Sink{
		config: c, backend: b, queue: newQueue(c.QueueBytes, c.spoolSize()),
		written: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
	s.scratch.New = func() any { return new(scratch) }
	return s, nil
}

// Name is Config.Name.
func (s *Sink) Name() string { return s.config.Name }

type scratch struct {
	record Record
	frame  []byte
}

// Put accepts m or returns why not: ErrFull, ErrClosed, ErrTooLarge, or an error that wraps
// ErrRefused. It does no I/O and waits for nothing. It does not keep m.
func (s *Sink) Put(m *datagram.Message) error {
	err := s.put(m)
	switch {
	case err == nil:
		s.add(func(st *Stats) { st.Accepted++ })
	case errors.Is(err, ErrFull):
		s.drop(DroppedFull, 1)
	case errors.Is(err, ErrClosed):
		s.drop(DroppedClosed, 1)
	case errors.Is(err, ErrTooLarge):
		s.drop(DroppedTooLarge, 1)
	default:
		s.drop(DroppedRefused, 1)
	}
	return err
}

func (s *Sink) put(m *datagram.Message) error {
	if s.queue.full() {
		return ErrFull
	}
	x := s.scratch.Get().(*scratch)
	defer s.scratch.Put(x)
	r := &x.record
	r.Key, r.ID, r.Body = r.Key[:0], r.ID[:0], r.Body[:0]
	if err := s.backend.Encode(m, r); err != nil {
		return err
	}
	if year := r.Time.Year(); year < 1970 || year > 2200 {
		return fmt.Errorf("%w: year %d", ErrRefused, year)
	}
	var ok bool
	if x.frame, ok = appendFrame(x.frame[:0], r); !ok {
		return ErrTooLarge
	}
	return s.queue.put(x.frame)
}

// Stats is a snapshot of what happened so far.
func (s *Sink) Stats() Stats {
	st := s.snapshot()
	st.QueueLen, st.QueueBytes = s.queue.held()
	if spool := s.opened.Load(); spool != nil {
		st.SpoolBytes = spool.pending()
	}
	return st
}

// Run sends until ctx ends, then for at most Config.Deadline. It is called once. It returns an error
// at once when the spool cannot be opened, and ErrLost when accepted events are gone.
func (s *Sink) Run(ctx context.Context) error {
	if err := s.open(); err != nil {
		return fmt.Errorf("sink %s: %w", s.config.Name, err)
	}
	hard, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	soft, stop := context.WithCancel(hard) // ends when Put has begun to refuse
	defer stop()
	sender := newSender(s)
	var wg sync.WaitGroup
	if s.spool != nil {
		wg.Go(func() { s.write(soft) })
	}
	wg.Go(func() { sender.send(soft, hard) })
	<-ctx.Done()
	s.queue.close()
	stop()
	timer := time.AfterFunc(s.config.Deadline, func() { cancel(errDeadline) })
	defer timer.Stop()
	wg.Wait()
	s.rest()
	err := s.close()
	if n := s.lost.Load(); n > 0 {
		err = errors.Join(err, fmt.Errorf("sink %s: %w: %d", s.config.Name, ErrLost, n))
	}
	return err
}

var errDeadline = errors.New("deadline of the sink has passed")

func (s *Sink) open() error {
	if s.config.SpoolDir != "" {
		dir := filepath.Join(s.config.SpoolDir, s.config.Name)
		always := s.config.Fsync == FsyncAlways
		var err error
		if s.spool, err = openSpool(dir, s.config.SpoolBytes, s.config.SegmentBytes, s.config.Fsync == FsyncNever); err != nil {
			return err
		}
		if s.dead, err = openDeadLetter(dir, s.config.Name, s.config.DeadLetterBytes, always); err != nil {
			return errors.Join(err, s.spool.close())
		}
		s.opened.Store(s.spool)
	}
	if err := s.backend.Open(); err != nil {
		return errors.Join(err, s.closeFiles())
	}
	return nil
}

func (s *Sink) close() error { return errors.Join(s.backend.Close(), s.closeFiles()) }

func (s *Sink) closeFiles() error {
	if s.spool == nil {
		return nil
	}
	return errors.Join(s.dead.close(), s.spool.close())
}

// rest spools what is left in memory, or counts it as lost.
func (s *Sink) rest() {
	for c, ok := s.queue.take(); ok; c, ok = s.queue.take() {
		if s.spool == nil || s.spool.append(c.data, c.records) != nil {
			s.lose(DroppedShutdown, c.records)
		} else {
			s.add(func(st *Stats) { st.Spooled += uint64(c.records) })
		}
		s.queue.free(c)
	}
}

// lose counts accepted events that are gone.
func (s *Sink) lose(reason string, n int) {
	s.lost.Add(int64(n))
	s.drop(reason, n)
}
