package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/lease"
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
	c, err := r.connect()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }() // its time ends it too
	host, _ := os.Hostname()                                   // shown to others, or not
	g := lease.NewGuard(c, lease.Request{Key: r.Name, TTL: r.TTL, Owner: "shared-lock run", Host: host, Pod: os.Getenv("POD_NAME")}, call.Log)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	if err := r.acquire(ctx, g, signals); err != nil {
		return err
	}
	defer g.Release()
	call.Log.Debug("holding the lock", "key", r.Name, "token", g.Token())
	code, err := command(g, path, argv, signals)
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

// connect returns a client of the servers, which does not ask them yet.
func (r *runCmd) connect() (*lease.Client, error) {
	cfg := lease.Config{URLs: strings.Split(r.URL, ","), Namespace: r.Namespace, TokenFile: r.TokenFile}
	if r.CACert != "" || r.Cert != "" || r.Key != "" {
		t, err := clientTLS(tlsFiles{r.CACert, r.Cert, r.Key}, tlsFiles{"-ca-cert", "-cert", "-key"})
		if err != nil {
			return nil, cli.Usagef("%w", err)
		}
		cfg.TLS = t
	}
	c, err := lease.New(cfg)
	if err != nil {
		return nil, cli.Usagef("-shared-lock-url: %w", err)
	}
	return c, nil
}

// acquire gets the lock, with as many requests as it takes.
func (r *runCmd) acquire(ctx context.Context, g *lease.Guard, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	got := make(chan error, 1)
	go func() { got <- r.acquireUntil(ctx, g) }()
	select {
	case err := <-got:
		return err
	case sig := <-signals:
		cancel()
		if err := <-got; err == nil { // it came at the same moment
			g.Release()
		}
		return &cli.ExitError{Code: 128 + int(sig.(syscall.Signal))}
	}
}

func (r *runCmd) acquireUntil(ctx context.Context, g *lease.Guard) error {
	end := time.Now().Add(r.Wait)
	for {
		wait := 10 * time.Second
		if r.Wait > 0 {
			wait = max(min(wait, time.Until(end)), 0)
		}
		if r.Try {
			wait = 0
		}
		began := time.Now()
		err := g.Try(ctx, wait)
		switch {
		case err == nil || errors.Is(err, lease.ErrRefused):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case r.Try || r.Wait > 0 && time.Now().After(end):
			return &cli.ExitError{Code: codeLost, Err: err}
		case errors.Is(err, lease.ErrHeld) && time.Since(began) >= wait/2:
			continue // the server let us wait
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// command runs argv in a process group of its own, passes signals on, and returns its exit code once
// it is gone. It kills the group when the lock is lost.
func command(g *lease.Guard, path string, argv []string, signals <-chan os.Signal) (int, error) {
	// The command is to die with us, and with the thread that forked it, which must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := &exec.Cmd{Path: path, Args: argv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	st := g.Stats()
	cmd.Env = append(os.Environ(), "SHARED_LOCK_TOKEN="+strconv.FormatInt(st.Token, 10), "SHARED_LOCK_KEY="+st.Key)
	cmd.SysProcAttr = processGroup()
	if err := cmd.Start(); err != nil {
		return 0, cli.Usagef("start %s: %w", argv[0], err)
	}
	group := -cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	hold, over := context.WithCancel(context.Background())
	lost := make(chan error, 1)
	go func() {
		err := g.Hold(hold)
		if err != nil {
			_ = syscall.Kill(group, syscall.SIGKILL) // it may be gone already
		}
		lost <- err
	}()
	for {
		select {
		case sig := <-signals:
			_ = syscall.Kill(group, sig.(syscall.Signal)) // it may be gone already
		case err := <-ended:
			_ = syscall.Kill(group, syscall.SIGKILL) // what it left behind
			over()
			if cause := <-lost; cause != nil {
				return 0, fmt.Errorf("%w: %w", errLost, cause)
			}
			return exitCode(err)
		}
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
