package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"file", "nothing"} {
		if err := os.Symlink(link, filepath.Join(dir, "link to "+link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		path, want string
		parts      []string
	}{
		"a file passes, even one that nobody may read": {file, "passed", nil},
		"a directory passes":                           {dir, "passed", nil},
		"a link to a file passes":                      {filepath.Join(dir, "link to file"), "passed", nil},
		"a link to nothing fails":                      {filepath.Join(dir, "link to nothing"), "failed", nil},
		"nothing fails":                                {filepath.Join(dir, "none"), "failed", []string{"stat ", "none: no such file or directory"}},
		"a path through a file fails":                  {filepath.Join(file, "x"), "failed", []string{"not a directory"}},
		"a path with a zero byte fails":                {"a\x00b", "failed", []string{"invalid argument"}},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, File(c.path).Check(t.Context()), c.want, c.parts...)
		})
	}
	if err := File(filepath.Join(dir, "none")).Check(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
}

func TestEnv(t *testing.T) {
	vars := map[string]string{"READY": "s3cret", "EMPTY": ""}
	lookup := func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
	for name, c := range map[string]struct {
		name, value, want string
		parts             []string
	}{
		"the wanted value passes":                 {"READY", "s3cret", "passed", nil},
		"another value fails":                     {"READY", "w4nted", "failed", []string{"READY: differs"}},
		"the same value in another case fails":    {"READY", "S3CRET", "failed", nil},
		"a variable that is not set fails":        {"NONE", "w4nted", "failed", []string{"NONE: not set"}},
		"an empty value is a value":               {"EMPTY", "", "passed", nil},
		"a variable that is not set is not empty": {"NONE", "", "failed", nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := Env(lookup, c.name, c.value).Check(t.Context())
			want(t, err, c.want, c.parts...)
			if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "w4nted")) {
				t.Errorf("error %q shows a value", err)
			}
		})
	}
}

func TestExec(t *testing.T) {
	for name, c := range map[string]struct {
		code   int
		output string
		err    error
		want   string
		parts  []string
	}{
		"exit code 0 passes, whatever it says": {0, "error: all is lost", nil, "passed", nil},
		"another exit code fails":              {3, "", nil, "failed", []string{"run check.sh: exit code 3"}},
		"what it said is told in one line":     {1, "no\n\troute\x1b[0m\n", nil, "failed", []string{"exit code 1: no route[0m"}},
		"of a flood the end is told":           {1, strings.Repeat("x", 1<<20) + "\nthe reason\n", nil, "failed", []string{"exit code 1: …x", "x the reason"}},
		"a signal fails":                       {137, "", nil, "failed", []string{"137"}},
		"a command that is not there fails":    {0, "", fmt.Errorf("change directory /x: %w", syscall.ENOENT), "failed", []string{"run check.sh: change directory /x: no such file or directory"}},
		"no process left for it is not its fault": {0, "", fmt.Errorf("fork: %w: the limit is reached", syscall.EAGAIN), "inconclusive",
			[]string{"run check.sh: could not be tried: fork: resource temporarily unavailable: the limit is reached"}},
		"nor is no descriptor": {0, "", fmt.Errorf("make a pipe: %w", syscall.EMFILE), "inconclusive", []string{"too many open files"}},
		"nor is no memory":     {0, "", fmt.Errorf("fork: %w", syscall.ENOMEM), "inconclusive", []string{"cannot allocate memory"}},
	} {
		t.Run(name, func(t *testing.T) {
			run := func(context.Context) (int, []byte, error) { return c.code, []byte(c.output), c.err }
			want(t, Exec("check.sh", run).Check(t.Context()), c.want, c.parts...)
		})
	}
}

func TestExecEnds(t *testing.T) {
	hung := func(ctx context.Context) (int, []byte, error) {
		<-ctx.Done()
		return 137, []byte("killed"), nil
	}
	t.Run("a command that takes too long fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			err := Exec("check.sh", hung).Check(ctx)
			want(t, err, "failed", "run check.sh: timed out after 3s")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v is not a deadline", err)
			}
		})
	})
	t.Run("a command that nobody waits for any more says nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		want(t, Exec("check.sh", hung).Check(ctx), "inconclusive", "cancelled")
	})
	t.Run("a command that passes at the last moment has passed", func(t *testing.T) {
		ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
		defer cancel()
		ok := func(context.Context) (int, []byte, error) { return 0, nil, nil }
		want(t, Exec("check.sh", ok).Check(ctx), "passed")
	})
}

func TestHeartBeat(t *testing.T) {
	for name, c := range map[string]struct {
		age   time.Duration
		ever  bool
		want  string
		parts []string
	}{
		"a young one passes": {time.Second, true, "passed", nil},
		"an old one fails":   {time.Minute, true, "failed", []string{"the last heartbeat came 1m0s ago, wants one within 5s"}},
		"none fails":         {0, false, "failed", []string{"no heartbeat yet"}},
	} {
		t.Run(name, func(t *testing.T) {
			last := func() (time.Time, bool) { return time.Now().Add(-c.age), c.ever }
			want(t, HeartBeat(last, 5*time.Second).Check(t.Context()), c.want, c.parts...)
		})
	}
}

func TestFloatingPID(t *testing.T) {
	for name, c := range map[string]struct {
		starts int
		want   string
		parts  []string
	}{
		"as many as may be pass": {2, "passed", nil},
		"one more fails":         {3, "failed", []string{"started 3 times within 10s, at most 2 are good"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := FloatingPID(func(since time.Time) int {
				if ago := time.Since(since); ago < 10*time.Second || ago > time.Minute {
					t.Errorf("asked for the last %v", ago)
				}
				return c.starts
			}, 10*time.Second, 2)
			want(t, p.Check(t.Context()), c.want, c.parts...)
		})
	}
}
