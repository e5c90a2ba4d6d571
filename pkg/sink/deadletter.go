package sink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

var errNoDeadLetter = errors.New("dead-letter file is full")

// deadLetter appends to a file of at most limit bytes.
type deadLetter struct {
	sink  string
	limit int64
	sync  bool
	file  *os.File
	size  int64
	buf   []byte
}

func openDeadLetter(dir, sink string, limit int64, sync bool) (*deadLetter, error) {
	f, err := os.OpenFile(filepath.Join(dir, "dead-letter.ndjson"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open dead-letter file: %w", err)
	}
	d := &deadLetter{sink: sink, limit: limit, sync: sync, file: f}
	if err := d.mend(); err != nil {
		f.Close()
		return nil, fmt.Errorf("open dead-letter file: %w", err)
	}
	return d, nil
}

// mend ends a last line that a crash left without its end.
func (d *deadLetter) mend() error {
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	d.size = info.Size()
	if d.size == 0 {
		return nil
	}
	var last [1]byte
	if _, err := d.file.ReadAt(last[:], d.size-1); err != nil {
		return err
	}
	if last[0] == '\n' {
		return nil
	}
	n, err := d.file.WriteAt([]byte{'\n'}, d.size)
	d.size += int64(n)
	return err
}

func (d *deadLetter) write(r *Record, reason string) error {
	b := append(d.buf[:0], `{"time":"`...)
	b = time.Now().UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","sink":`...)
	b = AppendString(b, d.sink)
	b = append(b, `,"reason":`...)
	b = AppendString(b, reason)
	b = append(b, `,"key":`...)
	b = AppendString(b, r.Key)
	b = append(b, `,"id":`...)
	b = AppendString(b, r.ID)
	b = append(b, `,"event":`...)
	b = append(b, r.Body...)
	b = append(b, '}', '\n')
	d.buf = b
	if d.size+int64(len(b)) > d.limit {
		return errNoDeadLetter
	}
	n, err := d.file.WriteAt(b, d.size)
	if err != nil {
		if n > 0 && d.file.Truncate(d.size) != nil {
			d.size += int64(n)
		}
		return fmt.Errorf("write dead letter: %w", err)
	}
	d.size += int64(n)
	if d.sync {
		return d.file.Sync()
	}
	return nil
}

func (d *deadLetter) close() error { return d.file.Close() }
