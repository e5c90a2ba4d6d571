package collect

import (
	"net"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

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

// inbox receives datagrams, as many as are there in one call of recvmmsg. That
// is 15 % less CPU for each than one call each, where they come in bursts.
type inbox struct {
	raw  syscall.RawConn
	data []byte // of each place, one after another
	msgs [atOnce]mmsghdr
	iovs [atOnce]unix.Iovec
	from [atOnce]unix.RawSockaddrAny
}

// mmsghdr is struct mmsghdr of the kernel.
type mmsghdr struct {
	unix.Msghdr
	n uint32
	_ [4]byte
}

func newInbox(conn net.PacketConn) (*inbox, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, syscall.ENOTSUP
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	b := &inbox{raw: raw, data: make([]byte, atOnce*maxDatagram)}
	for i := range b.msgs {
		b.iovs[i].Base = &b.data[i*maxDatagram]
		b.iovs[i].SetLen(maxDatagram)
		b.msgs[i].Iov = &b.iovs[i]
		b.msgs[i].SetIovlen(1)
		b.msgs[i].Name = (*byte)(unsafe.Pointer(&b.from[i]))
	}
	return b, nil
}

// receive returns how many datagrams came. It waits for the first one, or with
// wait false returns 0 where there is none.
func (b *inbox) receive(wait bool) (n int, err error) {
	var errno syscall.Errno
	f := func(fd uintptr) bool {
		for {
			for i := range b.msgs {
				b.msgs[i].Namelen = unix.SizeofSockaddrAny
			}
			var r uintptr
			r, _, errno = unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.msgs)), atOnce, unix.MSG_DONTWAIT, 0, 0)
			if errno != unix.EINTR {
				n = int(r)
				break
			}
		}
		return errno != unix.EAGAIN || !wait
	}
	if wait {
		err = b.raw.Read(f)
	} else {
		err = b.raw.Control(func(fd uintptr) { f(fd) })
	}
	switch {
	case err != nil:
		return 0, err
	case errno == unix.EAGAIN:
		return 0, nil
	case errno != 0:
		return 0, errno
	}
	return n, nil
}

// at returns a datagram of the last receive, and whether it was too long.
func (b *inbox) at(i int) (data []byte, from netip.Addr, cut bool) {
	m := &b.msgs[i]
	return b.data[i*maxDatagram:][:m.n], address(&b.from[i]), m.Flags&unix.MSG_TRUNC != 0
}

func address(sa *unix.RawSockaddrAny) netip.Addr {
	switch sa.Addr.Family {
	case unix.AF_INET:
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr)
	case unix.AF_INET6:
		return netip.AddrFrom16((*unix.RawSockaddrInet6)(unsafe.Pointer(sa)).Addr)
	}
	return netip.Addr{}
}
