package collect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
)

const (
	maxDatagram = 1 << 16     // more than any datagram over UDP can have
	atOnce      = 32          // datagrams received in one go
	holdBytes   = 1 << 16     // read before others get the registry
	drainTime   = time.Second // bounds how long what a socket holds is read at the end
)

// Socket says where to listen.
type Socket struct {
	Network string // udp, statsd (over UDP), unix or unixgram
	Address string // host:port or path
	Buffer  int    // receive buffer of a datagram socket in bytes, 4 MiB if 0
	Readers int    // sockets that share a UDP port, 1 if 0
	Mode    os.FileMode
}

// listener is one socket.
type listener struct {
	name   string // for metrics
	labels []datagram.Label
	remote bool // the sender may be anywhere
	statsd bool

	conn   net.PacketConn // one of them
	stream net.Listener
	sock   socketStats

	received atomic.Uint64
	bytes    atomic.Uint64
	open     atomic.Int64

	turnedAway atomic.Uint64 // connections beyond the limit
}

func (l *listener) packets() bool { return l.conn != nil }

// kernel returns how many datagrams were dropped before us, and how many bytes
// of buffer there are.
func (l *listener) kernel() (drops uint64, granted int) { return l.sock.read(l.conn) }

// Listen opens sockets. Close them with [Server.Close] if Run is not called.
func (s *Server) Listen(sockets ...Socket) error {
	for _, k := range sockets {
		if err := s.listen(k); err != nil {
			s.Close()
			return err
		}
	}
	return nil
}

// Addrs returns where the sockets listen, as network and address.
func (s *Server) Addrs() []net.Addr {
	var out []net.Addr
	for _, l := range s.listeners {
		if l.packets() {
			out = append(out, l.conn.LocalAddr())
		} else {
			out = append(out, l.stream.Addr())
		}
	}
	return out
}

// Close closes the sockets.
func (s *Server) Close() {
	for _, l := range s.listeners {
		if l.packets() {
			_ = l.conn.Close()
		} else {
			_ = l.stream.Close()
		}
	}
}

func (s *Server) listen(k Socket) error {
	if k.Buffer <= 0 {
		k.Buffer = 4 << 20
	}
	if k.Mode == 0 {
		k.Mode = 0o660
	}
	switch k.Network {
	case "udp", "statsd":
		return s.listenUDP(k)
	case "unix", "unixgram":
		return s.listenUnix(k)
	}
	return fmt.Errorf("listen: network %q is unknown", k.Network)
}

func (s *Server) listenUDP(k Socket) error {
	readers := max(k.Readers, 1)
	address := k.Address
	for i := range readers {
		lc := net.ListenConfig{}
		if readers > 1 {
			lc.Control = sharePort
		}
		conn, err := lc.ListenPacket(context.Background(), "udp", address)
		if err != nil {
			return fmt.Errorf("listen on udp %s: %w", address, err)
		}
		address = conn.LocalAddr().String() // the others share the port
		name := k.Network
		if i > 0 {
			name = fmt.Sprintf("%s_%d", k.Network, i+1)
		}
		s.add(&listener{name: name, remote: true, statsd: k.Network == "statsd", conn: conn}, k, "")
	}
	return nil
}

func (s *Server) listenUnix(k Socket) error {
	abstract := strings.HasPrefix(k.Address, "@")
	if !abstract {
		if err := removeStale(k.Network, k.Address); err != nil {
			return err
		}
	}
	l := &listener{name: k.Network}
	for n := 2; slices.ContainsFunc(s.listeners, func(o *listener) bool { return o.name == l.name }); n++ {
		l.name = fmt.Sprintf("%s_%d", k.Network, n)
	}
	var err error
	if k.Network == "unix" {
		l.stream, err = net.Listen("unix", k.Address)
	} else {
		var conn *net.UnixConn
		conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: k.Address, Net: "unixgram"})
		if err == nil {
			l.conn = &gramFile{conn, k.Address, abstract}
		}
	}
	if err != nil {
		return fmt.Errorf("listen on %s %s: %w", k.Network, k.Address, err)
	}
	s.add(l, k, strings.TrimSuffix(filepath.Base(k.Address), ".sock"))
	if !abstract {
		if err := os.Chmod(k.Address, k.Mode.Perm()); err != nil {
			return fmt.Errorf("set the mode of the socket: %w", err)
		}
	}
	return nil
}

// gramFile removes its file, as net does for a stream.
type gramFile struct {
	*net.UnixConn
	path     string
	abstract bool
}

// Close closes the socket and removes its file.
func (g *gramFile) Close() error {
	err := g.UnixConn.Close()
	if err == nil && !g.abstract {
		err = os.Remove(g.path)
	}
	return err
}

// removeStale removes a socket on which nobody listens any more.
func removeStale(network, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the socket: %w", err)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("listen on %s %s: there is a file that is no socket; remove it, or choose another path", network, path)
	}
	conn, err := net.DialTimeout(network, path, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("listen on %s %s: another process listens there", network, path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the old socket: %w", err)
	}
	return nil
}

func (s *Server) add(l *listener, k Socket, app string) {
	l.labels = withLabels(s.cfg.Labels, k.Address, app)
	if l.packets() {
		if err := setBuffer(l.conn, k.Buffer); err != nil {
			s.cfg.Log.Warn("the receive buffer could not be set", "listener", l.name, "err", err)
		}
		if _, granted := l.kernel(); granted > 0 && granted < k.Buffer {
			s.cfg.Log.Warn("the kernel grants a smaller receive buffer than wanted, so bursts may be lost",
				"listener", l.name, "wanted", k.Buffer, "granted", granted, "hint", fmt.Sprintf("sysctl -w net.core.rmem_max=%d, or grant CAP_NET_ADMIN", k.Buffer))
		}
	}
	s.listeners = append(s.listeners, l)
}

// withLabels returns what is added to every message of a socket, sorted.
func withLabels(extra []datagram.Label, address, app string) []datagram.Label {
	out := []datagram.Label{{Name: "data_source", Value: address}}
	if app != "" {
		out = append(out, datagram.Label{Name: "source_app", Value: app})
	}
	for _, l := range extra {
		if l.Value != "" && !slices.ContainsFunc(out, func(o datagram.Label) bool { return o.Name == l.Name }) {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b datagram.Label) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// serve receives until ctx ends, then what is there already, and closes.
func (l *listener) serve(ctx context.Context, s *Server) error {
	if !l.packets() {
		return l.serveStream(ctx, s)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	in, err := newInbox(l.conn)
	if err == nil {
		err = l.readAll(ctx, s, in)
	}
	if err == nil {
		l.drain(s, in)
	}
	l.kernel() // for the last time
	if cerr := l.conn.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close %s: %w", l.name, cerr)
	}
	return err
}

// readAll receives until ctx ends.
func (l *listener) readAll(ctx context.Context, s *Server, in *inbox) error {
	var p processor
	for {
		n, err := in.receive(true)
		switch {
		case err == nil:
			s.receive(&p, l, in, n)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("receive on %s: %w", l.name, err)
		default:
			s.cfg.Log.Debug("receive", "listener", l.name, "err", err)
			pause(ctx, time.Millisecond)
		}
	}
}

// drain reads what the socket holds, without waiting for more.
func (l *listener) drain(s *Server, in *inbox) {
	var p processor
	for end := time.Now().Add(drainTime); time.Now().Before(end); {
		n, err := in.receive(false)
		if err != nil || n == 0 {
			return
		}
		s.receive(&p, l, in, n)
	}
}
