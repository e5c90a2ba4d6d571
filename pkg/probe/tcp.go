package probe

import (
	"context"
	"net"
	"strings"
	"time"
)

// TCP passes when addr, "host:port", accepts a connection, which is closed at
// once. A host with several addresses passes when one of them does. The host
// "localhost", or none, is both loopback addresses, without a look-up.
func TCP(addr string) Probe {
	doing := "connect to " + excerpt(addr, 200)
	return Func(func(ctx context.Context) error {
		start := time.Now()
		conn, err := dial(ctx, addr)
		if err != nil {
			return broken(ctx, doing, start, err)
		}
		_ = conn.Close() // the connection was made: that is the answer
		return nil
	})
}

// dial connects to addr before ctx ends. Connections are closed without
// SO_LINGER. With a second of it, as the kubelet sets, Linux keeps as many
// sockets in TIME_WAIT, and close waits for the peer; with none, close resets the
// connection, which servers log. Ports on the loopback do not run out: Linux
// reuses them after one second.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{
		KeepAlive: -1,                            // too short-lived for it, and it costs system calls
		Resolver:  &net.Resolver{PreferGo: true}, // it tells a shortage of descriptors from a name that is not there
	}
	if host != "" && !strings.EqualFold(host, "localhost") {
		return d.DialContext(ctx, "tcp", addr)
	}
	// A full backlog must not use up the time that the other address needs.
	first := d
	if deadline, ok := ctx.Deadline(); ok {
		first.Timeout = time.Until(deadline) / 2
	}
	conn, err := first.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err == nil || ctx.Err() != nil {
		return conn, err
	}
	if conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("::1", port)); err == nil {
		return conn, nil
	}
	return nil, err
}
