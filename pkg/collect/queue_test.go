package collect

import (
	"strings"
	"testing"
)

func TestAQueueIsFullByBytesOrByDatagrams(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int
	}{
		{"large datagrams fill its bytes", 1000},
		{"small datagrams fill its places", 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := NewServer(Config{Registry: NewRegistry(Limits{}), QueueBytes: 64000})
			data := []byte(strings.Repeat("x", tt.size))
			sent, first := 0, 0 // the datagram at which it was full
			for s.queue.put(nil, 0, data) {
				sent++
				if s.Full() && first == 0 {
					first = sent
				}
			}
			if want := sent*4/5 + 1; first != want {
				t.Errorf("full at %d of %d datagrams, want %d", first, sent, want)
			}
			s.queue.take(batch{})
			if s.Full() {
				t.Error("full although nothing waits")
			}
		})
	}
}
