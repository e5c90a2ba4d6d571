//go:build backends

package search

import (
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/sink"
	"github.com/process-wrapper/process-wrapper/pkg/sink/sinktest"
)

const vlPath = "/insert/elasticsearch?_time_field=timestamp&_msg_field=name&_stream_fields=labels.namespace"

var victoria = sinktest.Suite{
	Open: func(url string, c sink.Config, timeout time.Duration) (*sink.Sink, error) {
		return New(Config{URL: url + vlPath, Timeout: timeout, Sink: c})
	},
	Query: "*",
}

func TestVictoriaLogsHasEachEventWithAllLabels(t *testing.T) { victoria.HasEachEventWithAllLabels(t) }

func TestVictoriaLogsComesAndGoesAndNothingIsLost(t *testing.T) { victoria.ComesAndGoes(t) }

func TestVictoriaLogsHasAllThatAKilledSinkAccepted(t *testing.T) {
	victoria.HasAllThatAKilledSinkAccepted(t, vlPath)
}

func TestVictoriaLogsIsFastEnough(t *testing.T) { victoria.IsFastEnough(t) }

func BenchmarkVictoriaLogs(b *testing.B) { victoria.Bench(b) }
