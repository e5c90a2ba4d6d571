//go:build !linux

package sinktest

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
