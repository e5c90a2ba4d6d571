package prommerge

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// blockSize is how much of a page is read and scanned at a time: what stays in the cache between the two.
const blockSize = 64 << 10

var blockPool = sync.Pool{New: func() any { b := make([]byte, blockSize); return &b }}

// maxRecord is the longest line, or protobuf message within a family, that is taken.
const maxRecord = segLenMask - 1<<20

// feed reads r to its end and scans it block by block. framed says that the end of r is the end of the page, and
// not just that of a connection.
func (s *scanner) feed(r io.Reader, framed bool) error {
	buf := blockPool.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= 4*blockSize {
			blockPool.Put(buf)
		}
	}()
	have := 0 // bytes in buf
	for {
		if have == len(*buf) {
			if have >= maxRecord {
				return &targetError{reason: reasonTooLarge, err: errors.New("a line is too long")}
			}
			*buf = append(*buf, make([]byte, len(*buf))...)
		}
		n, err := r.Read((*buf)[have:])
		have += n
		if have == len(*buf) || err == io.EOF {
			done, serr := s.block((*buf)[:have])
			if serr != nil {
				return serr
			}
			have = copy(*buf, (*buf)[done:have])
		}
		if err == io.EOF {
			return s.end((*buf)[:have], framed)
		}
		if err != nil {
			return err
		}
	}
}

// block scans the whole lines of b.
func (s *scanner) block(b []byte) (int, error) {
	n := bytes.LastIndexByte(b, '\n') + 1
	if n == 0 {
		return 0, nil
	}
	if s.eof {
		return 0, errAfterEOF
	}
	return s.scan(b[:n])
}

var errAfterEOF = &targetError{reason: reasonSyntax, err: errors.New("data after # EOF")}

// end handles what is left of the page when no more comes.
func (s *scanner) end(rest []byte, framed bool) error {
	switch {
	case len(rest) > 0 && s.eof:
		return errAfterEOF
	case len(rest) > 0 && !framed && !(s.om && string(rest) == "# EOF"):
		return &targetError{reason: reasonTruncated, err: errors.New("the connection ended within a line")}
	case len(rest) > 0:
		line := append(append(make([]byte, 0, len(rest)+1), rest...), '\n')
		if n, err := s.scan(line); err != nil {
			return err
		} else if n < len(line) {
			return errSyntax(line, "an open quote")
		}
	}
	if s.om && !s.eof {
		return &targetError{reason: reasonTruncated, err: errors.New("no # EOF at the end")}
	}
	return nil
}
