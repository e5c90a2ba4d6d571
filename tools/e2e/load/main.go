// Command load is what the benchmarks have managed by process managers, and the bare loop that
// they are compared with. What it does is its first argument:
//
//	now                 print the time, in nanoseconds since 1970, wait for SIGTERM and print it again
//	serve ADDRESS       print the time, listen at once and answer every request with 200
//	write BYTES LINE    write a line again and again, as many bytes in a second
//	spawn N PROGRAM …   fork and execute a program N times, print a line, on SIGTERM end them all
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	began := time.Now()
	if err := run(began, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(began time.Time, args []string) error {
	term := make(chan os.Signal, 1)
	switch {
	case len(args) >= 1 && args[0] == "now": // a #! line adds the name of the script
		signal.Notify(term, syscall.SIGTERM)
		fmt.Println(began.UnixNano())
		<-term
		fmt.Println(time.Now().UnixNano())
		return nil
	case len(args) == 2 && args[0] == "serve":
		fmt.Println(began.UnixNano())
		return http.ListenAndServe(args[1], http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	case len(args) == 3 && args[0] == "write":
		rate, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return write(rate, args[2]+"\n")
	case len(args) > 2 && args[0] == "spawn":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		signal.Notify(term, syscall.SIGTERM)
		return spawn(n, args[2:], term)
	}
	return fmt.Errorf("arguments %q: want now, serve ADDRESS, write BYTES LINE or spawn N PROGRAM", args)
}

// write writes in steps of 5 ms, and catches up where it was held up.
func write(rate int, line string) error {
	const step = 5 * time.Millisecond
	began, done := time.Now(), 0
	for tick := time.NewTicker(step); ; <-tick.C {
		due := int(time.Since(began).Seconds()*float64(rate)) - done
		if due < len(line) {
			continue
		}
		n, err := os.Stdout.WriteString(strings.Repeat(line, min(due, rate)/len(line)))
		if done += n; err != nil {
			return err
		}
	}
}

// spawn is the least that a process manager can do: fork, exec, kill, wait.
func spawn(n int, argv []string, term <-chan os.Signal) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}}
	pids := make([]int, n)
	for i := range pids {
		if pids[i], err = syscall.ForkExec(argv[0], argv, attr); err != nil {
			return err
		}
	}
	fmt.Println("started")
	<-term
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGTERM) // none was waited for, so each is still ours
	}
	for range pids {
		if _, err := syscall.Wait4(-1, nil, 0, nil); err != nil {
			return err
		}
	}
	return nil
}
