//go:build !linux

package collect

import (
	"net"
	"syscall"
)

const msgTrunc = syscall.MSG_TRUNC

type socketStats struct{}

func (*socketStats) read(net.PacketConn) (drops uint64, granted int) { return 0, 0 }

func setBuffer(conn net.PacketConn, size int) error {
	if c, ok := conn.(interface{ SetReadBuffer(int) error }); ok {
		return c.SetReadBuffer(size)
	}
	return nil
}

func sharePort(_, _ string, _ syscall.RawConn) error { return syscall.ENOTSUP }

func (*listener) drain(*Server) {}
