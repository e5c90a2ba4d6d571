package api

import (
	"net"
	"net/http"
	"testing"
	"time"
)

// TestARequestThatWasNotReadYetIsNotLost has more connections than there is room
// for, whose requests the server had no time to read.
func TestARequestThatWasNotReadYetIsNotLost(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	table := conns{max: 2, grace: time.Millisecond}
	open := func(say string) (server net.Conn) {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if server, err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })
		_, _ = c.Write([]byte(say))
		for began := time.Now(); say != "" && !unread(server); {
			if time.Since(began) > 10*time.Second {
				t.Fatal("what was sent is not seen")
			}
		}
		table.state(server, http.StateNew)
		return server
	}
	first, silent := open("GET"), open("")
	old := time.NewTimer(2 * table.grace)
	<-old.C
	if wait := table.room(); wait != 0 || table.open[first] == nil || table.open[silent] != nil {
		t.Fatalf("wait %v, open %v", wait, table.open)
	}
	second := open("GET")
	old.Reset(2 * table.grace)
	<-old.C
	if wait := table.room(); wait != unreadPause || len(table.open) != 2 {
		t.Fatalf("wait %v, open %v", wait, table.open)
	}
	_, _ = second.Read(make([]byte, 3))
	if wait := table.room(); wait != 0 || table.open[first] == nil || table.open[second] != nil {
		t.Errorf("wait %v, open %v", wait, table.open)
	}
}
