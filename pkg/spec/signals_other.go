//go:build !linux

package spec

import "syscall"

func systemSignals() map[string]syscall.Signal { return nil }
