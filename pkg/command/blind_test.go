//go:build linux

package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestWithoutSightTheGroupIsEnded(t *testing.T) {
	needRoot(t)
	for name, tt := range map[string]struct{ mount, want string }{
		"there is no /proc":                        {"mount -t tmpfs none /proc", "/proc is not mounted"},
		"/proc is empty":                           {"umount -l /proc", "/proc is not mounted"},
		"/proc is that of another pid namespace":   {"true", "/proc is that of another pid namespace"},
		"/proc is there, and descriptors run out":  {"mount -t proc proc /proc", "too many open files"},
		"/proc hides the processes of other users": {"mount -t proc -o hidepid=2,gid=65534 proc /proc; exec setpriv --bounding-set -sys_ptrace", "hidepid"},
	} {
		t.Run(name, func(t *testing.T) {
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			mount, run, ok := strings.Cut(tt.mount, "; ")
			if !ok {
				run = "exec"
			}
			c := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mount+` && `+run+` "$0"`, exe)
			c.Env = append(os.Environ(), helperEnv+"=blind", "BLIND="+tt.want)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// helperBlind is PID 1 and cannot see its processes.
func helperBlind() error {
	want := os.Getenv("BLIND")
	lacks, hides := strings.Contains(want, "too many"), want == "hidepid"
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := NewReaper()
	defer background(r)()
	if err := r.Impaired(); (err == nil) != (lacks || hides) || err != nil && !strings.Contains(err.Error(), want) {
		return fmt.Errorf("impaired by %v", err)
	}
	if res, err := r.Output(ctx, sh("sleep 1000 & exit 3"), 10); err != nil || res.Status.Code() != 3 {
		return fmt.Errorf("a command that leaves something ends with %v, %v", res.Status, err)
	}
	child, err := leave(r, hides)
	if err != nil {
		return err
	}
	if lacks {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: 1024}); err != nil {
			return err
		}
	}
	told := func(err error) bool { // of what cannot be seen, where it cannot be ended either
		return hides && err == nil || !hides && err != nil && strings.Contains(err.Error(), want)
	}
	return endBlindly(ctx, r, child, told)
}

// leave starts what leaves something behind, of another user where that is hidden.
func leave(r *Reaper, hidden bool) (*Child, error) {
	c := sh("trap '' TERM; sleep 1000 & (setsid sleep 1000 &); sleep 0.2")
	if hidden {
		c = sh("trap '' TERM; sleep 1000 & sleep 0.2")
		c.Attr.UID, c.Attr.GID = ptr[uint32](65534), ptr[uint32](65534)
	}
	child, err := r.Start(c)
	if err != nil {
		return nil, err
	}
	<-child.Exited()
	if !child.groupExists() {
		return nil, errors.New("it left nothing")
	}
	return child, nil
}

// endBlindly sweeps a child, then ends all.
func endBlindly(ctx context.Context, r *Reaper, child *Child, told func(error) bool) error {
	began := time.Now()
	if _, err := child.Sweep(ctx, 300*time.Millisecond); !told(err) {
		return fmt.Errorf("sweep: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		return fmt.Errorf("the sweep took %v", took)
	}
	if child.groupExists() {
		return errors.New("its group exists")
	}
	if _, err := r.KillRest(ctx, 0); !told(err) {
		return fmt.Errorf("kill the rest: %v", err)
	}
	if err := syscall.Kill(-1, 0); err != syscall.ESRCH {
		return fmt.Errorf("something is left: %v", err)
	}
	return nil
}

func TestWhatIsLackingMayComeAgain(t *testing.T) {
	r := running(t)
	mark := markOf(t)
	child := leaving(t, r, "setsid sh -c 'trap \"\" TERM; while :; do sleep 1.@; done' &", mark)
	blind := true
	n, err := r.clear(t.Context(), 500*time.Millisecond, killWait, quarry{strike: child.strike, find: func() ([]proc, error) {
		if blind {
			blind = false
			return nil, unix.EMFILE
		}
		r.mu.Lock()
		r.sweeping[child] = 1
		r.mu.Unlock()
		return child.survivors()
	}})
	r.mu.Lock()
	delete(r.sweeping, child)
	r.mu.Unlock()
	if n == 0 || err != nil {
		t.Errorf("%d signalled, %v", n, err)
	}
	if left := marked(mark); len(left) > 0 {
		t.Errorf("%v survive", left)
	}
}

func TestTheEndOfGraceAndOfTimeDoNotAddUp(t *testing.T) {
	c := start(t, running(t), sh("trap '' TERM; while :; do sleep 1; done"))
	p, _ := look(c.PID())
	p.ppid++ // it is never signalled, as if it were not to be killed
	synctest.Test(t, func(t *testing.T) {
		r := NewReaper() // which nobody tells of anything
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := r.clear(ctx, 100*time.Millisecond, 400*time.Millisecond, quarry{find: func() ([]proc, error) { return []proc{p}, nil }})
		if took := time.Since(began); err == nil || took != 500*time.Millisecond {
			t.Errorf("took %v, %v", took, err)
		}
	})
}
