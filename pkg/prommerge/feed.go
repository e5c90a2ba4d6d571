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
	largeClass  = 2 // 256 kB
	smallBlocks = 4
)

// blockPools hold buffers of blockSize, twice that, and so on up to 1 GB.
var blockPools [15]sync.Pool

// block is a buffer that grows with what is read into it.
type block struct {
	buf   *[]byte
	n     int // bytes in it
	full  int // how often it was full
	class int // of its pool
}

func newBlock() block { return block{buf: takeBlock(0)} }

func takeBlock(class int) *[]byte {
	if b, ok := blockPools[class].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, blockSize<<class)
	return &b
}

// room makes room for more, once the block is full.
func (k *block) room() error {
	if k.n < len(*k.buf) {
		return nil
	}
	if k.class+1 == len(blockPools) {
		return &targetError{reason: reasonTooLarge, err: errors.New("a message is too long")}
	}
	k.move(k.class+1, *k.buf)
	return nil
}

// drop forgets the first done bytes, and goes over to a large buffer for a long page.
func (k *block) drop(done int) {
	rest := (*k.buf)[done:k.n]
	if k.full++; k.full >= smallBlocks && k.class < largeClass {
		k.move(largeClass, rest)
		return
	}
	k.n = copy(*k.buf, rest)
}

// move makes a larger buffer out of the block, which holds rest.
func (k *block) move(class int, rest []byte) {
	b := takeBlock(class)
	k.n = copy(*b, rest)
	k.release()
	k.buf, k.class = b, class
}

func (k *block) release() { blockPools[k.class].Put(k.buf) }

// maxRecord is the longest line, or protobuf metric, that is taken.
const maxRecord = segLenMask - 1<<20

var errTooLong = &targetError{reason: reasonTooLarge, err: errors.New("a line is too long")}

// blockScanner works on a page block by block.
type blockScanner interface {
	block(b []byte) (done int, err error) // what is not done comes again, with more behind it
	held() int64                          // memory that the part takes up
}

// read gives s all that r has, and returns what it did not take of it.
func (k *block) read(r *meter, s blockScanner) (rest []byte, err error) {
	for {
		if err := k.room(); err != nil {
			return nil, err
		}
		n, err := r.Read((*k.buf)[k.n:])
		k.n += n
		end := errors.Is(err, io.EOF)
		if k.n == len(*k.buf) || end {
			done, serr := s.block((*k.buf)[:k.n])
			if serr != nil {
				return nil, serr
			}
			k.drop(done)
			if err := r.hold(s.held()); err != nil {
				return nil, err
			}
		}
		if end {
			return (*k.buf)[:k.n], nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// feed reads r to its end and scans it block by block. framed says that the end of r is the end of the page, and
// not just that of a connection.
func (s *scanner) feed(r *meter, framed bool) error {
	k := newBlock()
	defer func() { k.release() }()
	rest, err := k.read(r, s)
	if err != nil {
		return err
	}
	return s.end(rest, framed)
}

// block scans the whole lines of b.
func (s *scanner) block(b []byte) (done int, err error) {
	if n := bytes.LastIndexByte(b, '\n') + 1; n > 0 {
		if s.eof {
			return 0, errAfterEOF
		}
		done, err = s.scan(b[:n])
	}
	if err == nil && len(b)-done > maxRecord {
		err = errTooLong
	}
	return done, err
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
