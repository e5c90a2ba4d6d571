package sink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// Segments begin with this; a later format has another number.
const segmentMagic = "pwspool1"

var errSpoolFull = errors.New("spool is full")

// position is a place in the spool.
type position struct {
	segment uint64
	offset  int64
}

type segment struct {
	number uint64
	size   int64
}

// spool is a log of frames in segment files. One goroutine appends, another reads and commits.
//
//	DIR/lock                        flock, held while open
//	DIR/cursor                      position up to which all is sent: see cursor.go
//	DIR/00000000000000000001.seg    segmentMagic, then frames
//
// A new run starts a new segment, so what an earlier one left behind is never written again and a
// torn tail needs no repair: the reader skips it.
type spool struct {
	dir    string
	limit  int64 // of all files together
	rotate int64 // of one file
	never  bool  // never fsync
	lock   *os.File
	cursor *os.File

	// Of who appends.
	file     *os.File
	dirty    bool // written since the last sync
	dirtyDir bool // made a file since the last sync

	// Of who reads.
	reader       *os.File
	readerNumber uint64

	mu       sync.Mutex // guards what follows
	segments []segment
	active   bool     // the last segment is being written
	next     uint64   // number of the next segment
	head     position // everything before is sent
	records  int      // appended in this run and not committed; too low when an earlier run left some
}

// openSpool makes dir if need be and takes its lock.
func openSpool(dir string, limit, rotate int64, never bool) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool: %w", err)
	}
	s := &spool{dir: dir, limit: limit, rotate: rotate, never: never}
	err := s.open()
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *spool) open() error {
	var err error
	if s.lock, err = os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("lock spool %s: %w (does another process use it?)", s.dir, err)
	}
	if s.cursor, err = os.OpenFile(filepath.Join(s.dir, "cursor"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	if err := s.list(); err != nil {
		return err
	}
	at, _ := readCursor(s.cursor)
	s.next = at.segment + 1
	if n := len(s.segments); n > 0 {
		s.next = max(s.next, s.segments[n-1].number+1)
	}
	return s.commit(at, 0)
}

// list finds the segments that an earlier run left.
func (s *spool) list() error {
	entries, err := os.ReadDir(s.dir) // sorted by name, so by number
	if err != nil {
		return fmt.Errorf("list spool: %w", err)
	}
	for _, e := range entries {
		var n uint64
		if _, err := fmt.Sscanf(e.Name(), "%020d.seg", &n); err != nil || s.path(n) != filepath.Join(s.dir, e.Name()) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("list spool: %w", err)
		}
		s.segments = append(s.segments, segment{number: n, size: info.Size()})
	}
	return nil
}

func (s *spool) path(n uint64) string { return filepath.Join(s.dir, fmt.Sprintf("%020d.seg", n)) }

// append writes whole frames. After an error none of b will be read, but when the disk also refuses
// to take the part back that it wrote, frames of it may be.
func (s *spool) append(b []byte, records int) error {
	s.mu.Lock()
	total, last := s.bytes(), s.last()
	s.mu.Unlock()
	if total+int64(len(b))+int64(len(segmentMagic)) > s.limit {
		return errSpoolFull
	}
	if s.file == nil || last.size+int64(len(b)) > s.rotate {
		if err := s.newSegment(); err != nil {
			return err
		}
		last.size = int64(len(segmentMagic))
	}
	if _, err := s.file.Write(b); err != nil {
		if s.file.Truncate(last.size) == nil {
			_, err2 := s.file.Seek(last.size, io.SeekStart)
			if err2 == nil {
				return fmt.Errorf("write spool: %w", err)
			}
		}
		s.abandon()
		return fmt.Errorf("write spool: %w", err)
	}
	s.dirty = true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments[len(s.segments)-1].size += int64(len(b))
	s.records += records
	return nil
}

// bytes and last need s.mu.
func (s *spool) bytes() (n int64) {
	for _, seg := range s.segments {
		n += seg.size
	}
	return n
}

func (s *spool) last() segment {
	if len(s.segments) == 0 {
		return segment{}
	}
	return s.segments[len(s.segments)-1]
}

func (s *spool) newSegment() error {
	if err := s.sync(); err != nil {
		return err
	}
	s.abandon()
	f, err := os.OpenFile(s.path(s.next), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make segment: %w", err)
	}
	number := s.next
	s.next++
	if _, err := f.WriteString(segmentMagic); err != nil {
		f.Close()
		os.Remove(f.Name())
		return fmt.Errorf("write segment: %w", err)
	}
	s.file, s.dirty, s.dirtyDir = f, true, true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = append(s.segments, segment{number: number, size: int64(len(segmentMagic))})
	s.active = true
	return nil
}

// abandon closes the segment that is being written; the next append starts another.
func (s *spool) abandon() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
		s.mu.Lock()
		s.active = false
		s.mu.Unlock()
	}
}

// sync makes what was appended safe from a power cut. It does nothing when all of it is sent.
func (s *spool) sync() error {
	if s.never || s.file == nil || !s.dirty || s.pending() == 0 {
		return nil
	}
	if err := s.file.Sync(); err != nil {
		s.abandon() // what the kernel could not write it forgets: never trust a second fsync
		s.dirty = false
		return fmt.Errorf("sync spool: %w", err)
	}
	s.dirty = false
	if s.dirtyDir {
		d, err := os.Open(s.dir)
		if err != nil {
			return fmt.Errorf("sync spool: %w", err)
		}
		defer d.Close()
		if err := d.Sync(); err != nil {
			return fmt.Errorf("sync spool: %w", err)
		}
		s.dirtyDir = false
	}
	return nil
}

// pending counts the bytes that are not committed.
func (s *spool) pending() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.bytes()
	for _, seg := range s.segments {
		if seg.number == s.head.segment {
			n -= min(s.head.offset, seg.size)
		} else {
			n -= min(int64(len(segmentMagic)), seg.size)
		}
	}
	return max(n, 0)
}

// tail is the end of what was appended.
func (s *spool) tail() position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return position{segment: s.last().number, offset: s.last().size}
}

// before tells that more is to be read before at.
func (s *spool) before(at position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head.segment < at.segment || s.head.segment == at.segment && s.head.offset < at.offset
}

func (s *spool) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records
}

// close gives the lock back. An empty last segment goes away with it.
func (s *spool) close() error {
	var errs []error
	if s.file != nil {
		errs = append(errs, s.sync())
		s.abandon()
		s.mu.Lock()
		at := s.head
		s.mu.Unlock()
		errs = append(errs, s.commit(at, 0))
	}
	for _, f := range []*os.File{s.reader, s.cursor, s.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
