package collect

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// padded is a message of a size.
func padded(size int) string {
	return goodEvent + strings.Repeat(" ", size-len(goodEvent))
}

func TestTheLargestDatagramIsAppliedAndALongerOneIsCounted(t *testing.T) {
	r := newRig(t, Limits{}, nil)
	write(t, r.dial("udp", r.udp), padded(65507)) // as much as UDP carries
	r.until(1, "good")
	c := r.dial("unixgram", r.unixgram)
	write(t, c, padded(maxDatagram))
	r.until(2, "good")
	write(t, c, padded(maxDatagram+1))
	write(t, c, goodEvent)
	r.until(3, "good")
	r.until(1, "metrics_server_dropped_total", "kind", "malformed", "reason", "datagram_too_long")
}

func TestASenderBeyondItsRateIsRefused(t *testing.T) {
	r := newRig(t, Limits{}, func(c *Config) { c.Rate = 0.01 }) // even less than one a second lets one through
	c := r.dial("udp", r.udp)
	write(t, c, strings.Repeat(goodEvent, 50)) // one datagram spends what it holds
	r.until(50, "good")
	for range 3 {
		write(t, c, goodEvent+goodEvent)
	}
	r.until(3, "metrics_server_dropped_total", "reason", "rate_limit") // one for each datagram
	write(t, r.dial("unix", r.unix), goodEvent)
	r.until(51, "good")
}

func TestReadersShareAPort(t *testing.T) {
	r := &rig{t: t, reg: NewRegistry(Limits{}), own: prometheus.NewRegistry()}
	r.Server = NewServer(Config{Registry: r.reg})
	if err := r.Listen(Socket{Network: "udp", Address: "127.0.0.1:0", Readers: 2}); err != nil {
		t.Fatal(err)
	}
	r.own.MustRegister(r.Server)
	addrs := r.Addrs()
	if len(addrs) != 2 || addrs[0].String() != addrs[1].String() {
		t.Fatalf("two readers listen on %v", addrs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	const senders = 64 // the kernel chooses a socket by the port of each
	for range senders {
		write(t, r.dial("udp", addrs[0].String()), goodEvent)
	}
	r.until(senders, "good")
	for _, l := range r.listeners {
		if l.received.Load() == 0 {
			t.Errorf("%s got nothing of %d senders", l.name, senders)
		}
	}
}

func TestSocketsAreForOwnerAndGroupByDefault(t *testing.T) {
	for _, network := range []string{"unix", "unixgram"} {
		path := filepath.Join(t.TempDir(), "s.sock")
		s := NewServer(Config{Registry: NewRegistry(Limits{})})
		if err := s.Listen(Socket{Network: network, Address: path}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		s.Close()
		if err != nil || fmt.Sprintf("%o", info.Mode().Perm()) != "660" {
			t.Errorf("%s: %v, %v", network, info, err)
		}
	}
}
