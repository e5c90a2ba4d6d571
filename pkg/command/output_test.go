//go:build linux

package command

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestOutputOfCommands(t *testing.T) {
	r := running(t)
	for _, tt := range []struct {
		name, script, out string
		max, code         int
		cut               bool
	}{
		{"both streams in order", "echo out; echo err >&2; echo last", "out\nerr\nlast\n", 100, 0, false},
		{"a failure is no error", "echo no; exit 3", "no\n", 100, 3, false},
		{"without a newline at the end", "printf word", "word", 100, 0, false},
		{"as much as fits", "printf 12345", "12345", 5, 0, false},
		{"more than fits keeps the end", "printf 123456", "23456", 5, 0, true},
		{"a flood keeps the end", "head -c 1000000 /dev/zero | tr '\\0' x; printf end", "xxend", 5, 0, true},
		{"nothing wanted", "echo text", "", 0, 0, true},
		{"nothing written", "true", "", 5, 0, false},
		{"a signal", "kill -9 $$", "", 5, 137, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, err := r.Output(t.Context(), sh(tt.script), tt.max)
			if err != nil || string(res.Output) != tt.out || res.Status.Code() != tt.code || res.Cut != tt.cut {
				t.Errorf("got %q, cut %v, %v, %v", res.Output, res.Cut, res.Status, err)
			}
		})
	}
}

func TestOutputReportsAFailedStart(t *testing.T) {
	r := running(t)
	var se *StartError
	if _, err := r.Output(t.Context(), &Command{Path: "/no/such"}, 10); !errors.As(err, &se) {
		t.Error(err)
	}
}

func TestOutputKillsWhatContextEnds(t *testing.T) {
	r := running(t)
	cause := errors.New("deadline of the probe")
	for name, script := range map[string]string{
		"a sleeper":                        "echo begun; sleep 1000",
		"one that ignores TERM":            "trap '' TERM; echo begun; while :; do sleep 1; done",
		"a group":                          "sleep 1000 & sleep 1000 & echo begun; wait",
		"strays that hold the pipe":        "setsid sleep 1000 & (setsid sleep 1000 &); echo begun; sleep 1000",
		"an exited one's stray would stay": "setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo begun; sleep 1000",
		"a flood":                          "echo begun; yes >&2",
	} {
		t.Run(name, func(t *testing.T) {
			mark := markOf(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			begun := filepath.Join(t.TempDir(), "begun")
			c := sh(strings.Replace(script, "echo begun", "echo begun; : >'"+begun+"'", 1))
			c.Env = append(c.Env, mark)
			var waiting sync.WaitGroup
			defer waiting.Wait()
			defer cancel(nil)
			waiting.Go(func() {
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for ctx.Err() == nil {
					if _, err := os.Stat(begun); err == nil {
						cancel(cause)
					}
					<-tick.C
				}
			})
			began := time.Now()
			res, err := r.Output(ctx, c, 1000)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			if !errors.Is(err, cause) || res.Status.Code() != 137 {
				t.Errorf("%v, %v", res.Status, err)
			}
			if name != "a flood" && !strings.HasPrefix(string(res.Output), "begun") {
				t.Errorf("the output before the end is %q", res.Output)
			}
			if left := marked(mark); len(left) > 0 {
				t.Errorf("%v survive", left)
			}
		})
	}
}

func TestOutputDoesNotWaitForWhoHoldsThePipe(t *testing.T) {
	r := running(t)
	mark := markOf(t)
	c := sh("setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & sleep 0.2; echo done")
	c.Env = append(c.Env, mark)
	began := time.Now()
	res, err := r.Output(t.Context(), c, 1000)
	if err != nil || !strings.HasPrefix(string(res.Output), "done\n") {
		t.Errorf("%q, %v", res.Output, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if left := marked(mark); len(left) > 0 {
		t.Errorf("%v survive", left)
	}
}

func TestManyProbesLeaveNothingBehind(t *testing.T) {
	r := running(t)
	mark := markOf(t)
	slots := make(chan struct{}, 16)
	var wg sync.WaitGroup
	n := 600
	if testing.Short() {
		n = 60
	}
	for range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c := sh("sleep 1000 & (setsid sleep 1000 &); echo ok")
			c.Env = append(c.Env, mark)
			if res, err := r.Output(t.Context(), c, 10); err != nil || string(res.Output) != "ok\n" {
				t.Errorf("%q, %v", res.Output, err)
			}
		})
	}
	wg.Wait()
	if left := marked(mark); len(left) > 0 {
		t.Errorf("%d survive", len(left))
	}
	eventually(t, "no zombies", func() bool { return len(zombies()) == 0 })
}

func TestTailStaysSmall(t *testing.T) {
	out := tail{max: 100}
	for range 1000 {
		out.write(make([]byte, 64))
		if cap(out.buf) > 1000 {
			t.Fatalf("grew to %d bytes", cap(out.buf))
		}
	}
	if len(out.bytes()) != 100 || !out.cut {
		t.Errorf("kept %d bytes, cut %v", len(out.buf), out.cut)
	}
}
