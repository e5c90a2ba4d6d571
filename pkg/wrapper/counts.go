package wrapper

import (
	"github.com/process-wrapper/process-wrapper/pkg/output"
	"github.com/process-wrapper/process-wrapper/pkg/telemetry"
)

// counts are the counters of all streams, which outlive incarnations. They are
// made before anything runs and only read from then on.
type counts []streamCount

type streamCount struct {
	process, stream string
	*output.Counters
}

func (c *counts) add(process, stream string) *output.Counters {
	n := new(output.Counters)
	*c = append(*c, streamCount{process, stream, n})
	return n
}

// logs yields what was counted.
func (c *counts) logs(yield func(telemetry.LogCount) bool) {
	for _, s := range *c {
		for l := output.Debug; l <= output.Fatal; l++ {
			n := telemetry.LogCount{Process: s.process, Stream: s.stream, Level: l.String(), Lines: s.Lines(l)}
			if n.Lines > 0 && !yield(n) {
				return
			}
		}
		for r := output.DroppedByRate; r <= output.DroppedByError; r++ {
			n := telemetry.LogCount{Process: s.process, Stream: s.stream, Reason: r.String(), Lines: s.Dropped(r)}
			if n.Lines > 0 && !yield(n) {
				return
			}
		}
	}
}
