package sink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// The cursor file: segment uint64 | offset uint64 | CRC-32C of both uint32, little-endian. One that
// is torn or missing means the start of the oldest segment: events are sent again, none is lost.
const cursorSize = 20

func readCursor(f io.ReaderAt) (position, bool) {
	var b [cursorSize]byte
	if n, err := f.ReadAt(b[:], 0); n < len(b) && err != nil {
		return position{}, false
	}
	if crc32.Checksum(b[:16], castagnoli) != binary.LittleEndian.Uint32(b[16:]) {
		return position{}, false
	}
	at := position{segment: binary.LittleEndian.Uint64(b[:]), offset: int64(binary.LittleEndian.Uint64(b[8:]))}
	if at.offset < 0 {
		return position{}, false
	}
	return at, true
}

func appendCursor(b []byte, at position) []byte {
	b = binary.LittleEndian.AppendUint64(b, at.segment)
	b = binary.LittleEndian.AppendUint64(b, uint64(at.offset))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// commit moves the head to at, writes it down and removes the segments before it. records is how
// many events it passes.
func (s *spool) commit(at position, records int) error {
	_, err := s.cursor.WriteAt(appendCursor(nil, at), 0)
	if err != nil {
		err = fmt.Errorf("write cursor: %w", err)
	}
	return errors.Join(err, s.trim(at, records))
}

func (s *spool) trim(at position, records int) error {
	s.mu.Lock()
	s.head = at
	s.records = max(0, s.records-records)
	var gone []segment
	for len(s.segments) > 0 {
		first := s.segments[0]
		open := len(s.segments) == 1 && s.active
		if first.number > at.segment || open || (first.number == at.segment && at.offset < first.size) {
			break
		}
		gone, s.segments = append(gone, first), s.segments[1:]
	}
	s.mu.Unlock()
	var errs []error
	for _, seg := range gone {
		if err := os.Remove(s.path(seg.number)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove segment: %w", err))
		}
	}
	return errors.Join(errs...)
}
