package sink

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

// runDown puts n events, from first on, into a sink whose store is down, and ends it.
func runDown(t *testing.T, c Config, first, n int) {
	t.Helper()
	c.Period = time.Millisecond
	s := newSink(t, &store{answer: down}, c)
	stop := start(t, s)
	put(t, s, first, n)
	if err := stop(); err != nil {
		t.Fatalf("end with a store that is down: %v", err)
	}
	if st := s.Stats(); st.Spooled != uint64(n) || st.Sent != 0 {
		t.Fatalf("stats %+v, want %d spooled", st, n)
	}
}

// replay runs a sink until its spool is empty and returns what its store got.
func replay(t *testing.T, c Config) ([]string, Stats, error) {
	t.Helper()
	b := &store{}
	c.Period = time.Hour // what is there at the start does not wait for it
	s := newSink(t, b, c)
	stop := start(t, s)
	eventually(t, "spool is empty", func() bool { return s.Stats().Flush.Count > 0 && s.Stats().SpoolBytes == 0 })
	err := stop()
	return b.taken(), s.Stats(), err
}

func segments(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "test", "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestSpoolIsReplayedInOrderAcrossRuns(t *testing.T) {
	c := Config{SpoolDir: t.TempDir(), SegmentBytes: 2000}
	for run := range 5 {
		runDown(t, c, run*300, 300)
	}
	if n := len(segments(t, c.SpoolDir)); n < 5 {
		t.Errorf("%d segments, want at least one of each run", n)
	}
	got, _, err := replay(t, c)
	if err != nil {
		t.Fatal(err)
	}
	inOrder(t, got, 0, 1500)
	if left := segments(t, c.SpoolDir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestDamagedSpoolLosesOnlyWhatIsDamaged(t *testing.T) {
	frame := headerSize + fixedSize + len("key") + len(name(0))
	at := func(i int) int { return len(segmentMagic) + i*frame }
	for _, tt := range []struct {
		name   string
		damage func(b []byte) []byte
		lost   []int
	}{
		{"a torn last frame", func(b []byte) []byte { return b[:len(b)-3] }, []int{9}},
		{"half a header at the end", func(b []byte) []byte { return b[:at(9)+5] }, []int{9}},
		{"zeros at the end", func(b []byte) []byte { clear(b[at(8):]); return b }, []int{8, 9}},
		{"zeros after the end", func(b []byte) []byte { return append(b, make([]byte, 5000)...) }, nil},
		{"a flipped bit in a body", func(b []byte) []byte { b[at(4)-2] ^= 1; return b }, []int{3}},
		{"a length that reaches into the next frames", func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[at(2)+4:], uint32(3*frame))
			return b
		}, []int{2}},
		{"a length beyond the end", func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[at(2)+4:], 900_000)
			return b
		}, []int{2}},
		{"a length beyond all bounds", func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[at(2)+4:], 1<<31)
			return b
		}, []int{2}},
		{"bytes between two frames", func(b []byte) []byte {
			return bytes.Join([][]byte{b[:at(5)], []byte("garbage"), b[at(5):]}, nil)
		}, nil},
		{"another magic in front", func(b []byte) []byte { b[0] = 'X'; return b }, nil},
		{"no bytes at all", func([]byte) []byte { return nil }, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{"half a magic", func(b []byte) []byte { return b[:4] }, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{SpoolDir: t.TempDir()}
			runDown(t, c, 0, 10)
			runDown(t, c, 10, 10)
			first := segments(t, c.SpoolDir)[0]
			b, err := os.ReadFile(first)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(first, tt.damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			got, _, _ := replay(t, c)
			want := map[string]bool{}
			for i := range 20 {
				want[name(i)] = true
			}
			for _, i := range tt.lost {
				delete(want, name(i))
			}
			for _, g := range got {
				if !want[g] {
					t.Errorf("got %s, which was lost or came twice", g)
				}
				delete(want, g)
			}
			for w := range want {
				t.Errorf("lost %s", w)
			}
		})
	}
}

func TestDamagedCursorSendsAgainAndLosesNothing(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cursor []byte // nil: no file
	}{
		{"none", nil},
		{"empty", []byte{}},
		{"torn", appendCursor(nil, position{1, 300})[:7]},
		{"of random bytes", []byte("these are not twenty bytes")},
		{"beyond the end of a segment is at its end", appendCursor(nil, position{1, 8})},
		{"of a negative offset", appendCursor(nil, position{1, -5})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{SpoolDir: t.TempDir()}
			runDown(t, c, 0, 50)
			file := filepath.Join(c.SpoolDir, "test", "cursor")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if tt.cursor != nil {
				if err := os.WriteFile(file, tt.cursor, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, _, err := replay(t, c)
			if err != nil {
				t.Fatal(err)
			}
			inOrder(t, got, 0, 50)
		})
	}
}

func TestNumbersOfSegmentsAreNotUsedTwice(t *testing.T) {
	c := Config{SpoolDir: t.TempDir()}
	for run := range 4 { // each run leaves nothing but the cursor
		runDown(t, c, run*10, 10)
		got, _, err := replay(t, c)
		if err != nil {
			t.Fatal(err)
		}
		inOrder(t, got, run*10, 10)
	}
}

func TestFullSpoolRefusesNewEventsAndGoesOnWhenThereIsRoom(t *testing.T) {
	c := Config{SpoolDir: t.TempDir(), SpoolBytes: minSpool, QueueBytes: minQueue, Period: time.Millisecond, MinBackoff: 10 * time.Millisecond}
	b := &store{answer: down}
	s := newSink(t, b, c)
	stop := start(t, s)
	n := 0
	eventually(t, "full", func() bool {
		for {
			err := s.Put(&datagram.Message{Name: name(n)})
			if err != nil {
				return s.Stats().SpoolBytes > minSpool*3/4 // a piece that does not fit any more waits in the queue
			}
			n++
		}
	})
	size := int64(0)
	for _, f := range segments(t, c.SpoolDir) {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > minSpool {
		t.Errorf("spool has %d bytes, limit is %d", size, minSpool)
	}
	b.mu.Lock()
	b.answer = nil
	b.mu.Unlock()
	eventually(t, "all accepted events are sent", func() bool { return len(b.taken()) >= int(s.Stats().Accepted) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	inOrder(t, b.taken(), 0, int(s.Stats().Accepted))
}

func TestWhatAFullSpoolDidNotTakeIsSentUntilTheDeadline(t *testing.T) {
	c := Config{SpoolDir: t.TempDir(), SpoolBytes: minSpool, QueueBytes: minQueue, Period: time.Millisecond, MinBackoff: 10 * time.Millisecond}
	b := &store{answer: down}
	s := newSink(t, b, c)
	stop := start(t, s)
	n := 0
	eventually(t, "full", func() bool {
		for s.Put(&datagram.Message{Name: name(n)}) == nil {
			n++
		}
		return s.direct.Load()
	})
	up := time.AfterFunc(300*time.Millisecond, func() { // once it is told to end
		b.mu.Lock()
		defer b.mu.Unlock()
		b.answer = nil
	})
	defer up.Stop()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	inOrder(t, b.taken(), 0, n)
}

func TestOneProcessHasASpool(t *testing.T) {
	c := Config{SpoolDir: t.TempDir()}
	s := newSink(t, &store{}, c)
	start(t, s)
	put(t, s, 0, 1)
	eventually(t, "the first runs", func() bool { return s.Stats().Spooled == 1 })
	err := newSink(t, &store{}, c).Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "does another process use it?") {
		t.Errorf("second: %v", err)
	}
}

func TestSpoolThatCannotBeMadeIsAnErrorOfRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newSink(t, &store{}, Config{SpoolDir: file}).Run(context.Background()); err == nil {
		t.Error("no error")
	}
}

func TestDiskThatFailsLeavesEventsInMemoryAndSendsThem(t *testing.T) {
	c := Config{SpoolDir: t.TempDir(), Period: time.Millisecond}
	b := &store{}
	s := newSink(t, b, c)
	stop := start(t, s)
	eventually(t, "it runs", func() bool {
		_, err := os.Stat(filepath.Join(c.SpoolDir, "test", "dead-letter.ndjson"))
		return err == nil
	})
	// The directory goes away: no segment can be made.
	if err := os.RemoveAll(filepath.Join(c.SpoolDir, "test")); err != nil {
		t.Fatal(err)
	}
	put(t, s, 0, 100)
	eventually(t, "sent from memory", func() bool { return len(b.taken()) == 100 })
	if st := s.Stats(); st.Spooled != 0 {
		t.Fatalf("stats %+v: the disk did not fail", st)
	}
	if err := os.Mkdir(filepath.Join(c.SpoolDir, "test"), 0o700); err != nil {
		t.Fatal(err)
	}
	next := 100
	eventually(t, "spooled again", func() bool {
		put(t, s, next, 1)
		next++
		return s.Stats().Spooled > 0
	})
	if err := stop(); err != nil && errors.Is(err, ErrLost) {
		t.Fatal(err)
	}
	inOrder(t, b.taken(), 0, next)
}

func TestFailingDiskAndStoreAtTheEndAreALossThatIsCounted(t *testing.T) {
	c := Config{SpoolDir: t.TempDir(), Period: time.Millisecond, Deadline: 100 * time.Millisecond}
	s := newSink(t, &store{answer: down}, c)
	stop := start(t, s)
	eventually(t, "it runs", func() bool {
		_, err := os.Stat(filepath.Join(c.SpoolDir, "test", "dead-letter.ndjson"))
		return err == nil
	})
	if err := os.RemoveAll(filepath.Join(c.SpoolDir, "test")); err != nil {
		t.Fatal(err)
	}
	put(t, s, 0, 100)
	eventually(t, "a try", func() bool { return s.Stats().Flush.Count > 0 })
	if err := stop(); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), ": 100") {
		t.Errorf("error %v, want 100 lost", err)
	}
	if n := s.Stats().Dropped[DroppedShutdown]; n != 100 {
		t.Errorf("%d counted, want 100", n)
	}
}
