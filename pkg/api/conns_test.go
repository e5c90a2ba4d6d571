package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fakeConn notes that it was closed.
type fakeConn struct {
	net.Conn
	name string
	log  *[]string
}

func (c *fakeConn) Close() error {
	*c.log = append(*c.log, c.name)
	return nil
}

// TestConns feeds the table what the server tells it: name + for new, ! for a
// whole request, w for a held wait, u for its end, . for idle, - for closed.
func TestConns(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, events, closed string
	}{
		{"room for all", "a+ b+ c+", ""},
		{"the oldest that is silent goes", "a+ b+ c+ d+", "a"},
		{"one with a request stays", "a+ a! b+ c+ d+ e+", "b c"},
		{"one that has its answer goes before one that is silent", "a+ b+ c+ c! c. d+ e+", "c a"},
		{"of those that have theirs the one that had it first", "a+ b+ c+ b! b. a! a. d+ e+", "b a"},
		{"with nothing but requests the oldest goes", "a+ b+ c+ b! a! c! d+", "b"},
		{"a held wait stays, whatever comes", "a+ b+ c+ a! a!w b! c! d+ e+ f+", "b d e"},
		{"a held wait that is over counts as a request again", "a+ a! a!w b+ c+ b! c! a!u d+ e+", "b d"},
		{"nothing but waits are not closed", "a+ a!w b+ b!w c+ c!w d+ e+", "d"},
		{"one that left makes room", "a+ b+ c+ b- d+ e+", "a"},
		{"a late word of one that was closed changes nothing", "a+ b+ c+ d+ a! a. a- e+", "a b"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var log []string
			table := conns{max: 3}
			all := make(map[byte]*fakeConn)
			for e := range strings.FieldsSeq(c.events) {
				fc := all[e[0]]
				if fc == nil {
					fc = &fakeConn{name: e[:1], log: &log}
					all[e[0]] = fc
				}
				feed(&table, fc, e[1:])
			}
			if got := strings.Join(log, " "); got != c.closed {
				t.Errorf("closed %q, want %q", got, c.closed)
			}
		})
	}
}

func feed(table *conns, c net.Conn, event string) {
	ctx := table.context(context.Background(), c)
	switch event {
	case "+":
		table.room()
		table.state(c, http.StateNew)
	case "!":
		table.state(c, http.StateActive)
	case ".":
		table.state(c, http.StateIdle)
	case "-":
		table.state(c, http.StateClosed)
	case "!w":
		park(ctx)
	case "!u":
		park(ctx)()
	}
}

type failingListener struct{ net.Listener }

func (failingListener) Accept() (net.Conn, error) {
	return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
}

func TestWithoutDescriptorsAConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	var log []string
	table := conns{max: 3}
	table.state(&fakeConn{name: "a", log: &log}, http.StateNew)
	table.state(&fakeConn{name: "b", log: &log}, http.StateNew)
	c, err := listener{failingListener{}, &table, nil}.Accept()
	if c != nil || err == nil || strings.Join(log, " ") != "a" {
		t.Errorf("got %v, %v, closed %v", c, err, log)
	}
}

func TestFullServerWaitsForTheNewestToAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log []string
		table := conns{max: 2, grace: 20 * time.Millisecond}
		table.state(&fakeConn{name: "a", log: &log}, http.StateNew)
		table.state(&fakeConn{name: "b", log: &log}, http.StateNew)
		l := listener{failingListener{}, &table, t.Context().Done()}
		start := time.Now()
		_, _ = l.Accept() // fails, and gives up another one
		if took := time.Since(start); took != table.grace || strings.Join(log, " ") != "a b" {
			t.Errorf("closed %v after %v", log, took)
		}

		table.state(&fakeConn{name: "c", log: &log}, http.StateNew)
		table.state(&fakeConn{name: "d", log: &log}, http.StateNew)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := (listener{failingListener{}, &table, ctx.Done()}).Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed while it waits: %v", err)
		}
	})
}
