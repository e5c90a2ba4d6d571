package collect

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestASlowReaderLosesItsTurnToOneWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTurns()
		var slow []*turn
		cut := make(chan int, scrapers)
		for i := range scrapers {
			one, _ := q.take(t.Context(), func() { cut <- i })
			slow = append(slow, one)
			time.Sleep(time.Second)
		}
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if i := <-cut; i != 0 {
				t.Errorf("%d was cut off before the oldest", i)
			}
			q.done(slow[0])
		})
		next, ok := q.take(t.Context(), nil)
		if waited := time.Since(began); !ok || waited > slowAfter {
			t.Errorf("waited for %v, %v", waited, ok)
		}
		wg.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if _, ok := q.take(ctx, nil); ok {
			t.Error("there was a turn too many")
		}
		q.done(next)
		if _, ok := q.take(t.Context(), nil); !ok {
			t.Error("a turn that was given back is gone")
		}
	})
}

func TestReadersThatHangDoNotKeepThePageFromOthers(t *testing.T) {
	reg := NewRegistry(Limits{})
	for i := range 50_000 {
		reg.give(t, fmt.Sprintf(`{"name":"a","op":"inc","labels":{"x":"%0100d"}}`, i))
	}
	turns := newTurns()
	srv := httptest.NewServer(reg.handler(prometheus.NewRegistry(), turns))
	defer srv.Close()
	var hanging []net.Conn
	for range scrapers {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		write(t, c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
		hanging = append(hanging, c)
	}
	if !soon(func() bool {
		turns.mu.Lock()
		defer turns.mu.Unlock()
		for _, o := range turns.taken {
			o.since = o.since.Add(-slowAfter) // as if they had hung for so long
		}
		return len(turns.taken) == len(hanging)
	}) {
		t.Fatal("the readers do not hang")
	}
	client := http.Client{Timeout: slowAfter * 9 / 10}
	res, err := client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
}
