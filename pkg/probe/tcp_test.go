package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestTCP(t *testing.T) {
	v4, v6 := listen(t, "127.0.0.1:0", nil), listen(t, "[::1]:0", nil)
	local := func(addr string) string {
		_, port, _ := net.SplitHostPort(addr)
		return "localhost:" + port
	}
	closed := closedPort(t, "127.0.0.1")
	for name, c := range map[string]struct {
		addr, want string
		parts      []string
	}{
		"an IPv4 listener passes":                     {v4, "passed", nil},
		"an IPv6 listener passes":                     {v6, "passed", nil},
		"localhost finds an IPv4 listener":            {local(v4), "passed", nil},
		"localhost finds an IPv6 listener":            {local(v6), "passed", nil},
		"no host finds an IPv6 listener":              {local(v6)[len("localhost"):], "passed", nil},
		"the address that a listener is given passes": {"0.0.0.0" + local(v4)[len("localhost"):], "passed", nil},
		"a closed port fails":                         {closed, "failed", []string{"connect to " + closed + ": connection refused"}},
		"localhost with a closed port fails":          {local(closed), "failed", []string{"connect to localhost:", "connection refused"}},
		"an address without port fails":               {"127.0.0.1", "failed", []string{"connect to 127.0.0.1: missing port"}},
		"a port that is none fails":                   {"127.0.0.1:99999", "failed", []string{"99999"}},
		"an address of two lines makes one":           {"a\nb", "failed", nil},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, within(t, 10*time.Second, TCP(c.addr)), c.want, c.parts...)
		})
	}
}

func TestTCPClosesAtOnce(t *testing.T) {
	ended := make(chan error, 1)
	addr := listen(t, "127.0.0.1:0", func(conn net.Conn, _ <-chan struct{}) {
		_, err := conn.Read(make([]byte, 1))
		ended <- err
	})
	want(t, within(t, 10*time.Second, TCP(addr)), "passed")
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the listener saw %v, want an orderly end", err)
	}
}

func TestTCPEnds(t *testing.T) {
	addr := listen(t, "127.0.0.1:0", nil)
	t.Run("no time left fails", func(t *testing.T) {
		ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
		defer cancel()
		want(t, TCP(addr).Check(ctx), "failed", "timed out after")
	})
	t.Run("cancelled is inconclusive", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		want(t, TCP(addr).Check(ctx), "inconclusive", "cancelled")
	})
}
