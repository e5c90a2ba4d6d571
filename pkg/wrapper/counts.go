package wrapper

import (
	"sync"

	"github.com/process-wrapper/process-wrapper/pkg/output"
	"github.com/process-wrapper/process-wrapper/pkg/telemetry"
)

// counts are the counters of all streams, which outlive incarnations and
// changes of the config.
type counts struct {
	mu    sync.Mutex    // guards what follows
	all   []streamCount // its elements never change
	index map[streamKey]*output.Counters
}

type streamKey struct{ process, stream string }

type streamCount struct {
	process, stream string
	*output.Counters
}

// add returns the counters of a stream.
func (c *counts) add(process, stream string) *output.Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := streamKey{process, stream}
	n := c.index[key]
	if n == nil {
		n = new(output.Counters)
		if c.index == nil {
			c.index = make(map[streamKey]*output.Counters)
		}
		c.index[key] = n
		c.all = append(c.all, streamCount{process, stream, n})
	}
	return n
}

// forget drops the counters of a process.
func (c *counts) forget(process string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := make([]streamCount, 0, len(c.all)) // logs may be reading the old ones
	for _, s := range c.all {
		if s.process != process {
			kept = append(kept, s)
		} else {
			delete(c.index, streamKey{s.process, s.stream})
		}
	}
	c.all = kept
}

// load returns all counters.
func (c *counts) load() []streamCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all
}

// logs yields what was counted, of the given streams too.
func (c *counts) logs(yield func(telemetry.LogCount) bool, more ...streamCount) {
	for _, s := range append(more, c.load()...) {
		if !s.each(yield) {
			return
		}
	}
}

// each yields what was counted of one stream.
func (s streamCount) each(yield func(telemetry.LogCount) bool) bool {
	for l := output.Debug; l <= output.Fatal; l++ {
		n := telemetry.LogCount{Process: s.process, Stream: s.stream, Level: l.String(), Lines: s.Lines(l)}
		if n.Lines > 0 && !yield(n) {
			return false
		}
	}
	for r := output.DroppedByRate; r <= output.DroppedByError; r++ {
		n := telemetry.LogCount{Process: s.process, Stream: s.stream, Reason: r.String(), Lines: s.Dropped(r)}
		if n.Lines > 0 && !yield(n) {
			return false
		}
	}
	return true
}
