package command

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	cookieName  = "PROCESS_WRAPPER_COOKIE"
	defaultPath = "/usr/local/bin:/bin:/usr/bin" // as execvp, where Env has no PATH
	maxName     = 64                             // bytes of the name that go into the cookie
)

// A Command says what to start. It may be started any number of times.
type Command struct {
	// Name is the process's name, for errors and the cookie.
	Name string
	// Path is the program. Without a slash it is looked up in the PATH of Env,
	// inside Chroot where there is one; relative paths are relative to Dir.
	Path string
	// Args are its arguments, without the program's name.
	Args []string
	// Env is its complete environment as KEY=value; the cookie is added.
	Env []string
	// Dir is its working directory, inside Chroot. Empty: ours, or / in a chroot.
	Dir string
	// Stdout and Stderr are its streams; nil is /dev/null, which stdin always is.
	Stdout, Stderr *os.File
	// Deadline, by CLOCK_BOOTTIME, is when it and all that it starts are to be dead
	// unless [Child.Extend] gives them more time. A process of its own sees to that
	// when we are killed or stopped. 0: nobody does.
	Deadline time.Duration
	// Attr holds what else it gets.
	Attr Attr
}

// Attr are the attributes of a process. The zero value is a process group of its
// own and everything else as we have it.
type Attr struct {
	// User and Group are names or numbers as in passwd(5) and group(5) of the
	// chroot, read at each start. UID and GID are numbers. Use one of each pair.
	// A user without group has its primary group, or 0 where it is unknown.
	User, Group string
	UID, GID    *uint32
	NonRoot     bool // refuse to start as uid 0
	// Groups are supplementary groups in addition to those of the user.
	Groups []uint32

	Chroot string
	Setsid bool // a session of its own, which implies a process group of its own
	// SameGroup leaves it in our process group: signals then reach its main process only.
	SameGroup bool
	Pdeathsig syscall.Signal // sent to it when we die

	// Names as in Kubernetes ("NET_ADMIN") or with CAP_, in any case. "ALL" is
	// allowed in CapAdd and CapDrop; CapAdd wins over CapDrop. A process that is not
	// root gets AmbientCaps and CapAdd as ambient capabilities.
	AmbientCaps, CapAdd, CapDrop []string
	NoNewPrivs                   bool

	Umask, Nice, OOMScoreAdj *int
	Rlimits                  []Rlimit
}

// Unlimited is the value of a limit that does not limit.
const Unlimited = ^uint64(0)

// A Rlimit is one resource limit.
type Rlimit struct {
	Name       string // as prlimit(1) has it: "nofile", "core", …
	Soft, Hard uint64
}

// Result is the outcome of [Reaper.Output].
type Result struct {
	Status Status
	Output []byte // the last bytes of stdout and stderr, as they came
	Cut    bool   // there was more before Output
}

// getenv returns the first value of a variable, as getenv(3) would in the child.
func getenv(env []string, key string) (string, bool) {
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok && k == key {
			return v, true
		}
	}
	return "", false
}

// withCookie returns env with cookie added to those of outer wrappers.
func withCookie(env []string, cookie string) []string {
	out := make([]string, 0, len(env)+1)
	for _, kv := range env {
		if outer, ok := strings.CutPrefix(kv, cookieName+"="); ok {
			cookie = outer + " " + cookie
			continue
		}
		out = append(out, kv)
	}
	return append(out, cookieName+"="+cookie)
}

// cookie is the mark of one incarnation of a process.
func cookie(run string, seq uint64, name string) string {
	clean := strings.Map(func(c rune) rune {
		if c <= ' ' || c == ':' || c >= 0x7f {
			return '_'
		}
		return c
	}, name[:min(len(name), maxName)])
	return run + ":" + strconv.FormatUint(seq, 10) + ":" + clean
}

// cookieSeq returns the incarnation that run marked with this value of the
// variable.
func cookieSeq(value, run string) (seq uint64, ok bool) {
	for c := range strings.FieldsSeq(value) {
		rest, mine := strings.CutPrefix(c, run+":")
		if !mine {
			continue
		}
		n, _, _ := strings.Cut(rest, ":")
		if v, err := strconv.ParseUint(n, 10, 64); err == nil {
			seq, ok = v, true // the innermost is the last
		}
	}
	return seq, ok
}

// check refuses what would be misunderstood rather than refused by the kernel.
func (c *Command) check() error {
	switch a := &c.Attr; {
	case c.Path == "":
		return &StartError{Step: "find program", Reason: ReasonNotFound, Err: fmt.Errorf("no program given")}
	case a.User != "" && a.UID != nil:
		return &StartError{Step: "set user", Reason: ReasonUser, Err: fmt.Errorf("both a user (%q) and a uid (%d) are given: keep one", a.User, *a.UID)}
	case a.Group != "" && a.GID != nil:
		return &StartError{Step: "set group", Reason: ReasonUser, Err: fmt.Errorf("both a group (%q) and a gid (%d) are given: keep one", a.Group, *a.GID)}
	}
	for _, s := range [][]string{{c.Path, c.Dir, c.Attr.Chroot}, c.Args, c.Env} {
		for _, v := range s {
			if strings.IndexByte(v, 0) >= 0 {
				return &StartError{Step: "exec", Path: c.Path, Reason: ReasonOther, Err: fmt.Errorf("a zero byte in its path, arguments or environment")}
			}
		}
	}
	return nil
}
