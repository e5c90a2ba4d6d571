package output

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// retryAfter is the pause before a destination that failed is tried again; what comes meanwhile is discarded.
const retryAfter = time.Second

// tellEvery is how often Failing is called while a destination fails.
const tellEvery = time.Minute

// run is the state of Pump.Run.
type run struct {
	done    <-chan struct{} // of the context
	buf     []byte
	enc     encoder
	now     time.Time
	events  []event
	ready   []*Stream
	limited []*Stream // streams whose limiter has lost lines to report
	left    []*Stream // streams that have ended, but whose records may not be written yet

	ring   *Ring // that keeps what is encoded
	tapped int   // from here on

	muted  time.Time // until when a failed destination is left alone
	lost   int       // lines discarded since it failed
	cause  error     // why
	giveUp time.Time // when the last flush ends
	told   time.Time // when Failing was last called
	untold int       // lines lost since
}

// round waits for something to do and does it: our own lines, one turn of each ready stream, one write.
func (p *Pump) round() (err error) {
	if p.events, err = p.poll.wait(p.events[:0], p.nextReport()); err != nil {
		return fmt.Errorf("wait for output: %w", err)
	}
	p.now = time.Now()
	p.enc.setTime(p.now)
	sweeps := p.take()
	for _, s := range p.ready {
		p.turn(s, len(p.buf))
	}
	for _, s := range sweeps {
		p.drainNow(s)
	}
	p.report(false)
	p.settle()
	return nil
}

// take fetches what other goroutines have left for this round.
func (p *Pump) take() (sweeps []*Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.own) > 0 {
		p.enc.closeLine(nil)
		p.enc.out = append(p.enc.out, p.own...)
		if p.own = p.own[:0]; cap(p.own) > flushBytes {
			p.own = nil
		}
	}
	p.ready = p.ready[:0]
	for _, ev := range p.events {
		if s := p.slots[ev.slot]; s != nil {
			p.ready = append(p.ready, s)
		}
	}
	sweeps, p.sweeps = p.sweeps, nil
	return sweeps
}

// turn reads once from a stream, at most limit bytes, and encodes the lines. It returns what it has read; the stream
// may have ended.
func (p *Pump) turn(s *Stream, limit int) int {
	n, err := unix.Read(s.fd, p.buf[:min(limit, len(p.buf))])
	switch {
	case errors.Is(err, unix.EAGAIN) || interrupted(err):
		return 0
	case err != nil || n <= 0:
		p.leave(s, err == nil)
		return 0
	}
	p.encode(s, p.buf[:n])
	s.counters.add(&p.enc.tally, n)
	return n
}

func (p *Pump) encode(s *Stream, chunk []byte) {
	if s.limit != nil {
		s.limit.fill(p.now)
	}
	p.enc.begin(s)
	p.tap(s)
	for {
		if s.label.format == Plain && s.limit == nil && s.split.empty() {
			chunk = p.enc.bulk(s, chunk)
		}
		rec, rest, part, ok := s.split.next(chunk)
		if !ok {
			break
		}
		p.record(s, rec, part)
		chunk = rest
	}
	p.tap(nil)
	if len(p.enc.out) >= flushBytes {
		p.flush()
	}
}

// tap has what is encoded from now on kept in the ring of a stream, too, until the next call.
func (p *Pump) tap(s *Stream) {
	if p.ring != nil {
		p.ring.write(p.enc.out[p.tapped:])
		p.ring = nil
	}
	if s != nil && s.ring != nil {
		p.ring, p.tapped = s.ring, len(p.enc.out)
	}
}

func (p *Pump) record(s *Stream, rec []byte, part part) {
	if s.limit != nil && !s.limit.take(len(rec)+1) {
		p.enc.tally.dropped++
		if s.limit.lost == 1 {
			s.limit.reportAt = p.now.Add(reportEvery)
			p.limited = append(p.limited, s)
		}
		if p.enc.open == s {
			p.enc.closeLine(nil)
		}
		return
	}
	p.enc.line(s, rec, part)
	if len(p.enc.out) >= flushBytes {
		p.flush()
	}
}

// leave ends a stream: its last line is encoded, its descriptor closed.
func (p *Pump) leave(s *Stream, eof bool) {
	p.enc.begin(s)
	p.tap(s)
	if rec, part, ok := s.split.end(); ok {
		p.record(s, rec, part)
	}
	if p.enc.open == s {
		p.enc.closeLine(nil)
	}
	p.tap(nil)
	s.eof, s.ended = eof, true
	p.mu.Lock()
	p.poll.remove(s.fd)
	_ = unix.Close(s.fd)
	p.release(s)
	p.mu.Unlock()
	if s.limit != nil && s.limit.lost > 0 {
		p.enc.dropped(s, s.limit.lost)
		s.limit.lost = 0
	}
	s.counters.add(&p.enc.tally, 0)
	p.left = append(p.left, s)
}

// drainNow reads what the pipe of a stream holds at this moment, and ends the stream.
func (p *Pump) drainNow(s *Stream) {
	if s.ended {
		return
	}
	held, err := unix.IoctlGetInt(s.fd, inqRequest)
	for err == nil && held > 0 && !s.ended {
		n := p.turn(s, held)
		if n == 0 {
			break
		}
		held -= n
	}
	if !s.ended {
		p.turn(s, readBytes) // to see the end, where it is there
	}
	if !s.ended {
		p.leave(s, false)
	}
}

// nextReport returns when a limiter has to say what it has lost; zero where none has.
func (p *Pump) nextReport() (at time.Time) {
	for _, s := range p.limited {
		if at.IsZero() || s.limit.reportAt.Before(at) {
			at = s.limit.reportAt
		}
	}
	return at
}

// report appends the reports that are due.
func (p *Pump) report(all bool) {
	rest := p.limited[:0]
	for _, s := range p.limited {
		switch {
		case s.limit.lost == 0: // reported when the stream ended
		case all || !p.now.Before(s.limit.reportAt):
			p.enc.dropped(s, s.limit.lost)
			s.counters.add(&p.enc.tally, 0)
			s.limit.lost = 0
		default:
			rest = append(rest, s)
		}
	}
	clear(p.limited[len(rest):])
	p.limited = rest
}

// settle writes what is encoded and tells who waits for it.
func (p *Pump) settle() {
	p.flush()
	for _, s := range p.left {
		close(s.done)
	}
	clear(p.left)
	p.left = p.left[:0]
	clear(p.ready)
}

// flush writes all that is encoded. It waits while the destination is full, which is what slows the children down.
func (p *Pump) flush() {
	b := p.enc.out
	if p.ring != nil {
		p.ring.write(b[p.tapped:])
		p.tapped = 0
	}
	p.enc.out = b[:0]
	if cap(b) > 8*flushBytes { // after a very long line
		p.enc.out = make([]byte, 0, outBytes)
		p.enc.scratch, p.enc.copied, p.enc.found = nil, nil, found{}
	}
	if len(b) == 0 || p.skip(b) {
		return
	}
	for len(b) > 0 {
		n, err := p.dst.write(b)
		b = b[n:]
		if errors.Is(err, unix.EAGAIN) {
			err = p.await()
		}
		if err != nil && !interrupted(err) {
			p.discard(b, err)
			return
		}
	}
}

func interrupted(err error) bool { return errors.Is(err, unix.EINTR) }

// skip reports whether the destination has failed just now and b is discarded. When it may be tried again, the records
// start on a new line and one of them says what was lost.
func (p *Pump) skip(b []byte) bool {
	if p.muted.IsZero() {
		return false
	}
	if p.now.Before(p.muted) {
		p.discard(b, p.cause)
		return true
	}
	var note []byte
	if p.dst.midLine {
		note = append(note, '\n')
	}
	note = append(append(note, p.enc.stamp...), `error msg="lines lost because they could not be written" error=`...)
	note = appendValue(note, []byte(p.cause.Error()))
	note = append(note, " dropped="...)
	note = append(strconv.AppendInt(note, int64(p.lost), 10), '\n')
	n, err := p.dst.write(note)
	if err != nil || n < len(note) {
		p.muted = p.now.Add(retryAfter)
		p.discard(b, err)
		return true
	}
	p.muted, p.lost, p.cause = time.Time{}, 0, nil
	return false
}

// discard drops records that the destination did not take.
func (p *Pump) discard(b []byte, cause error) {
	if p.muted.IsZero() {
		p.muted = p.now.Add(retryAfter)
	}
	if cause != nil && !errors.Is(cause, unix.EAGAIN) { // that says nothing of why
		p.cause = cause
	}
	n := countLines(b)
	p.lost += n
	p.untold += n
	p.counters.drop(DroppedByError, n)
	if p.told.IsZero() || p.now.Sub(p.told) >= tellEvery {
		p.tell()
	}
}

// tell says what was lost since it was last said.
func (p *Pump) tell() {
	if p.opts.Failing == nil || p.untold == 0 {
		return
	}
	p.opts.Failing(p.cause, p.untold)
	p.told, p.untold = p.now, 0
}

// await waits until the destination may take more. It fails when the flush timeout has passed since the end of ctx.
func (p *Pump) await() error {
	if err := p.dst.watch(); err != nil {
		return err
	}
	p.setBlocked(p.dst.poller)
	defer p.setBlocked(nil)
	select {
	case <-p.done:
	default:
		return p.dst.wait(time.Time{})
	}
	now := time.Now()
	if p.giveUp.IsZero() {
		p.giveUp = now.Add(time.Duration(p.flushFor.Load()))
	}
	if !now.Before(p.giveUp) {
		return errNotTaken
	}
	return p.dst.wait(p.giveUp)
}

func (p *Pump) setBlocked(on *poller) {
	p.mu.Lock()
	p.blocked = on
	p.mu.Unlock()
}

// finish is the end of Run.
func (p *Pump) finish() {
	p.now = time.Now()
	p.enc.setTime(p.now)
	p.events = p.events[:0]
	p.mu.Lock()
	streams := append([]*Stream(nil), p.slots...)
	p.mu.Unlock()
	for _, s := range streams {
		if s != nil {
			p.drainNow(s)
		}
	}
	p.report(true)
	for {
		p.take()
		p.settle()
		if p.end() {
			p.tell()
			return
		}
	}
}

// end lets go of everything, unless somebody has left something to do.
func (p *Pump) end() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.own) > 0 && p.muted.IsZero() {
		return false
	}
	p.state = ended
	p.counters.drop(DroppedByError, countLines(p.own))
	p.dst.close()
	p.poll.close()
	for _, s := range p.slots {
		if s != nil { // attached while we were finishing
			_ = unix.Close(s.fd)
			close(s.done)
		}
	}
	p.slots, p.free, p.own, p.sweeps = nil, nil, nil, nil
	return true
}
