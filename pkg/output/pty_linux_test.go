package output

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal returns both ends of a pseudo terminal, as containers with tty: true have. Newlines arrive as "\r\n".
func terminal(t *testing.T) (r, w *os.File) {
	t.Helper()
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r = os.NewFile(uintptr(master), "ptmx") // does not block, so that Close ends a read
	t.Cleanup(func() { _ = r.Close() })
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("/dev/pts/%d", number)
	slave, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	w = os.NewFile(uintptr(slave), name)
	t.Cleanup(func() { _ = w.Close() })
	return r, w
}

func terminals(t *testing.T) map[string]func() (r, w *os.File) {
	return map[string]func() (r, w *os.File){
		"a terminal": func() (r, w *os.File) { return terminal(t) },
	}
}

func TestATerminalStaysBlockingForOthers(t *testing.T) {
	_, w := terminal(t)
	pump := runPump(t, w, PumpOptions{})
	pump.warm()
	same := dupFD(t, w) // not Fd, which would make it block
	defer func() { _ = unix.Close(same) }()
	flags, err := unix.FcntlInt(uintptr(same), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags %x, %v", flags, err)
	}
	if pump.stop(); pump.dst.fd != pump.dst.base {
		t.Error("the descriptor of our own is kept")
	}
}
