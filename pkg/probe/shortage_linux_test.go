package probe

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

func TestWithoutDescriptorsNothingIsSaid(t *testing.T) {
	addr := listen(t, "127.0.0.1:0", nil) // the runtime's poller is there now
	_, port, _ := net.SplitHostPort(addr)
	page, err := HTTP(HTTPConfig{URL: "http://" + addr})
	if err != nil {
		t.Fatal(err)
	}
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	none := was
	none.Cur = 3
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	})
	for name, p := range map[string]Probe{
		"tcp":              TCP(addr),
		"tcp of localhost": TCP("localhost:" + port),
		"tcp of a name":    TCP("host.invalid:80"),
		"http":             page,
	} {
		t.Run(name, func(t *testing.T) {
			err := within(t, 10*time.Second, p)
			want(t, err, "inconclusive", "could not be tried: too many open files")
			if Passed(err) {
				t.Error("counts as a pass")
			}
			if name != "tcp of a name" && !errors.Is(err, syscall.EMFILE) {
				t.Errorf("%v hides its cause", err)
			}
		})
	}
}
