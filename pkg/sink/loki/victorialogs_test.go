//go:build backends

package loki

import (
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/sink"
	"github.com/process-wrapper/process-wrapper/pkg/sink/sinktest"
)

const vlPath = "/insert/loki/api/v1/push"

var victoria = sinktest.Suite{
	Open: func(url string, c sink.Config, timeout time.Duration) (*sink.Sink, error) {
		return New(Config{Address: url + vlPath, Timeout: timeout, Sink: c})
	},
	Query:   "* | unpack_json",                                       // a line is JSON
	Without: []sinktest.Fault{sinktest.Empty200, sinktest.CutAnswer}, // a 2xx is all that the client looks at
}

func TestVictoriaLogsHasEachEventWithAllLabels(t *testing.T) { victoria.HasEachEventWithAllLabels(t) }

func TestVictoriaLogsComesAndGoesAndNothingIsLost(t *testing.T) { victoria.ComesAndGoes(t) }

func TestVictoriaLogsHasAllThatAKilledSinkAccepted(t *testing.T) {
	victoria.HasAllThatAKilledSinkAccepted(t, vlPath)
}

func TestVictoriaLogsIsFastEnough(t *testing.T) { victoria.IsFastEnough(t) }

func BenchmarkVictoriaLogs(b *testing.B) { victoria.Bench(b) }
