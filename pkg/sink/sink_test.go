package sink

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// both runs a test in memory and with a spool.
func both(t *testing.T, f func(t *testing.T, dir string)) {
	t.Run("in memory", func(t *testing.T) { f(t, "") })
	t.Run("with a spool", func(t *testing.T) { f(t, t.TempDir()) })
}

func TestEventsArriveInOrderOnce(t *testing.T) {
	both(t, func(t *testing.T, dir string) {
		b := &store{}
		s := newSink(t, b, Config{SpoolDir: dir, Period: time.Millisecond, SegmentBytes: 4096})
		put(t, s, 0, 100) // before Run too
		stop := start(t, s)
		put(t, s, 100, 5000)
		eventually(t, "all sent", func() bool { return len(b.taken()) == 5100 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		inOrder(t, b.taken(), 0, 5100)
		st := s.Stats()
		if st.Accepted != 5100 || st.Sent != 5100 || st.QueueLen != 0 || st.QueueBytes != 0 || st.SpoolBytes != 0 || !st.Up {
			t.Errorf("stats %+v", st)
		}
		if b.open {
			t.Error("backend is still open")
		}
	})
}

func TestBatchIsSentByCountByBytesByTime(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config Config
		put    int
		after  time.Duration
	}{
		{"when the count is reached", Config{BatchCount: 10, Period: time.Hour}, 10, 0},
		{"when the bytes are reached", Config{BatchBytes: 380, Period: time.Hour}, 10, 0},
		{"when the first has waited for the period", Config{Period: time.Minute}, 1, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &store{}
				s := newSink(t, b, tt.config)
				stop := start(t, s)
				put(t, s, 0, tt.put-1)
				synctest.Wait()
				if n := len(b.taken()); n != 0 {
					t.Fatalf("%d events sent too early", n)
				}
				put(t, s, tt.put-1, 1)
				time.Sleep(tt.after)
				synctest.Wait()
				inOrder(t, b.taken(), 0, tt.put)
				if err := stop(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestRetriesWaitTwiceAsLongEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		b := &store{}
		b.answer = func(bodies []string, answers []Answer) Outcome {
			at = append(at, time.Now())
			if len(at) < 8 {
				return down(bodies, answers)
			}
			return Outcome{}
		}
		s := newSink(t, b, Config{MinBackoff: time.Second, MaxBackoff: 8 * time.Second})
		stop := start(t, s)
		put(t, s, 0, 3)
		time.Sleep(10 * time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		inOrder(t, b.taken(), 0, 3)
		for i, want := range []time.Duration{1, 2, 4, 8, 8, 8, 8} {
			if gap := at[i+1].Sub(at[i]); gap < want*time.Second*8/10 || gap > want*time.Second*12/10 {
				t.Errorf("wait %d was %s, want about %d s", i, gap, want)
			}
		}
		if st := s.Stats(); st.Retried != 21 || st.Flush.Count != 8 {
			t.Errorf("retried %d in %d requests, want 21 in 8", st.Retried, st.Flush.Count)
		}
	})
}

func TestOnlyWhatFailedIsSentAgain(t *testing.T) {
	both(t, func(t *testing.T, dir string) {
		b := &store{}
		b.answer = func(bodies []string, answers []Answer) Outcome {
			if len(bodies) == 1 {
				return Outcome{}
			}
			for i := range answers {
				if i%2 == 1 {
					answers[i].Verdict = Retry
				}
			}
			return Outcome{Err: errDown}
		}
		s := newSink(t, b, Config{SpoolDir: dir, MinBackoff: time.Microsecond, Period: 10 * time.Millisecond})
		put(t, s, 0, 64)
		stop := start(t, s)
		eventually(t, "all sent", func() bool { return len(b.taken()) == 64 })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		got := b.taken()
		slices.Sort(got)
		inOrder(t, got, 0, 64)
	})
}

func TestSplitFindsTheBadEvents(t *testing.T) {
	both(t, func(t *testing.T, dir string) {
		bad := []string{name(0), name(13), name(14), name(99)}
		b := &store{}
		b.answer = func(bodies []string, answers []Answer) Outcome {
			if !slices.ContainsFunc(bodies, func(s string) bool { return slices.Contains(bad, s) }) {
				return Outcome{}
			}
			if len(bodies) > 1 {
				return Outcome{Split: true, Err: errDown}
			}
			answers[0] = Answer{Verdict: Dead, Reason: "does not like " + bodies[0]}
			return Outcome{}
		}
		s := newSink(t, b, Config{SpoolDir: dir, Period: 10 * time.Millisecond})
		put(t, s, 0, 100)
		stop := start(t, s)
		eventually(t, "all dealt with", func() bool { return len(b.taken()) == 96 && s.Stats().QueueLen == 0 && s.Stats().SpoolBytes == 0 })
		err := stop()
		if dir == "" {
			if !errors.Is(err, ErrLost) || s.Stats().Dropped[DroppedDeadLetter] != 4 {
				t.Errorf("error %v, stats %+v: want 4 lost, there is no dead-letter file", err, s.Stats())
			}
			return
		}
		if err != nil || s.Stats().DeadLetter != 4 {
			t.Errorf("error %v, %d dead letters, want 4", err, s.Stats().DeadLetter)
		}
	})
}

func TestDeadLettersSayWhy(t *testing.T) {
	dir := t.TempDir()
	b := &jsonStore{}
	b.answer = func(_ []string, answers []Answer) Outcome {
		answers[0] = Answer{Verdict: Dead, Reason: "a \"reason\"\n"}
		return Outcome{}
	}
	s := newSink(t, b, Config{SpoolDir: dir, Period: time.Millisecond})
	if err := os.MkdirAll(filepath.Join(dir, "test"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "test", "dead-letter.ndjson")
	if err := os.WriteFile(file, []byte(`{"torn`), 0o600); err != nil {
		t.Fatal(err)
	}
	stop := start(t, s)
	m := datagram.Message{Op: datagram.Event, Name: "ev", ID: "1", Value: 1, Labels: []datagram.Label{{Name: "a", Value: "\"b\n"}}}
	if err := s.Put(&m); err != nil {
		t.Fatal(err)
	}
	eventually(t, "dead", func() bool { return s.Stats().DeadLetter == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	checkDeadLetter(t, file)
}

func checkDeadLetter(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n")
	if len(lines) != 3 || lines[0] != `{"torn` || lines[2] != "" {
		t.Fatalf("file %q: want the torn line, one more and no rest", raw)
	}
	var got struct {
		Time                  time.Time
		Sink, Reason, Key, ID string
		Event                 struct {
			Name, Op string
			Labels   map[string]string
		}
	}
	if err := json.Unmarshal([]byte(lines[1]), &got); err != nil {
		t.Fatalf("%s: %v", lines[1], err)
	}
	if got.Sink != "test" || got.Reason != "a \"reason\"\n" || got.Key != "key" || got.ID != "1" ||
		got.Event.Op != "event" || got.Event.Labels["a"] != "\"b\n" || time.Since(got.Time) > time.Minute {
		t.Errorf("dead letter %+v", got)
	}
}

// jsonStore has bodies that are JSON.
type jsonStore struct{ store }

func (s *jsonStore) Encode(m *datagram.Message, r *Record) error {
	err := s.store.Encode(m, r)
	r.Body = append(AppendEvent(r.Body[:0], m, r.Time), '}')
	return err
}

func TestFullDeadLetterFileIsALoss(t *testing.T) {
	dir := t.TempDir()
	b := &store{answer: func(_ []string, answers []Answer) Outcome {
		for i := range answers {
			answers[i].Verdict = Dead
		}
		return Outcome{}
	}}
	s := newSink(t, b, Config{SpoolDir: dir, DeadLetterBytes: 1000, Period: time.Millisecond})
	put(t, s, 0, 100)
	stop := start(t, s)
	eventually(t, "all dealt with", func() bool {
		st := s.Stats()
		return st.DeadLetter+st.Dropped[DroppedDeadLetter] == 100
	})
	if err := stop(); !errors.Is(err, ErrLost) {
		t.Errorf("error %v, want %v", err, ErrLost)
	}
	info, err := os.Stat(filepath.Join(dir, "test", "dead-letter.ndjson"))
	if err != nil || info.Size() > 1000 || s.Stats().DeadLetter == 0 {
		t.Errorf("file %v, %v, stats %+v", info, err, s.Stats())
	}
}

func TestPutRefusesAndCounts(t *testing.T) {
	s := newSink(t, &store{}, Config{QueueBytes: minQueue, BatchBytes: 1})
	long := datagram.Message{Name: strings.Repeat("x", maxPayload)}
	late := datagram.Message{Name: "x", Time: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, tt := range []struct {
		m      datagram.Message
		err    error
		reason string
	}{
		{datagram.Message{Name: "refused"}, ErrRefused, DroppedRefused},
		{late, ErrRefused, DroppedRefused},
		{long, ErrTooLarge, DroppedTooLarge},
	} {
		before := s.Stats().Dropped[tt.reason]
		if err := s.Put(&tt.m); !errors.Is(err, tt.err) {
			t.Errorf("put %.20s: %v, want %v", tt.m.Name, err, tt.err)
		}
		if n := s.Stats().Dropped[tt.reason]; n != before+1 {
			t.Errorf("%s: %d, want %d", tt.reason, n, before+1)
		}
	}
	var err error
	n := 0
	for ; err == nil; n++ {
		err = s.Put(&datagram.Message{Name: name(n)})
	}
	if st := s.Stats(); !errors.Is(err, ErrFull) || st.Dropped[DroppedFull] != 1 || st.QueueBytes > minQueue || st.QueueBytes < minQueue*8/10 {
		t.Errorf("after %d: %v, %+v", n, err, st)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(&datagram.Message{}); !errors.Is(err, ErrClosed) {
		t.Errorf("put after the end: %v", err)
	}
	if st := s.Stats(); st.Sent != st.Accepted || st.Dropped[DroppedClosed] != 1 {
		t.Errorf("at the end: %+v", st)
	}
}

func TestHangingStoreNeitherSlowsPutNorTheEnd(t *testing.T) {
	both(t, func(t *testing.T, dir string) {
		s := newSink(t, &store{hang: true}, Config{
			SpoolDir: dir, QueueBytes: minQueue, SpoolBytes: minSpool, Period: time.Millisecond, Deadline: 200 * time.Millisecond,
		})
		stop := start(t, s)
		begin := time.Now()
		accepted := 0
		for i := range 20_000 {
			if s.Put(&datagram.Message{Name: name(i)}) == nil {
				accepted++
			}
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("20,000 puts took %s", took)
		}
		begin = time.Now()
		err := stop()
		if took := time.Since(begin); took < 150*time.Millisecond || took > 5*time.Second {
			t.Errorf("end took %s, deadline is 200 ms", took)
		}
		st := s.Stats()
		if int(st.Accepted) != accepted || st.Accepted+st.Dropped[DroppedFull] != 20_000 || st.Dropped[DroppedFull] == 0 {
			t.Errorf("accepted %d of 20,000: %+v", accepted, st)
		}
		if !errors.Is(err, ErrLost) {
			t.Errorf("error %v, want %v: more was accepted than the spool holds", err, ErrLost)
		}
	})
}
