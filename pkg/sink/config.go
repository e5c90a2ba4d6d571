package sink

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// When the spool asks the disk to keep what it wrote.
const (
	FsyncAlways   = "always"   // after each write: at most 5 ms and one fsync behind Put
	FsyncInterval = "interval" // once a second, if anything is unsent
	FsyncNever    = "never"    // when the kernel likes
)

// Config is what every sink has. The zero value of each number is its default.
type Config struct {
	// Name names the sink in logs and is its directory below SpoolDir: "loki", "search".
	Name string

	QueueBytes    int           // memory for events that Put took and nobody has written or sent yet; 16 MiB, at least 256 KiB
	BatchBytes    int           // send when this much waits; 64 KiB
	BatchCount    int           // or this many events; 5000, and no request holds more than about that
	Period        time.Duration // or when the oldest has waited for this long; 1 s
	MaxBatchBytes int           // a backlog is sent in requests up to this size; 1 MiB

	MinBackoff time.Duration // after the first failure; 250 ms, then twice as long each time, ±20 %
	MaxBackoff time.Duration // 30 s
	Deadline   time.Duration // what Run may take after its context has ended; 10 s

	SpoolDir        string // events go through files below it; empty: memory only, and a killed process loses what it holds
	SpoolBytes      int64  // of files; 256 MiB, at least 64 KiB. When they are full and so is the queue, Put refuses
	SegmentBytes    int64  // of one file; 8 MiB, at most a quarter of SpoolBytes
	Fsync           string // FsyncInterval, FsyncAlways, FsyncNever
	DeadLetterBytes int64  // of dead-letter.ndjson beside the spool; 64 MiB

	Log *slog.Logger // nil: discard
}

const (
	minQueue = 4 * chunkSize
	minSpool = 64 << 10
)

// complete returns c with its defaults, or what is wrong with it.
func (c Config) complete() (Config, error) {
	if c.Name == "" || strings.ContainsAny(c.Name, "/\x00") || c.Name[0] == '.' {
		return c, fmt.Errorf("sink name %q: want a plain word", c.Name)
	}
	for _, n := range []struct {
		name string
		have int64
	}{
		{"queue bytes", int64(c.QueueBytes)}, {"batch bytes", int64(c.BatchBytes)}, {"batch count", int64(c.BatchCount)},
		{"batch period", int64(c.Period)}, {"largest batch", int64(c.MaxBatchBytes)}, {"shortest back-off", int64(c.MinBackoff)},
		{"longest back-off", int64(c.MaxBackoff)}, {"deadline", int64(c.Deadline)}, {"spool bytes", c.SpoolBytes},
		{"segment bytes", c.SegmentBytes}, {"dead-letter bytes", c.DeadLetterBytes},
	} {
		if n.have < 0 {
			return c, fmt.Errorf("sink %s: %s %d: must not be negative", c.Name, n.name, n.have)
		}
	}
	c.QueueBytes = or(c.QueueBytes, 16<<20)
	c.BatchBytes = or(c.BatchBytes, 64<<10)
	c.BatchCount = or(c.BatchCount, 5000)
	c.Period = or(c.Period, time.Second)
	c.MaxBatchBytes = max(or(c.MaxBatchBytes, 1<<20), c.BatchBytes)
	c.MinBackoff = or(c.MinBackoff, 250*time.Millisecond)
	c.MaxBackoff = max(or(c.MaxBackoff, 30*time.Second), c.MinBackoff)
	c.Deadline = or(c.Deadline, 10*time.Second)
	c.SpoolBytes = or(c.SpoolBytes, 256<<20)
	c.SegmentBytes = min(or(c.SegmentBytes, 8<<20), c.SpoolBytes/4)
	c.DeadLetterBytes = or(c.DeadLetterBytes, 64<<20)
	c.Fsync = or(c.Fsync, FsyncInterval)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("sink", c.Name)
	return c, c.check()
}

// spoolSize is SpoolBytes, or 0 where there is no spool.
func (c Config) spoolSize() int64 {
	if c.SpoolDir == "" {
		return 0
	}
	return c.SpoolBytes
}

func (c Config) check() error {
	var errs []error
	if c.QueueBytes < minQueue {
		errs = append(errs, fmt.Errorf("sink %s: queue bytes %d: want at least %d", c.Name, c.QueueBytes, minQueue))
	}
	if c.BatchBytes > c.QueueBytes/2 && c.SpoolDir == "" {
		errs = append(errs, fmt.Errorf("sink %s: batch bytes %d: want at most half of the queue's %d", c.Name, c.BatchBytes, c.QueueBytes))
	}
	if c.SpoolBytes < minSpool {
		errs = append(errs, fmt.Errorf("sink %s: spool bytes %d: want at least %d", c.Name, c.SpoolBytes, minSpool))
	}
	switch c.Fsync {
	case FsyncAlways, FsyncInterval, FsyncNever:
	default:
		errs = append(errs, fmt.Errorf("sink %s: fsync %q: want %s, %s or %s", c.Name, c.Fsync, FsyncAlways, FsyncInterval, FsyncNever))
	}
	return errors.Join(errs...)
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}
