package spec

import "syscall"

func systemSignals() map[string]syscall.Signal {
	return map[string]syscall.Signal{"PWR": syscall.SIGPWR, "STKFLT": syscall.SIGSTKFLT}
}
