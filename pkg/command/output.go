package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	outputGrace = 500 * time.Millisecond // from TERM to KILL for what a command left behind
	outputDrain = 500 * time.Millisecond // for what is left in the pipe
	outputKill  = 2 * time.Second        // for a killed command to be gone
)

// Output runs a command to its end and returns the last max bytes of what it
// wrote to stdout and stderr; Stdout and Stderr of cmd are not used. When ctx ends
// the whole group and everything that left it is killed, and the error wraps the
// cause of ctx. What a command leaves running when it exits by itself is ended
// too, gently; if it cannot be, that says nothing of the command, and KillRest ends
// it. It returns soon after the exit or ctx, at the latest after some seconds,
// also when something holds the pipe. An exit code is not an error.
func (r *Reaper) Output(ctx context.Context, cmd *Command, max int) (Result, error) {
	from, to, err := os.Pipe()
	if err != nil {
		return Result{}, &StartError{Step: "make a pipe", Reason: ReasonResources, Err: err}
	}
	defer from.Close()
	run := *cmd
	run.Stdout, run.Stderr = to, to
	c, err := r.Start(&run)
	to.Close()
	if err != nil {
		return Result{}, err
	}
	out := tail{max: max}
	var reading sync.WaitGroup
	reading.Go(func() { out.readFrom(from) })

	err = finish(ctx, c)
	_ = from.SetReadDeadline(time.Now().Add(outputDrain)) // usually it is at EOF already
	reading.Wait()
	return Result{Status: c.Status(), Output: out.bytes(), Cut: out.cut}, err
}

// finish waits for the end of a command, or makes it, and sweeps.
func finish(ctx context.Context, c *Child) error {
	select {
	case <-c.Exited():
		_, _ = c.Sweep(ctx, outputGrace)
		return nil
	case <-ctx.Done():
	}
	cause := context.Cause(ctx)
	if err := c.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		cause = errors.Join(cause, err)
	}
	late := time.NewTimer(outputKill)
	defer late.Stop()
	select {
	case <-c.Exited():
	case <-late.C:
		return fmt.Errorf("run %s: %w; process %d does not die", c.name, cause, c.pid)
	}
	if _, err := c.Sweep(ctx, 0); err != nil {
		return fmt.Errorf("run %s: %w; %v", c.name, cause, err) // the cause decides
	}
	return fmt.Errorf("run %s: %w", c.name, cause)
}

// tail keeps the last bytes of a stream, in at most twice their size.
type tail struct {
	max int
	buf []byte
	cut bool
}

// readFrom reads to the end, or to the deadline.
func (t *tail) readFrom(r io.Reader) {
	chunk := make([]byte, 4096)
	for {
		n, err := r.Read(chunk)
		t.write(chunk[:n])
		if err != nil {
			return
		}
	}
}

func (t *tail) write(b []byte) {
	t.buf = append(t.buf, b...)
	if len(t.buf) > 2*max(t.max, len(b)) {
		t.shrink()
	}
}

func (t *tail) shrink() {
	if over := len(t.buf) - max(t.max, 0); over > 0 {
		t.cut = true
		t.buf = t.buf[:copy(t.buf, t.buf[over:])]
	}
}

func (t *tail) bytes() []byte {
	t.shrink()
	return t.buf
}
