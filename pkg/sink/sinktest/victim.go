package sinktest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/datagram"
	"github.com/process-wrapper/process-wrapper/pkg/sink"
)

// Window is what a killed process may lose, many times wider than promised, for a busy machine.
const Window = 250 * time.Millisecond

const victim = "SINKTEST_VICTIM" // number of its first event

// Victim puts perSecond events a second into a sink when this process was started by Murder; it
// does not return then. TestMain calls it.
func Victim(s func() (*sink.Sink, error), perSecond int) {
	first, err := strconv.Atoi(os.Getenv(victim))
	if err != nil {
		return
	}
	if err := beVictim(s, first, perSecond); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	panic("a victim outlived its murder")
}

func beVictim(open func() (*sink.Sink, error), first, perSecond int) error {
	s, err := open()
	if err != nil {
		return err
	}
	failed := run(s)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	type mark struct {
		at   time.Time
		next int
	}
	var marks []mark
	next := first
	for {
		select {
		case err := <-failed:
			return err
		case now := <-ticker.C:
			for range perSecond / 100 {
				if err := s.Put(Event("id", next)); err != nil {
					return err
				}
				next++
			}
			marks = append(marks, mark{now, next})
			for len(marks) > 0 && now.Sub(marks[0].at) > Window {
				fmt.Println(marks[0].next) // all before it were accepted longer ago than the window
				marks = marks[1:]
			}
		}
	}
}

func run(s *sink.Sink) <-chan error {
	failed := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { failed <- s.Run(context.Background()) }) // nobody waits: it is killed
	return failed
}

// Murder starts this test's binary again, whose TestMain calls Victim, kills it after d, and returns
// the number up to which it had accepted events longer ago than the window.
func Murder(t testing.TB, first int, d time.Duration, env ...string) (accepted int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), append(env, victim+"="+strconv.Itoa(first))...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = dieWithParent()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(d, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	accepted = first
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if accepted, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("victim was not killed: %v", err)
	}
	if accepted == first {
		t.Fatal("victim accepted nothing")
	}
	return accepted
}

// Event is the one with the given number: its id is PREFIX-NUMBER.
func Event(prefix string, n int) *datagram.Message {
	return &datagram.Message{
		Op: datagram.Event, Name: "restart", Value: 1, ID: prefix + "-" + strconv.Itoa(n), Time: time.Now(),
		Labels: []datagram.Label{
			{Name: "event_type", Value: "restart"}, {Name: "namespace", Value: "shop"}, {Name: "node", Value: "node-7"},
			{Name: "pod", Value: "web-" + strconv.Itoa(n%10)}, {Name: "process_name", Value: "php-fpm"},
		},
	}
}
