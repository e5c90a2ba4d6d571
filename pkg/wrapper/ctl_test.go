package wrapper

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestCtlSaysWhyThereIsNoAnswer has a socket behind which nobody answers: one that
// is stopped, and one that does not take this user.
func TestCtlSaysWhyThereIsNoAnswer(t *testing.T) {
	for want, serve := range map[string]func(c net.Conn){
		"did not answer within 200ms: is it stopped": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"the socket is for root and its own user":    func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }, // closed with more unread: a reset
	} {
		path := filepath.Join(t.TempDir(), "s")
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serve(c)
			_ = c.Close()
		})
		k := newController(path, io.Discard)
		k.within = 200 * time.Millisecond
		var o overview
		if _, err := k.ask(t.Context(), http.MethodGet, "/v1/processes", &o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %s", err, want)
		}
		k.client.CloseIdleConnections()
		_ = ln.Close()
		wg.Wait()
	}
}
