package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxControllers may be connected to a control socket at a time.
const maxControllers = 256

const maxSocketPath = 107 // of sun_path, without its NUL

// ErrTaken says that another process-wrapper listens on the socket.
var ErrTaken = errors.New("another process-wrapper has it")

// ControlServer serves the control socket: a unix socket with mode 0600, which
// only root and the user of this process may use, whatever the mode of the
// file becomes. Make one with [ListenControl].
type ControlServer struct {
	ln   *net.UnixListener
	path string
	log  *slog.Logger
}

// ListenControl makes the socket, and its directory with mode 0700. A socket that
// nobody serves is replaced; one that somebody serves is [ErrTaken].
func ListenControl(path string, log *slog.Logger) (*ControlServer, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("control socket: %s is longer than %d bytes, which is all that a socket's path may have", path, maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("control socket %s: %w", path, ErrTaken)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := removeSocket(path); err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
	}
	old := unix.Umask(0o177) // before anybody else can connect
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &ControlServer{ln: ln, path: path, log: log}, nil
}

// removeSocket removes a socket, and nothing else.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is no socket", path)
	}
	return os.Remove(path)
}

// Path is where the socket is.
func (s *ControlServer) Path() string { return s.path }

// Close removes the socket. Serve does so when it ends.
func (s *ControlServer) Close() error { return s.ln.Close() }

// Serve answers until ctx ends, and removes the socket.
func (s *ControlServer) Serve(ctx context.Context, handler http.Handler) error {
	requests, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(errClosing)
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	wg.Go(func() {
		failed <- srv.Serve(&peers{UnixListener: s.ln, log: s.log, slots: make(chan struct{}, maxControllers)})
	})
	var err error
	select {
	case err = <-failed:
		err = fmt.Errorf("control socket: %w", err)
	case <-ctx.Done():
	}
	end(errClosing)
	_ = s.Close() // nothing new comes
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	_ = srv.Shutdown(late) // whoever is not done by then is cut off
	_ = srv.Close()
	wg.Wait()
	return err
}

// peers accepts connections of root and of our own user only, and so many at a
// time.
type peers struct {
	*net.UnixListener
	log    *slog.Logger
	slots  chan struct{}
	warned bool
}

// Accept returns the next connection that may be served.
func (p *peers) Accept() (net.Conn, error) {
	for {
		conn, err := p.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peer(conn)
		if err != nil || uid != 0 && int(uid) != os.Geteuid() {
			if !p.warned { // once: whoever knocks decides how often
				p.warned = true
				p.log.Warn("somebody else tried to use the control socket", "uid", uid, "err", err)
			}
			conn.Close()
			continue
		}
		select {
		case p.slots <- struct{}{}:
			return &slotted{conn, sync.OnceFunc(func() { <-p.slots })}, nil
		default:
			conn.Close()
		}
	}
}

type slotted struct {
	net.Conn
	release func()
}

// Close closes the connection and frees its slot.
func (s *slotted) Close() error {
	defer s.release()
	return s.Conn.Close()
}

// peer is the user at the other end.
func peer(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, credErr); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
