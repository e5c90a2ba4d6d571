package search

import (
	"testing"

	"github.com/process-wrapper/process-wrapper/pkg/sink"
	"github.com/process-wrapper/process-wrapper/pkg/sink/sinktest"
)

// start runs a sink until the test ends, or stop is called.
func start(t *testing.T, c Config) (s *sink.Sink, stop func() error) {
	t.Helper()
	c.Sink = sinktest.Hurry(c.Sink)
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, sinktest.Run(t, s)
}
