package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// follower copies lines to a client. It takes a piece of each process at a time,
// or a few, so that one that floods holds up neither the others nor, by many
// followers, the wrapper; what it misses by that is marked.
type follower struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	all    []source
	buf    []byte
	others *atomic.Int32 // followers, itself included
	json   *json.Encoder // nil: lines as they are
}

func (f *follower) copy() error {
	_ = f.rc.SetWriteDeadline(time.Now().Add(idleWrite)) // a recorder in a test has none
	pieces := 1
	if f.others.Load() <= fewFollow {
		pieces = logPieces
	}
	for i := range f.all {
		for range pieces {
			if n, err := f.piece(&f.all[i]); err != nil {
				return err
			} else if n == 0 {
				break
			}
		}
	}
	return f.rc.Flush()
}

// piece copies what is new of a process, and returns how much it was.
func (f *follower) piece(s *source) (int, error) {
	n, next, lost, _ := s.lines.Read(s.at, f.buf)
	s.at = next
	if f.json != nil {
		return n, f.encode(s, f.buf[:n], lost)
	}
	if lost > 0 {
		if _, err := fmt.Fprintf(f.w, "--- %d bytes of %s were written faster than they could be followed ---\n", lost, s.name); err != nil {
			return n, err
		}
	}
	_, err := f.w.Write(f.buf[:n])
	return n, err
}

// maxBegun bounds what is kept of a line whose end has not come: a longer one is
// told in parts.
const maxBegun = 1 << 20

// lineJSON is a line as JSON. Time and stream are there where the line says them,
// as it does in all formats but plain.
type lineJSON struct {
	Name   string     `json:"name"`
	Time   *time.Time `json:"time,omitempty"`
	Stream string     `json:"stream,omitempty"`
	Line   *string    `json:"line,omitempty"`
	Lost   uint64     `json:"lost,omitempty"` // bytes that were written faster than they could be followed
}

// encode writes an object for each line of a piece. A line that goes on in the
// next piece waits for it.
func (f *follower) encode(s *source, piece []byte, lost uint64) error {
	if lost > 0 {
		if err := f.rest(s); err != nil {
			return err
		}
		if err := f.json.Encode(lineJSON{Name: s.name, Lost: lost}); err != nil {
			return err
		}
	}
	for line := range bytes.Lines(piece) {
		s.begun = append(s.begun, line...)
		if line[len(line)-1] == '\n' || len(s.begun) > maxBegun {
			if err := f.rest(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// rest writes what has come of a line.
func (f *follower) rest(s *source) error {
	if len(s.begun) == 0 {
		return nil
	}
	line := strings.TrimSuffix(string(s.begun), "\n")
	s.begun = s.begun[:0]
	out := lineJSON{Name: s.name, Line: &line}
	out.Time, out.Stream = head(line)
	return f.json.Encode(out)
}

// finish writes the lines that have no end.
func (f *follower) finish() error {
	if f.json == nil {
		return nil
	}
	for i := range f.all {
		if err := f.rest(&f.all[i]); err != nil {
			return err
		}
	}
	return nil
}

// head is what the begin of a line says: time=T level=L name=N pid=P out=STREAM.
func head(line string) (at *time.Time, stream string) {
	stamp, rest, _ := strings.Cut(line, " ")
	value, ok := strings.CutPrefix(stamp, "time=")
	if !ok {
		return nil, ""
	}
	if when, err := time.Parse(time.RFC3339Nano, value); err == nil {
		at = &when
	}
	_, rest, _ = strings.Cut(rest, " out=")
	switch word, _, _ := strings.Cut(rest, " "); word {
	case "stdout", "stderr":
		return at, word
	}
	return at, ""
}
