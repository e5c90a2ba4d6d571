package datagram

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// wire is a connection that keeps what is written.
type wire struct {
	net.Conn
	mu     sync.Mutex
	got    []string
	fail   int // the next writes
	closed bool
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail > 0 {
		w.fail--
		return 0, errors.New("connection refused")
	}
	w.got = append(w.got, string(b))
	return len(b), nil
}

func (w *wire) SetWriteDeadline(time.Time) error { return nil }

func (w *wire) Close() error { w.closed = true; return nil }

// sending runs f in a bubble with a sender whose connections are those given.
func sending(t *testing.T, bytes int, wires []*wire, f func(s *Sender)) (sent, dropped uint64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		s, err := NewSender("metrics:9999", SenderConfig{Bytes: bytes, dial: func(context.Context, string) (net.Conn, error) {
			if n == len(wires) {
				return nil, errors.New("no such host")
			}
			n++
			return wires[n-1], nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.Run(ctx) })
		f(s)
		cancel()
		wg.Wait()
		sent, dropped = s.Counts()
	})
	for i, w := range wires {
		if len(w.got) > 0 && !w.closed {
			t.Errorf("connection %d is left open", i)
		}
	}
	return sent, dropped
}

func TestSmallMessagesShareADatagram(t *testing.T) {
	w := &wire{}
	sent, dropped := sending(t, 0, []*wire{w}, func(s *Sender) {
		for i := range 100 {
			_ = s.Put(&Message{Op: Inc, Name: fmt.Sprint("n", i), Value: 1})
		}
		time.Sleep(time.Second)
		_ = s.Put(&Message{Op: Event, Name: "long", Labels: []Label{{"x", strings.Repeat("x", 3000)}}})
		_ = s.Put(&Message{Op: Event, Name: "last"}) // flushed at the end
	})
	if sent != 102 || dropped != 0 {
		t.Errorf("%d sent, %d dropped", sent, dropped)
	}
	var names []string
	for _, b := range w.got {
		if n := strings.Count(b, "\n"); len(b) > 1432 && n > 1 {
			t.Errorf("%d bytes for %d messages", len(b), n)
		}
		for _, m := range read(t, b) {
			names = append(names, m.(*Message).Name)
		}
	}
	if len(names) != 102 || names[0] != "n0" || names[99] != "n99" || names[101] != "last" || len(w.got) > 6 {
		t.Errorf("%d datagrams with %d messages: %v", len(w.got), len(names), names)
	}
}

func TestAMessageIsSentWithinMoments(t *testing.T) {
	w := &wire{}
	sending(t, 0, []*wire{w}, func(s *Sender) {
		for i := range 10 {
			_ = s.Put(&Message{Op: Event, Name: "news"})
			time.Sleep(30 * time.Millisecond)
			w.mu.Lock()
			if len(w.got) != i+1 {
				t.Errorf("%d datagrams 30 ms after message %d", len(w.got), i)
			}
			w.mu.Unlock()
		}
	})
}

func TestASecondCopyIsInALaterDatagram(t *testing.T) {
	for _, ends := range []bool{false, true} {
		w := &wire{}
		sent, _ := sending(t, 0, []*wire{w}, func(s *Sender) {
			m := &Message{Op: Event, Name: "twice", ID: "a"}
			for _, m := range []*Message{{Op: Inc, Name: "n"}, m, m, {Op: Event, Name: "once", ID: "b"}, {Op: Inc, Name: "n"}} {
				_ = s.Put(m)
			}
			if !ends {
				time.Sleep(time.Second)
			}
		})
		if sent != 5 || len(w.got) != 2 {
			t.Fatalf("%d sent, in %q", sent, w.got)
		}
		if first, second := read(t, w.got[0]), read(t, w.got[1]); len(first) != 4 || len(second) != 1 || second[0].(*Message).ID != "a" {
			t.Errorf("%q", w.got)
		}
	}
}

func TestWhatFindsNoRoomIsCounted(t *testing.T) {
	sent, dropped := sending(t, 100, []*wire{{}}, func(s *Sender) {
		var errs []error
		for range 5 {
			errs = append(errs, s.Put(&Message{Op: Inc, Name: strings.Repeat("n", 60)}))
		}
		if diff := cmp.Diff([]bool{true, true, false, false, false}, []bool{errs[0] == nil, errs[1] == nil, errs[2] == nil, errs[3] == nil, errs[4] == nil}); diff != "" {
			t.Error(diff)
		}
		if !errors.Is(errs[4], ErrFull) {
			t.Error(errs[4])
		}
	})
	if sent != 2 || dropped != 3 {
		t.Errorf("%d sent, %d dropped", sent, dropped)
	}
}

func TestTheNameIsLookedUpAgain(t *testing.T) {
	a, b := &wire{}, &wire{}
	_, dropped := sending(t, 0, []*wire{a, b}, func(s *Sender) {
		for range 3 { // the third finds no name, and goes where the second went
			_ = s.Put(&Message{Op: Inc, Name: "n"})
			time.Sleep(31 * time.Second)
		}
	})
	if len(a.got) != 1 || len(b.got) != 2 || !a.closed || dropped != 0 {
		t.Errorf("%q %q, %d dropped", a.got, b.got, dropped)
	}
}

func TestASlowLookUpHoldsUpNothing(t *testing.T) {
	first, second := &wire{}, &wire{}
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		s, err := NewSender("metrics:9999", SenderConfig{dial: func(ctx context.Context, _ string) (net.Conn, error) {
			if dials++; dials == 1 {
				return first, nil
			}
			if dials == 2 {
				return second, sleepFor(ctx, 5*time.Second)
			}
			<-ctx.Done() // until the end
			return nil, ctx.Err()
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.Run(ctx) })
		put := func(name string, to *wire) {
			_ = s.Put(&Message{Op: Event, Name: name})
			time.Sleep(50 * time.Millisecond)
			to.mu.Lock()
			defer to.mu.Unlock()
			if n := len(to.got); n == 0 || !strings.Contains(to.got[n-1], name) {
				t.Errorf("%s is not sent after 50 ms: %q", name, to.got)
			}
		}
		put("one", first)
		time.Sleep(resolveEach)
		put("two", first)
		put("three", first)
		time.Sleep(5 * time.Second)
		put("four", second)
		time.Sleep(resolveEach)
		put("five", second)
		cancel()
		wg.Wait()
		if sent, dropped := s.Counts(); sent != 5 || dropped != 0 || dials != 3 {
			t.Errorf("%d sent, %d dropped, %d dials", sent, dropped, dials)
		}
	})
	if !first.closed || !second.closed {
		t.Error("a connection is left open")
	}
}

func sleepFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestAServerThatIsAwayCostsNothingElse(t *testing.T) {
	w := &wire{fail: 1} // as an ICMP message that came back
	sent, dropped := sending(t, 0, []*wire{w}, func(s *Sender) {
		_ = s.Put(&Message{Op: Inc, Name: "n"})
		time.Sleep(time.Second)
		w.mu.Lock()
		w.fail = 2
		w.mu.Unlock()
		_ = s.Put(&Message{Op: Inc, Name: "n"})
	})
	if sent != 1 || dropped != 1 {
		t.Errorf("%d sent, %d dropped", sent, dropped)
	}
	sent, dropped = sending(t, 0, nil, func(s *Sender) { _ = s.Put(&Message{Op: Inc, Name: "n"}) })
	if sent != 0 || dropped != 1 {
		t.Errorf("without a host: %d sent, %d dropped", sent, dropped)
	}
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]bool{"a:1": true, "[::1]:9999": true, ":9999": true, "a": false, "a:": false, "": false, "a:0": false, "a:x": false, "a:70000": false} {
		if _, err := NewSender(address, SenderConfig{}); (err == nil) != want {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestReadLabels(t *testing.T) {
	tests := []struct {
		name, in, fails string
		want            []Label
	}{
		{name: "what Kubernetes writes", in: "app=\"web\"\nk8s.io/x-y=\"a \\\"b\\\"\\n\\\\c\"\n\nempty=\"\"", want: []Label{{"app", "web"}, {"empty", ""}, {"k8s.io/x-y", "a \"b\"\n\\c"}}},
		{name: "nothing"},
		{name: "no value", in: "a=\"b\"\nc", fails: "line 2"},
		{name: "no quotes", in: "a=b", fails: "line 1"},
		{name: "single quotes", in: "a='b'", fails: "line 1"},
		{name: "no key", in: "=\"b\"", fails: "line 1"},
		{name: "an open quote", in: "a=\"b", fails: "line 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ReadLabels(strings.NewReader(tt.in))
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("error %v", err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
}

func FuzzReadLabels(f *testing.F) {
	f.Add("app=\"web\"\nb=\"\\n\"")
	f.Add("a=`x`\n='")
	f.Fuzz(func(t *testing.T, in string) {
		labels, err := ReadLabels(strings.NewReader(in))
		if err == nil && !slices.IsSortedFunc(labels, func(a, b Label) int { return strings.Compare(a.Name, b.Name) }) {
			t.Fatal(labels)
		}
	})
}
