package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// File passes when path exists and can be seen, whatever it is: a directory
// counts, a link to nothing does not. It asks the file system, which cannot be
// interrupted: a dead network mount blocks the check.
func File(path string) Probe {
	return Func(func(context.Context) error {
		_, err := os.Stat(path)
		var pe *fs.PathError
		if errors.As(err, &pe) {
			return &failure{text: fmt.Sprintf("stat %s: %v", excerpt(path, 200), pe.Err), cause: err}
		}
		return err
	})
}

// Env passes when lookup finds name and it equals value. Neither value is ever
// shown.
func Env(lookup func(name string) (string, bool), name, value string) Probe {
	return Func(func(context.Context) error {
		got, ok := lookup(name)
		switch {
		case !ok:
			return &failure{text: fmt.Sprintf("environment variable %s: not set", name)}
		case got != value:
			return &failure{text: fmt.Sprintf("environment variable %s: differs from the wanted value", name)}
		}
		return nil
	})
}

// HeartBeat passes when a sign of life came within period. last says when the
// last one came, and whether there was one.
func HeartBeat(last func() (time.Time, bool), period time.Duration) Probe {
	return Func(func(context.Context) error {
		at, ever := last()
		age := time.Since(at)
		switch {
		case !ever:
			return &failure{text: "no heartbeat yet"}
		case age > period:
			return &failure{text: fmt.Sprintf("the last heartbeat came %v ago, wants one within %v", age.Round(100*time.Millisecond), period)}
		}
		return nil
	})
}

// FloatingPID passes when there were at most threshold starts within period:
// when the pid does not float. starts counts those since a time.
func FloatingPID(starts func(since time.Time) int, period time.Duration, threshold int) Probe {
	return Func(func(context.Context) error {
		if n := starts(time.Now().Add(-period)); n > threshold {
			return &failure{text: fmt.Sprintf("started %d times within %v, at most %d are good", n, period, threshold)}
		}
		return nil
	})
}

// A Runner runs a command to its end, or until ctx ends it, and returns its
// exit code (128+n for signal n) and what it wrote, of which the last few
// hundred bytes are enough. Its error says that the command could not be run;
// one that wraps EMFILE, ENFILE, ENOBUFS, ENOMEM or EAGAIN, that we have no
// means to run it.
type Runner func(ctx context.Context) (code int, output []byte, err error)

// Exec passes when the command, called name in errors, ends with exit code 0.
// A command that cannot be started has failed, like one that takes too long. Is
// it for want of processes, descriptors or memory, the check is inconclusive.
func Exec(name string, run Runner) Probe {
	doing := "run " + excerpt(name, 80)
	return Func(func(ctx context.Context) error {
		start := time.Now()
		code, output, err := run(ctx)
		switch {
		case err == nil && code == 0:
			return nil
		case ctx.Err() != nil:
			return broken(ctx, doing, start, err)
		case shortage(err) != 0:
			return untried(doing, excerpt(err.Error(), 200), err)
		case err != nil:
			return &failure{text: doing + ": " + excerpt(err.Error(), 200), cause: err}
		}
		text := fmt.Sprintf("%s: exit code %d", doing, code)
		if said := ending(output, 160); said != "" {
			text += ": " + said
		}
		return &failure{text: text}
	})
}
