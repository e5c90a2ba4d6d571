// Holder is the command of a holder in the tests of faults: it says at each moment that it runs, and
// writes its token into a register that refuses smaller ones.
//
//	holder -file F -register R [-least D -most D] [-tree]
//
// F gets lines "start|alive|refused|end TOKEN NANOSECONDS" of CLOCK_BOOTTIME, which goes on in suspend.
// R gets a line "TOKEN NANOSECONDS" for each token that is greater than the one before. It ends after a
// time between least and most, well or badly, and up to 50 ms after SIGTERM. With -tree a child of it, in
// a session of its own, does the same, but never ends without SIGTERM.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run() (int, error) {
	file, register := flag.String("file", "", ""), flag.String("register", "", "")
	least, most := flag.Duration("least", time.Hour, ""), flag.Duration("most", time.Hour, "")
	tree, leaf := flag.Bool("tree", false, ""), flag.Bool("leaf", false, "")
	flag.Parse()
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	token, err := strconv.ParseInt(os.Getenv("SHARED_LOCK_TOKEN"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read SHARED_LOCK_TOKEN: %w", err)
	}
	h := &holder{token: token}
	if h.file, err = os.OpenFile(*file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600); err != nil {
		return 0, err
	}
	if h.register, err = os.OpenFile(*register, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600); err != nil {
		return 0, err
	}
	if *tree {
		child := exec.Command("/proc/self/exe", "-file", *file, "-register", *register, "-leaf")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil { // nobody waits for it: it outlives us
			return 0, err
		}
	}
	every := 2 * time.Millisecond
	if *leaf {
		every = 10 * time.Millisecond
	}
	life := *least
	if *most > *least {
		life += rand.N(*most - *least)
	}
	return rand.IntN(2), h.live(every, time.After(life), term)
}

// holder says that it runs.
type holder struct {
	token          int64
	file, register *os.File
}

func (h *holder) live(every time.Duration, over <-chan time.Time, term <-chan os.Signal) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for what := "start"; ; what = "alive" {
		if err := h.say(what); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-over:
			return h.say("end")
		case <-term:
			term, over = nil, time.After(rand.N(50*time.Millisecond))
		}
	}
}

func (h *holder) say(what string) error {
	now := boottime() // before anything is written: who is frozen in between runs no more
	ok, err := h.write(now)
	if err != nil {
		return err
	}
	if !ok {
		what = "refused"
	}
	_, err = fmt.Fprintf(h.file, "%s %d %d\n", what, h.token, now)
	return err
}

// write writes the token into the register unless there is a greater one.
func (h *holder) write(now int64) (bool, error) {
	if err := syscall.Flock(int(h.register.Fd()), syscall.LOCK_EX); err != nil {
		return false, err
	}
	defer func() { _ = syscall.Flock(int(h.register.Fd()), syscall.LOCK_UN) }()
	info, err := h.register.Stat()
	if err != nil {
		return false, err
	}
	var end [64]byte // of it: more than a line
	n, err := h.register.ReadAt(end[:], max(info.Size()-int64(len(end)), 0))
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	text := bytes.TrimSpace(end[:n])
	line, _, _ := strings.Cut(string(text[bytes.LastIndexByte(text, '\n')+1:]), " ")
	old, _ := strconv.ParseInt(line, 10, 64) // there is none yet
	if old < h.token {
		_, err := fmt.Fprintf(h.register, "%d %d\n", h.token, now)
		return true, err
	}
	return old == h.token, nil
}

func boottime() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return t.Nano()
}
