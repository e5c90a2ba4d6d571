package sink

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// portion is what was read in one go.
type portion struct {
	records []Record // into the buffer of read
	end     position // commit this when they are sent
	skipped int      // bytes that were no frames
}

// read returns up to most records of up to size bytes from the head on, at least one if there is
// any, in buf, which it may replace. Bytes that are no frames are skipped, up to the next frame.
func (s *spool) read(buf *[]byte, records []Record, size, most int) (portion, error) {
	s.mu.Lock()
	at := s.head
	segments := append([]segment(nil), s.segments...)
	s.mu.Unlock()
	got := portion{records: records[:0], end: at}
	var failed []error
	for _, seg := range segments {
		if seg.number < at.segment {
			continue
		}
		if seg.number > at.segment {
			at = position{segment: seg.number}
		}
		p, err := s.readSegment(buf, got.records, seg, at, size, most)
		p.skipped += got.skipped
		got = p
		if err != nil {
			failed = append(failed, err)
		}
		if len(got.records) > 0 {
			break
		}
	}
	return got, errors.Join(failed...)
}

// readSegment reads from one segment. It grows buf until it holds a frame or the segment's end.
func (s *spool) readSegment(buf *[]byte, records []Record, seg segment, at position, size, most int) (portion, error) {
	end := position{segment: seg.number, offset: seg.size}
	f, err := s.openReader(seg.number)
	if err != nil {
		return portion{records: records, end: end, skipped: int(seg.size - at.offset)}, err
	}
	skipped := 0
	if at.offset == 0 {
		at.offset = int64(len(segmentMagic))
		if head := make([]byte, len(segmentMagic)); seg.size > 0 {
			if _, err := io.ReadFull(io.NewSectionReader(f, 0, seg.size), head); err != nil || string(head) != segmentMagic {
				at.offset = 0 // look for frames all the same
			}
		}
	}
	for at.offset < seg.size {
		b := grow(buf, min(int64(size), seg.size-at.offset))
		n, err := f.ReadAt(b, at.offset)
		if n == 0 {
			err = fmt.Errorf("read segment %d at %d: %w", seg.number, at.offset, err)
			return portion{records: records, end: end, skipped: skipped + int(seg.size-at.offset)}, err
		}
		more := at.offset+int64(n) < seg.size
		p := parseFrames(b[:n], records, most, more)
		skipped += p.skipped
		at.offset += p.end.offset
		if len(p.records) > 0 {
			return portion{records: p.records, end: position{seg.number, at.offset}, skipped: skipped}, nil
		}
		if p.end.offset == 0 {
			size = headerSize + maxPayload // a frame larger than size
		}
	}
	return portion{records: records, end: end, skipped: skipped}, nil
}

// parseFrames collects records from b. The offset of its end tells how much of b it used; more
// says that b goes on in the file, so a partial frame at its end is not broken.
func parseFrames(b []byte, records []Record, most int, more bool) portion {
	p := portion{records: records}
	used := 0
	for len(p.records) < most && used < len(b) {
		r, n, state := parseFrame(b[used:])
		if state == whole {
			p.records = append(p.records, r)
			used += n
			continue
		}
		if state == partial && more {
			break
		}
		n = resync(b[used:])
		used += n
		p.skipped += n
	}
	p.end.offset = int64(used)
	return p
}

func (s *spool) openReader(n uint64) (*os.File, error) {
	if s.reader != nil && s.readerNumber == n {
		return s.reader, nil
	}
	if s.reader != nil {
		s.reader.Close()
		s.reader = nil
	}
	f, err := os.Open(s.path(n))
	if err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	s.reader, s.readerNumber = f, n
	return f, nil
}

func grow(buf *[]byte, n int64) []byte {
	if int64(cap(*buf)) < n {
		*buf = make([]byte, n)
	}
	return (*buf)[:n]
}
