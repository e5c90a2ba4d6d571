package prommerge

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// blockSize is how much of a page is read and scanned at a time: what stays in the cache between the two. Long pages
// are worth fewer system calls.
const (
	blockSize   = 64 << 10
	blockLarge  = 256 << 10
	smallBlocks = 4
)

var (
	blockPool      = sync.Pool{New: func() any { b := make([]byte, blockSize); return &b }}
	blockLargePool = sync.Pool{New: func() any { b := make([]byte, blockLarge); return &b }}
)

// block is a buffer that grows with what is read into it.
type block struct {
	buf  *[]byte
	n    int // bytes in it
	full int // how often it was full
}

// room makes room for more, once the block is full.
func (k *block) room() error {
	if k.n < len(*k.buf) {
		return nil
	}
	if k.n >= maxRecord {
		return &targetError{reason: reasonTooLarge, err: errors.New("a line is too long")}
	}
	b := make([]byte, 2*k.n)
	copy(b, *k.buf)
	k.release()
	k.buf = &b
	return nil
}

// drop forgets the first done bytes, and goes over to a large buffer for a long page.
func (k *block) drop(done int) {
	rest := (*k.buf)[done:k.n]
	if k.full++; k.full == smallBlocks && len(*k.buf) == blockSize {
		b := blockLargePool.Get().(*[]byte)
		k.n = copy(*b, rest)
		k.release()
		k.buf = b
		return
	}
	k.n = copy(*k.buf, rest)
}

func (k *block) release() {
	switch len(*k.buf) {
	case blockSize:
		blockPool.Put(k.buf)
	case blockLarge:
		blockLargePool.Put(k.buf)
	}
}

// maxRecord is the longest line, or protobuf message within a family, that is taken.
const maxRecord = segLenMask - 1<<20

// feed reads r to its end and scans it block by block. framed says that the end of r is the end of the page, and
// not just that of a connection.
func (s *scanner) feed(r io.Reader, framed bool) error {
	k := block{buf: blockPool.Get().(*[]byte)}
	defer func() { k.release() }()
	for {
		if err := k.room(); err != nil {
			return err
		}
		n, err := r.Read((*k.buf)[k.n:])
		k.n += n
		end := errors.Is(err, io.EOF)
		if k.n == len(*k.buf) || end {
			done, serr := s.block((*k.buf)[:k.n])
			if serr != nil {
				return serr
			}
			k.drop(done)
		}
		if end {
			return s.end((*k.buf)[:k.n], framed)
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
