package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Bounds of the real-time signals as C programs see them: the C libraries keep
// the first two of Linux's for themselves.
const (
	rtMin = 34
	rtMax = 64
)

// signals are the signals that every Unix has, with this system's numbers.
func signals() map[string]syscall.Signal {
	all := map[string]syscall.Signal{
		"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "BUS": syscall.SIGBUS, "CHLD": syscall.SIGCHLD,
		"CONT": syscall.SIGCONT, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP, "ILL": syscall.SIGILL,
		"INT": syscall.SIGINT, "IO": syscall.SIGIO, "KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE,
		"PROF": syscall.SIGPROF, "QUIT": syscall.SIGQUIT, "SEGV": syscall.SIGSEGV, "STOP": syscall.SIGSTOP,
		"SYS": syscall.SIGSYS, "TERM": syscall.SIGTERM, "TRAP": syscall.SIGTRAP, "TSTP": syscall.SIGTSTP,
		"TTIN": syscall.SIGTTIN, "TTOU": syscall.SIGTTOU, "URG": syscall.SIGURG, "USR1": syscall.SIGUSR1,
		"USR2": syscall.SIGUSR2, "VTALRM": syscall.SIGVTALRM, "WINCH": syscall.SIGWINCH,
		"XCPU": syscall.SIGXCPU, "XFSZ": syscall.SIGXFSZ,
	}
	for name, s := range systemSignals() {
		all[name] = s
	}
	return all
}

// ParseSignal reads a signal: a name in any case, with or without SIG, a
// number from 1 to 64, or RTMIN+n and RTMAX-n.
func ParseSignal(s string) (syscall.Signal, bool) {
	name := strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(s)), "SIG")
	if n, err := strconv.Atoi(name); err == nil && name == strings.ToUpper(strings.TrimSpace(s)) {
		return syscall.Signal(n), n >= 1 && n <= rtMax
	}
	if sig, ok := signals()[name]; ok {
		return sig, true
	}
	for prefix, base := range map[string]int{"RTMIN": rtMin, "RTMAX": rtMax} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n := 0
		if rest != "" {
			var err error
			if n, err = strconv.Atoi(rest); err != nil {
				return 0, false
			}
		}
		return syscall.Signal(base + n), n > -rtMax && n < rtMax && base+n >= rtMin && base+n <= rtMax
	}
	return 0, false
}

// SignalName returns SIGTERM for 15, SIGRTMIN+2 for 36.
func SignalName(sig syscall.Signal) string {
	for name, s := range signals() {
		if s == sig {
			return "SIG" + name
		}
	}
	if sig >= rtMin && sig <= rtMax {
		return fmt.Sprintf("SIGRTMIN+%d", int(sig)-rtMin)
	}
	return strconv.Itoa(int(sig))
}

func signalNames() []string {
	var names []string
	for name := range signals() {
		names = append(names, "SIG"+name)
	}
	slices.Sort(names)
	return names
}
