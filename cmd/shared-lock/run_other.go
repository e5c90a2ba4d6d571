//go:build !linux

package main

import (
	"syscall"
	"time"
)

var start = time.Now()

// boottime is Go's clock where there is no better one.
func boottime() time.Duration { return time.Since(start) }

func processGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
