package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ordersFD  = 3
	answersFD = 4

	stepExec   = "exec"
	stepIDs    = "set user"
	stepChroot = "chroot"
	stepDir    = "change directory"
)

// Init must be the first call of main, and of TestMain where such tests are: in a
// process that [Reaper.Start] made to apply attributes it does that, executes the
// program and never returns, nor does it in a guardian. In all others it does nothing.
func Init() {
	if len(os.Args) == 2 && os.Args[0] == guardianName {
		if err := beGuardian(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, guardianName+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) != 1 || os.Args[0] != shimName {
		return
	}
	runtime.LockOSThread() // credentials and capabilities are per thread
	debug.SetGCPercent(-1) // limits may leave no room for threads and memory
	unix.CloseOnExec(answersFD)
	answers := os.NewFile(answersFD, "answers")
	say := json.NewEncoder(answers)
	if err := obey(say); err != nil {
		_ = say.Encode(toAnswer(err)) // nobody is left to tell
	}
	os.Exit(125)
}

// stepError is a failed step.
type stepError struct {
	step, hint string
	err        error
}

func (e *stepError) Error() string { return e.step + ": " + e.err.Error() }

func (e *stepError) Unwrap() error { return e.err }

func toAnswer(err error) answer {
	a := answer{Step: "prepare process", Errno: int(syscall.EINVAL)}
	var step *stepError
	if errors.As(err, &step) {
		a.Step, a.Hint = step.step, step.hint
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		a.Errno = int(errno)
	}
	return a
}

// obey executes the program, or returns what went wrong.
func obey(say *json.Encoder) error {
	in := os.NewFile(ordersFD, "orders")
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	in.Close()
	var o orders
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	path, argv, env := string(o.Path), toStrings(o.Argv), toStrings(o.Env)
	for _, step := range []func(*orders) error{setPriorities, raiseLimits, setRoot, dropBounding, setIDs, setCaps, setRest} {
		if err := step(&o); err != nil {
			return err
		}
	}
	if err := say.Encode(answer{}); err != nil {
		return err
	}
	var none unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil); err != nil {
		return fail("clear the signal mask", err, "")
	}
	// From here on our own runtime may lack memory, threads and descriptors.
	if err := lowerLimits(&o); err != nil {
		return err
	}
	return fail(stepExec, syscall.Exec(path, argv, env), "")
}

func toStrings(list [][]byte) []string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = string(b)
	}
	return out
}

func fail(step string, err error, hint string) error {
	if err == nil {
		return nil
	}
	return &stepError{step, hint, err}
}

func setPriorities(o *orders) error {
	if o.OOMScoreAdj != nil {
		v := strconv.Itoa(*o.OOMScoreAdj)
		if err := os.WriteFile("/proc/self/oom_score_adj", []byte(v), 0); err != nil {
			return fail("set oomScoreAdj="+v, err, "it is -1000 to 1000; less than now needs CAP_SYS_RESOURCE")
		}
	}
	if o.Nice != nil {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, *o.Nice); err != nil {
			return fail("set nice="+strconv.Itoa(*o.Nice), err, "less than now needs CAP_SYS_NICE")
		}
	}
	if o.Umask != nil {
		unix.Umask(*o.Umask)
	}
	return nil
}

// raiseLimits sets the limits that may need privileges.
func raiseLimits(o *orders) error {
	return setLimits(o, func(want, have *unix.Rlimit) bool { return want.Max > have.Max })
}

// lowerLimits sets the rest.
func lowerLimits(o *orders) error {
	return setLimits(o, func(want, have *unix.Rlimit) bool { return want.Max <= have.Max })
}

func setLimits(o *orders, now func(want, have *unix.Rlimit) bool) error {
	for _, l := range o.Rlimits {
		want := unix.Rlimit{Cur: l.Soft, Max: l.Hard}
		var have unix.Rlimit
		err := unix.Getrlimit(l.Resource, &have)
		if err == nil && !now(&want, &have) {
			continue
		}
		if err == nil {
			err = unix.Setrlimit(l.Resource, &want) // tells package syscall not to restore nofile
		}
		if err != nil {
			hint := "the soft limit must not be above the hard limit"
			if err == unix.EPERM {
				hint = "more than the wrapper's own hard limit needs CAP_SYS_RESOURCE"
			}
			return fail(fmt.Sprintf("set rlimit %s=%s:%s", l.Name, limit(l.Soft), limit(l.Hard)), err, hint)
		}
	}
	return nil
}

func limit(v uint64) string {
	if v == Unlimited {
		return "unlimited"
	}
	return strconv.FormatUint(v, 10)
}

func setRoot(o *orders) error {
	if len(o.Chroot) > 0 {
		if err := unix.Chroot(string(o.Chroot)); err != nil {
			return fail(stepChroot, err, "")
		}
	}
	if len(o.Dir) > 0 {
		return fail(stepDir, unix.Chdir(string(o.Dir)), "")
	}
	return nil
}

// setIDs changes the credentials of this thread only, which is the one to execute.
func setIDs(o *orders) error {
	if o.IDs == nil {
		return nil
	}
	if o.IDs.UID != 0 && o.Add|o.Ambient != 0 {
		if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
			return fail("keep capabilities", err, "")
		}
	}
	var groups unsafe.Pointer
	if len(o.IDs.Groups) > 0 {
		groups = unsafe.Pointer(&o.IDs.Groups[0])
	}
	if _, _, e := unix.RawSyscall(sysSetgroups, uintptr(len(o.IDs.Groups)), uintptr(groups), 0); e != 0 {
		return fail(stepIDs, e, "")
	}
	gid, uid := uintptr(o.IDs.GID), uintptr(o.IDs.UID)
	if _, _, e := unix.RawSyscall(sysSetresgid, gid, gid, gid); e != 0 {
		return fail(stepIDs, e, "")
	}
	if _, _, e := unix.RawSyscall(sysSetresuid, uid, uid, uid); e != 0 {
		return fail(stepIDs, e, "")
	}
	return nil
}

func setRest(o *orders) error {
	if o.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fail("set no_new_privs", err, "")
		}
	}
	if o.Pdeathsig != 0 { // last: a change of credentials resets it
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(o.Pdeathsig), 0, 0, 0); err != nil {
			return fail("set pdeathsig", err, "")
		}
		if unix.Getppid() != o.Parent { // it died before
			return fail("set pdeathsig", unix.Kill(unix.Getpid(), syscall.Signal(o.Pdeathsig)), "")
		}
	}
	return nil
}
