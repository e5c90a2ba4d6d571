package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
)

// codeLost is the exit code of run when the lock was not had or was lost. Others are those of the
// command.
const codeLost = 75

var errLost = errors.New("the lock was lost, the command was killed")

type runCmd struct {
	remote
	TTL     time.Duration `help:"how long the lock is held after the last renewal" default:"10s" name:"ttl"`
	Wait    time.Duration `help:"how long to wait for the lock; 0: for ever" default:"0s"`
	Try     bool          `help:"do not wait"`
	Name    string        `arg:"" name:"key" help:"the lock"`
	Command []string      `arg:"" name:"command" help:"the command and its arguments, after --" passthrough:""`
}

// run holds a lock while a command runs. The lock is renewed until the command is gone, and the
// command's process group is killed before the lock can end.
func (r *runCmd) run(ctx context.Context, call *cli.Call) error {
	argv := r.Command
	if len(argv) > 0 && argv[0] == "--" {
		argv = argv[1:]
	}
	if len(argv) == 0 {
		return cli.Usagef("no command given: shared-lock run KEY -- COMMAND ARGS")
	}
	if r.TTL < 200*time.Millisecond || r.TTL > 24*time.Hour {
		return cli.Usagef("-ttl %s is not between 200ms and 24h", r.TTL)
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return cli.Usagef("%w", err)
	}
	c, err := r.client()
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	h := &held{client: c, key: r.Name, ttl: r.TTL}
	if err := r.acquire(ctx, h, signals); err != nil {
		return err
	}
	call.Log.Debug("holding the lock", "key", r.Name, "token", h.token)
	code, err := h.command(ctx, path, argv, signals)
	if rerr := h.release(); rerr != nil && err == nil {
		call.Log.Warn("the lock could not be released, its TTL will", "key", r.Name, "err", rerr)
	}
	switch {
	case errors.Is(err, errLost):
		return &cli.ExitError{Code: codeLost, Err: err}
	case err != nil:
		return err
	case code != 0:
		return &cli.ExitError{Code: code}
	}
	return nil
}

// acquire gets the lock, with as many requests as it takes.
func (r *runCmd) acquire(ctx context.Context, h *held, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	got := make(chan error, 1)
	go func() { got <- r.acquireUntil(ctx, h) }()
	select {
	case err := <-got:
		return err
	case sig := <-signals:
		cancel()
		if err := <-got; err == nil { // it came at the same moment
			_ = h.release()
		}
		return &cli.ExitError{Code: 128 + int(sig.(syscall.Signal))}
	}
}

func (r *runCmd) acquireUntil(ctx context.Context, h *held) error {
	end := time.Now().Add(r.Wait)
	host, _ := os.Hostname() // shown to others, or not
	session := rand.Text()
	for {
		wait := 30 * time.Second
		if r.Wait > 0 {
			wait = max(min(wait, time.Until(end)), 0)
		}
		if r.Try {
			wait = 0
		}
		err := h.acquire(ctx, host, session, wait)
		switch {
		case err == nil || isFinal(err):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case r.Try || r.Wait > 0 && time.Now().After(end):
			return &cli.ExitError{Code: codeLost, Err: err}
		case isHeld(err) && wait > 0:
			continue
		}
		select {
		case <-time.After(500 * time.Millisecond): // the server is not there, or does not know
		case <-ctx.Done():
		}
	}
}

func isHeld(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.code == "held"
}

// isFinal tells if the server will say the same again.
func isFinal(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.status < 500 && !isHeld(err)
}

// held is a lock of ours.
type held struct {
	*client
	key   string
	ttl   time.Duration
	token int64
	until time.Duration // by the clock of boottime
}

// margin is how long before the server's end we must be gone.
func (h *held) margin() time.Duration { return max(h.ttl/10, 50*time.Millisecond) }

func (h *held) acquire(ctx context.Context, host, session string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait+askTimeout)
	defer cancel()
	sent := boottime()
	var got struct {
		Token    int64 `json:"token"`
		WaitedMs int64 `json:"waitedMs"`
	}
	err := h.do(ctx, http.MethodPost, lockPath(h.key)+"/acquire", map[string]any{
		"owner": "shared-lock run", "host": host, "pod": os.Getenv("POD_NAME"), "ttl": h.ttl.String(), "wait": wait.String(),
		"session": session, "reentrant": true, // so that an answer that was lost does no harm
	}, &got)
	if err != nil {
		return err
	}
	h.token = got.Token
	h.until = sent + time.Duration(got.WaitedMs)*time.Millisecond + h.ttl - h.margin()
	if boottime() >= h.until { // it came too late
		return h.renew(ctx)
	}
	return nil
}

func (h *held) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(h.ttl/3, 20*time.Millisecond))
	defer cancel()
	sent := boottime()
	if err := h.do(ctx, http.MethodPut, lockPath(h.key)+"/renew", map[string]any{"token": h.token}, nil); err != nil {
		return err
	}
	h.until = sent + h.ttl - h.margin()
	return nil
}

func (h *held) release() error {
	ctx, cancel := context.WithTimeout(context.Background(), max(h.ttl, time.Second))
	defer cancel()
	err := h.do(ctx, http.MethodDelete, lockPath(h.key)+"?token="+strconv.FormatInt(h.token, 10), nil, nil)
	var r *refusal
	if errors.As(err, &r) && r.status == http.StatusGone {
		return nil
	}
	return err
}

// command runs argv in a process group of its own, passes signals on, and returns its exit code once
// it is gone. It kills the group at the deadline, or when the lock is gone.
func (h *held) command(ctx context.Context, path string, argv []string, signals <-chan os.Signal) (int, error) {
	// The command is to die with us, and with the thread that forked it, which must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := &exec.Cmd{Path: path, Args: argv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	cmd.Env = append(os.Environ(), "SHARED_LOCK_TOKEN="+strconv.FormatInt(h.token, 10), "SHARED_LOCK_KEY="+h.key)
	cmd.SysProcAttr = processGroup()
	if err := cmd.Start(); err != nil {
		return 0, cli.Usagef("start %s: %w", argv[0], err)
	}
	group := -cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	lost := make(chan struct{})
	rctx, stop := context.WithCancel(ctx)
	renewing := make(chan struct{})
	go func() {
		defer close(renewing)
		if h.keep(rctx) != nil {
			_ = syscall.Kill(group, syscall.SIGKILL) // it may be gone already
			close(lost)
		}
	}()
	defer func() { stop(); <-renewing }()
	for {
		select {
		case sig := <-signals:
			_ = syscall.Kill(group, sig.(syscall.Signal)) // it may be gone already
		case err := <-ended:
			_ = syscall.Kill(group, syscall.SIGKILL) // what it left behind
			select {
			case <-lost:
				return 0, errLost
			default:
			}
			return exitCode(err)
		}
	}
}

// keep renews until ctx ends. An error says that the lock is or may be gone.
func (h *held) keep(ctx context.Context) error {
	pause := h.ttl / 3
	for {
		if !wait(ctx, min(pause, h.until-boottime())) {
			return nil
		}
		if boottime() >= h.until {
			return errLost
		}
		rctx, cancel := context.WithTimeout(ctx, h.until-boottime())
		err := h.renew(rctx)
		cancel()
		var r *refusal
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			pause = h.ttl / 3
		case errors.As(err, &r) && r.status < 500:
			return fmt.Errorf("%w: %w", errLost, err)
		default:
			pause = min(h.ttl/20, 200*time.Millisecond)
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, fmt.Errorf("wait for the command: %w", err)
}
