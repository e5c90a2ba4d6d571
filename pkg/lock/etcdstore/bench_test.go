package etcdstore

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/process-wrapper/process-wrapper/pkg/lock"
)

func benchStore(b *testing.B) *Store {
	b.Helper()
	c, err := Client(clientv3.Config{Endpoints: []string{endpoint}})
	if err != nil {
		b.Fatal(err)
	}
	s := New(c, Options{Prefix: fmt.Sprintf("/%s/%d/", b.Name(), time.Now().UnixNano()), Log: slog.New(slog.DiscardHandler)})
	b.Cleanup(s.Close)
	if err := s.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkRenew counts the CPU time of etcd, too: it is in this process.
func BenchmarkRenew(b *testing.B) {
	s := benchStore(b)
	var n atomic.Int64
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		h, err := s.Acquire(context.Background(), lock.Request{Name: lock.Name{Key: fmt.Sprint(n.Add(1))}, TTL: time.Hour, Slots: 1})
		if err != nil {
			b.Error(err)
			return
		}
		for pb.Next() {
			if a := s.Renew(context.Background(), []lock.Ref{h.Ref}); a[0].Err != nil {
				b.Error(a[0].Err)
			}
		}
	})
}

func BenchmarkAcquire(b *testing.B) {
	for _, session := range []string{"", "0123456789abcdef"} {
		b.Run("session="+session, func(b *testing.B) {
			s := benchStore(b)
			var n atomic.Int64
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Acquire(context.Background(), lock.Request{Name: lock.Name{Key: fmt.Sprint(n.Add(1))},
						TTL: time.Hour, Slots: 1, Session: session}); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
