//go:build linux

package command

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// withoutDescriptors runs f while no file can be opened.
func withoutDescriptors(t *testing.T, f func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	none := was
	none.Cur = 3
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

func TestAShortageIsCalledOne(t *testing.T) {
	r := running(t)
	_, _ = r.Output(t.Context(), sh("true"), 0) // all that is needed for good is open now
	inChroot := sh("true")
	inChroot.Path, inChroot.Attr.Chroot = "sh", "/"
	byName := sh("true")
	byName.Attr.User = "nobody"
	for name, start := range map[string]func() error{
		"of a command whose output is wanted": func() error { _, err := r.Output(t.Context(), sh("true"), 0); return err },
		"of a process":                        func() error { _, err := r.Start(sh("true")); return err },
		"of one in a chroot":                  func() error { _, err := r.Start(inChroot); return err },
		"of another user's":                   func() error { _, err := r.Start(byName); return err },
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			withoutDescriptors(t, func() { err = start() })
			var e *StartError
			if !errors.As(err, &e) || e.Reason != ReasonResources || !errors.Is(err, syscall.EMFILE) {
				t.Errorf("%v", err)
			}
		})
	}
	if f, err := os.Open(os.DevNull); err != nil {
		t.Error(err)
	} else {
		_ = f.Close()
	}
}

func TestANumberBeyondTheLimitIsAShortageToo(t *testing.T) {
	r := running(t)
	r.forkExec = func(string, []string, *syscall.ProcAttr) (int, error) { return 0, syscall.EBADF }
	_, err := r.Start(sh("true"))
	var e *StartError
	if !errors.As(err, &e) || e.Reason != ReasonResources || !errors.Is(err, syscall.EMFILE) {
		t.Errorf("%v", err)
	}
}
