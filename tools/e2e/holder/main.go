// Holder is the command of a holder in the tests of faults: it says at each moment that it runs, and
// writes its token into a register that refuses smaller ones.
//
//	holder -file F -register R -for D
//
// F gets lines "start|alive|refused TOKEN NANOSECONDS" of CLOCK_BOOTTIME, which goes on in suspend.
package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	file, register := flag.String("file", "", ""), flag.String("register", "", "")
	most := flag.Duration("for", time.Second, "")
	flag.Parse()
	token, err := strconv.ParseInt(os.Getenv("SHARED_LOCK_TOKEN"), 10, 64)
	if err != nil {
		return fmt.Errorf("read SHARED_LOCK_TOKEN: %w", err)
	}
	f, err := os.OpenFile(*file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	what := "start"
	for end := boottime() + int64(*most); ; what = "alive" {
		now := boottime() // before the line is written: who is frozen in between runs no more
		if now > end {
			return nil
		}
		if ok, err := fenced(*register, token); err != nil {
			return err
		} else if !ok {
			what = "refused"
		}
		if _, err := fmt.Fprintf(f, "%s %d %d\n", what, token, now); err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// fenced writes the token unless there is a greater one.
func fenced(path string, token int64) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return false, err
	}
	var text [32]byte
	n, _ := f.ReadAt(text[:], 0)
	old, _ := strconv.ParseInt(strings.TrimSpace(string(text[:n])), 10, 64)
	if old > token {
		return false, nil
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%-31d\n", token), 0)
	return true, err
}

func boottime() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return t.Nano()
}
