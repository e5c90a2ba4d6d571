//go:build !linux

package collect

import (
	"net"
	"net/netip"
	"syscall"
)

type socketStats struct{}

func (*socketStats) read(net.PacketConn) (drops uint64, granted int) { return 0, 0 }

func setBuffer(conn net.PacketConn, size int) error {
	if c, ok := conn.(interface{ SetReadBuffer(int) error }); ok {
		return c.SetReadBuffer(size)
	}
	return nil
}

func sharePort(_, _ string, _ syscall.RawConn) error { return syscall.ENOTSUP }

// inbox receives one datagram at a time.
type inbox struct {
	conn net.PacketConn
	data []byte
	n    int
	from netip.Addr
}

func newInbox(conn net.PacketConn) (*inbox, error) {
	return &inbox{conn: conn, data: make([]byte, maxDatagram)}, nil
}

func (b *inbox) receive(wait bool) (int, error) {
	if !wait {
		return 0, nil
	}
	n, from, err := b.conn.ReadFrom(b.data)
	if err != nil {
		return 0, err
	}
	b.n, b.from = n, netip.Addr{}
	if u, ok := from.(*net.UDPAddr); ok {
		b.from = u.AddrPort().Addr()
	}
	return 1, nil
}

func (b *inbox) at(int) (data []byte, from netip.Addr, cut bool) { return b.data[:b.n], b.from, false }
