package preempt

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"
)

// full listens, and has no room for another connection: what is sent to open one is dropped.
func full(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err == nil {
		err = syscall.Listen(fd, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
	for range 2 { // the queue holds one more than it was made for
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	return addr
}

func TestAConnectionMayTakeTwoSeconds(t *testing.T) {
	t.Parallel()
	addr := full(t)
	w, err := New(Config{URL: "http://" + addr + preemptedPath})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = w.newClient(w.tokens.take).do(t.Context(), request{method: "GET", url: w.preemptedURL.String(), timeout: time.Minute})
	if took := time.Since(began); err == nil || faultOf(err).kind != "timeout" || took < dialTimeout || took > 10*dialTimeout {
		t.Errorf("after %v: %v", took, err)
	}
}
