package collect

import (
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const msgTrunc = unix.MSG_TRUNC

// drainTime bounds how long what a socket holds is read at the end.
const drainTime = time.Second

// socketStats asks the kernel about a socket.
type socketStats struct {
	mu      sync.Mutex // guards what follows
	last    uint32     // as the kernel counts, which wraps
	drops   uint64
	granted int
}

// Places in the answer of SO_MEMINFO, see linux/sock_diag.h.
const (
	memRcvbuf = 1
	memDrops  = 8
	memVars   = 9
)

// read returns what is known last where the socket is closed.
func (k *socketStats) read(conn net.PacketConn) (drops uint64, granted int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	control(conn, func(fd int) {
		var info [memVars]uint32
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return
		}
		k.drops += uint64(info[memDrops] - k.last)
		k.last = info[memDrops]
		k.granted = int(info[memRcvbuf]) / 2 // the kernel doubles it for its own needs
	})
	return k.drops, k.granted
}

func control(conn net.PacketConn, f func(fd int)) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := sc.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}

// setBuffer asks for a receive buffer, beyond the limit where that is allowed.
func setBuffer(conn net.PacketConn, size int) (err error) {
	control(conn, func(fd int) {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		}
	})
	return err
}

func sharePort(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	if cerr != nil {
		return cerr
	}
	return err
}

// drain reads what the socket holds, without waiting for more.
func (l *listener) drain(s *Server) {
	buf := make([]byte, maxDatagram)
	var p processor
	end := time.Now().Add(drainTime)
	for time.Now().Before(end) {
		n, flags, from := -1, 0, netip.AddrPort{}
		control(l.conn, func(fd int) {
			var sa unix.Sockaddr
			var err error
			if n, _, flags, sa, err = unix.Recvmsg(fd, buf, nil, unix.MSG_DONTWAIT); err != nil {
				n = -1
				if err == unix.EINTR {
					n = 0
				}
				return
			}
			from = addrPort(sa)
		})
		switch {
		case n < 0:
			return
		case flags&msgTrunc != 0:
			l.received.Add(1)
			s.stats.refuse(cutOff, 1)
		default:
			s.receive(&p, l, from, buf[:n])
		}
	}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}
