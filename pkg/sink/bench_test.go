package sink

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

func BenchmarkPut(b *testing.B) {
	for _, bb := range []struct {
		name  string
		store *store
		spool bool
	}{
		{"refused by a full queue", &store{hang: true}, false},
		{"to a spool", &store{hang: true}, true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			c := Config{Name: "test", Deadline: time.Millisecond, SpoolBytes: 4 << 30, QueueBytes: 64 << 20}
			if bb.spool {
				c.SpoolDir = b.TempDir()
			}
			s, err := New(c, bb.store)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			m := datagram.Message{Op: datagram.Event, Name: "an event with a name of usual length"}
			b.ReportAllocs()
			for b.Loop() {
				_ = s.Put(&m)
			}
			b.StopTimer()
			cancel()
			if err := <-done; err != nil && !errors.Is(err, ErrLost) {
				b.Fatal(err)
			}
		})
	}
}
