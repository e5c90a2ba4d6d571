package sink

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// batch is what is sent in one go.
type batch struct {
	records []Record
	chunks  []chunk // from memory
	end     position
	spooled bool
}

// sender is the state of the goroutine that sends.
type sender struct {
	*Sink
	batch   batch
	buf     []byte
	answers []Answer
	since   time.Time // something has waited since then; zero: nothing waits
	due     bool      // send without waiting for more
	until   position  // of the spool: what is due

	complained time.Time // the last log line about dead letters
}

// newSender is called before anything is appended: what an earlier run left is due at once.
func newSender(s *Sink) *sender {
	w := &sender{Sink: s}
	if s.spool != nil && s.spool.pending() > 0 {
		w.fall()
	}
	return w
}

// send runs until ctx has ended and all is sent, hard has ended, or a failure after the end of ctx.
func (w *sender) send(ctx, hard context.Context) {
	for w.await(ctx, hard) {
		if !w.fetch() {
			continue
		}
		records := w.batch.records
		if left := w.deliver(ctx, hard, records); left > 0 {
			w.giveUp(left)
			return
		}
		w.finish()
		w.since = time.Time{}
		w.due = w.due && w.batch.spooled && w.spool.before(w.until)
	}
}

// fall makes all that waits due.
func (w *sender) fall() {
	w.due = true
	if w.spool != nil {
		w.until = w.spool.tail()
	}
}

// await waits until a batch is due. It is false when there is nothing more to do.
func (w *sender) await(ctx, hard context.Context) bool {
	for {
		bytes, records := w.waiting()
		if hard.Err() != nil || ctx.Err() != nil && bytes == 0 && w.settled() {
			return false
		}
		if bytes > 0 && (w.due || ctx.Err() != nil || bytes >= w.config.BatchBytes || records >= w.config.BatchCount) {
			return true
		}
		if bytes == 0 {
			w.since, w.due = time.Time{}, false
		} else if w.since.IsZero() {
			w.since = time.Now()
		}
		w.sleep(ctx, hard)
	}
}

// sleep waits for more, the end of the period, or a change of ctx.
func (w *sender) sleep(ctx, hard context.Context) {
	var period <-chan time.Time
	if !w.since.IsZero() {
		timer := time.NewTimer(w.config.Period - time.Since(w.since))
		defer timer.Stop()
		period = timer.C
	}
	stop := ctx.Done()
	if ctx.Err() != nil {
		stop = nil
	}
	ready := w.queue.ready
	if w.spool != nil && !w.direct.Load() {
		ready = nil // the writer's
	}
	select {
	case <-ready:
	case <-w.written:
	case <-period:
		w.fall()
	case <-stop:
	case <-hard.Done():
	}
}

// waiting counts what can be fetched.
func (w *sender) waiting() (bytes, records int) {
	if w.spool != nil {
		if n := w.spool.pending(); n > 0 {
			return int(n), w.spool.waiting()
		}
		if !w.direct.Load() {
			return 0, 0
		}
	}
	records, bytes = w.queue.held()
	return bytes, records
}

// settled tells that nothing more will come.
func (w *sender) settled() bool {
	return w.spool == nil || w.done.Load() && (w.queueEmpty() || !w.direct.Load())
}

// fetch fills the batch.
func (w *sender) fetch() bool {
	b := &w.batch
	b.records, b.chunks, b.spooled = b.records[:0], b.chunks[:0], false
	if w.spool != nil && w.spool.pending() > 0 {
		w.fetchSpool()
	} else {
		w.fetchQueue()
	}
	return len(b.records) > 0
}

func (w *sender) fetchSpool() {
	b := &w.batch
	p, err := w.spool.read(&w.buf, b.records, w.config.MaxBatchBytes, w.config.BatchCount)
	if err != nil {
		w.config.Log.Warn("cannot read a part of the spool; skipped it", "error", err)
	}
	if p.skipped > 0 {
		w.config.Log.Warn("skipped bytes in the spool that are no events", "bytes", p.skipped)
		w.lose(DroppedCorrupt, 1)
	}
	b.records, b.end, b.spooled = p.records, p.end, true
	if len(p.records) == 0 {
		w.commit(0)
	}
}

func (w *sender) fetchQueue() {
	if w.spool != nil {
		w.taking.Lock()
		defer w.taking.Unlock()
		if w.spool.pending() > 0 || !w.direct.Load() {
			return // the writer was faster, and what it wrote comes first
		}
	}
	b := &w.batch
	for bytes := 0; bytes < w.config.MaxBatchBytes && len(b.records) < w.config.BatchCount; {
		c, ok := w.queue.take()
		if !ok {
			return
		}
		if bytes > 0 && bytes+len(c.data) > w.config.MaxBatchBytes {
			w.queue.back(c)
			return
		}
		bytes += len(c.data)
		b.chunks = append(b.chunks, c)
		b.records = parseFrames(c.data, b.records, len(b.records)+c.records, false).records
	}
}

// finish lets go of a batch that was dealt with.
func (w *sender) finish() {
	if w.batch.spooled {
		w.commit(len(w.batch.records))
		return
	}
	for _, c := range w.batch.chunks {
		w.queue.free(c)
	}
}

func (w *sender) commit(records int) {
	if err := w.spool.commit(w.batch.end, records); err != nil {
		w.config.Log.Warn("cannot note in the spool what is sent; a restart will send it again", "error", err)
	}
	wake(w.room)
}

// giveUp leaves what is left of the batch: in the spool it is there anyway, in memory it is for Run
// to spool or to count.
func (w *sender) giveUp(left int) {
	if w.batch.spooled {
		return
	}
	var frames []byte
	for _, r := range w.batch.records[:left] {
		frames, _ = appendFrame(frames, &r)
	}
	for _, c := range w.batch.chunks {
		w.queue.free(c)
	}
	w.queue.again(chunk{data: frames, records: left})
}

// deliver sends records until each is sent or dead. It returns how many are left when it gives up;
// they are the first ones of records then.
func (w *sender) deliver(ctx, hard context.Context, records []Record) int {
	pause := w.config.MinBackoff
	for len(records) > 0 {
		before := len(records)
		out := w.attempt(hard, records)
		if out.Split && before > 1 {
			return w.halves(ctx, hard, records)
		}
		records = w.sort(records, out)
		if len(records) == 0 {
			return 0
		}
		if len(records) < before {
			pause = w.config.MinBackoff
		}
		if out.Err != nil {
			w.config.Log.Warn("store did not take all; will send the rest again", "left", len(records), "error", out.Err)
		}
		if !w.pause(ctx, hard, max(pause, min(out.RetryAfter, w.config.MaxBackoff))) {
			return len(records)
		}
		w.add(func(st *Stats) { st.Retried += uint64(len(records)) })
		pause = min(2*pause, w.config.MaxBackoff)
	}
	return 0
}

func (w *sender) halves(ctx, hard context.Context, records []Record) int {
	half := len(records) / 2
	if left := w.deliver(ctx, hard, records[:half]); left > 0 {
		return left + copy(records[left:], records[half:])
	}
	left := w.deliver(ctx, hard, records[half:])
	copy(records, records[half:half+left])
	return left
}

func (w *sender) attempt(hard context.Context, records []Record) Outcome {
	if cap(w.answers) < len(records) {
		w.answers = make([]Answer, len(records))
	}
	w.answers = w.answers[:len(records)]
	clear(w.answers)
	start := time.Now()
	out := w.backend.Send(hard, records, w.answers)
	w.flushed(time.Since(start), !out.Down)
	return out
}

// sort counts what is sent, buries what is dead and returns the rest, at the front of records.
func (w *sender) sort(records []Record, out Outcome) []Record {
	rest, sent := records[:0], 0
	for i, a := range w.answers {
		switch {
		case a.Verdict == Sent:
			sent++
		case a.Verdict == Dead:
			w.bury(&records[i], a.Reason)
		default:
			rest = append(rest, records[i])
		}
	}
	w.add(func(st *Stats) { st.Sent += uint64(sent) })
	return rest
}

func (w *sender) bury(r *Record, reason string) {
	err := errNoSpool
	if w.dead != nil {
		err = w.dead.write(r, reason)
	}
	// A hostile sender decides how many there are, so not each gets a line.
	if now := time.Now(); now.Sub(w.complained) > time.Second {
		w.complained = now
		w.config.Log.Error("store refuses events for good", "reason", reason, "error", err)
	}
	if err != nil {
		w.lose(DroppedDeadLetter, 1)
		return
	}
	w.add(func(st *Stats) { st.DeadLetter++ })
}

var errNoSpool = errors.New("without a spool directory there is no dead-letter file")

// pause waits about d before another try. It is false when there is to be none: the deadline has
// passed, or ctx has ended and what is left is safe in the spool, and so is what comes after it.
func (w *sender) pause(ctx, hard context.Context, d time.Duration) bool {
	d = time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
	if w.batch.spooled && !w.stuck() {
		return wait(ctx, d) || w.stuck() && wait(hard, d)
	}
	return wait(hard, d)
}

// stuck tells that events are in memory because the spool does not take them.
func (w *sender) stuck() bool { return w.direct.Load() && !w.queueEmpty() }
