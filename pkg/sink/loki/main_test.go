package loki

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/process-wrapper/process-wrapper/pkg/sink"
	"github.com/process-wrapper/process-wrapper/pkg/sink/sinktest"
)

func TestMain(m *testing.M) {
	sinktest.Victim(func() (*sink.Sink, error) {
		return New(Config{Address: os.Getenv("TEST_URL"), Sink: sink.Config{SpoolDir: os.Getenv("TEST_SPOOL")}})
	}, 20_000)
	goleak.VerifyTestMain(m)
}
