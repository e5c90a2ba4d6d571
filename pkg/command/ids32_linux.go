//go:build 386 || arm

package command

import "golang.org/x/sys/unix"

const ( // the plain ones take 16-bit numbers
	sysSetgroups = unix.SYS_SETGROUPS32
	sysSetresgid = unix.SYS_SETRESGID32
	sysSetresuid = unix.SYS_SETRESUID32
)
