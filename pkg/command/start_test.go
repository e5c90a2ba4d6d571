//go:build linux

package command

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestProgramIsFoundAsExecvpDoes(t *testing.T) {
	r := running(t)
	dir := t.TempDir()
	for _, d := range []string{"one", "two/prog", "three", "four"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir+"/one/prog", "#!/bin/sh\necho one", 0o644) // not executable; two has a directory of that name
	write(t, dir+"/three/prog", "#!/bin/sh\necho three $0", 0o755)
	write(t, dir+"/four/prog", "#!/bin/sh\necho four", 0o755)
	for _, tt := range []struct{ name, path, dir, search, want string }{
		{"the first executable file of PATH", "prog", "", dir + "/one:" + dir + "/two:" + dir + "/three:" + dir + "/four", "three " + dir + "/three/prog"},
		{"relative elements of PATH are relative to the directory", "prog", dir, "one:three", "three three/prog"},
		{"an empty element of PATH is the directory", "prog", dir + "/three", ":/bin", "three ./prog"},
		{"a path with a slash is relative to the directory", "./three/prog", dir, "/bin", "three ./three/prog"},
		{"a path is not looked up", dir + "/four/prog", "", "/none", "four"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := run(t, r, &Command{Path: tt.path, Dir: tt.dir, Env: []string{"PATH=" + tt.search}}); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("without PATH the usual directories", func(t *testing.T) {
		run(t, r, &Command{Path: "true"})
	})
}

func TestStartErrorsSayWhatToDo(t *testing.T) {
	r := running(t)
	dir := t.TempDir()
	write(t, dir+"/plain", "#!/bin/sh\n", 0o644)
	write(t, dir+"/lost", "#!/no/such/shell -e\n", 0o755)
	write(t, dir+"/crlf", "#!/bin/sh\r\nexit 0\r\n", 0o755)
	write(t, dir+"/text", "echo hello\n", 0o755)
	write(t, dir+"/empty", "", 0o755)
	elf, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/foreign", strings.Replace(string(elf), "/ld-linux", "/LD-linux", 1), 0o755)
	for _, tt := range []struct {
		name, want, reason string
		errno              error
		set                func(*Command)
	}{
		{"no program", "find program: no program given", ReasonNotFound, nil, func(c *Command) { c.Path = "" }},
		{"a program that PATH has not", "find program nginx: no such file or directory in the 2 directories of its PATH", ReasonNotFound, syscall.ENOENT, func(c *Command) { c.Path = "nginx" }},
		{"a program that is nowhere", "exec /no/such: no such file or directory", ReasonNotFound, syscall.ENOENT, func(c *Command) { c.Path = "/no/such" }},
		{"a file as a directory", "exec DIR/plain/x: not a directory", ReasonNotFound, syscall.ENOTDIR, func(c *Command) { c.Path = dir + "/plain/x" }},
		{"a directory", "exec DIR: permission denied: it is a directory", ReasonPermission, syscall.EACCES, func(c *Command) { c.Path = dir }},
		{"a file that is not executable", "exec DIR/plain: permission denied: the file is not executable: chmod +x it", ReasonPermission, syscall.EACCES, func(c *Command) { c.Path = dir + "/plain" }},
		{"one of PATH that is not executable", "exec DIR/plain: permission denied: the file is not executable: chmod +x it", ReasonPermission, syscall.EACCES, func(c *Command) { c.Path, c.Env = "plain", []string{"PATH=" + dir} }},
		{"a missing interpreter", `exec DIR/lost: no such file or directory: the interpreter "/no/such/shell" of its #! line`, ReasonNotFound, syscall.ENOENT, func(c *Command) { c.Path = dir + "/lost" }},
		{"an interpreter with CR", `exec DIR/crlf: no such file or directory: the interpreter "/bin/sh" of its #! line: the line ends in CR LF, it must end in LF`, ReasonNotFound, syscall.ENOENT, func(c *Command) { c.Path = dir + "/crlf" }},
		{"a missing loader", "exec DIR/foreign: no such file or directory: the program is there, the ELF loader it needs is not: built for another libc?", ReasonNotFound, syscall.ENOENT, func(c *Command) { c.Path = dir + "/foreign" }},
		{"a script without #!", "exec DIR/text: exec format error: built for another architecture, or a script without a #! line", ReasonFormat, syscall.ENOEXEC, func(c *Command) { c.Path = dir + "/text" }},
		{"an empty file", "exec DIR/empty: exec format error: built for another architecture, or a script without a #! line", ReasonFormat, syscall.ENOEXEC, func(c *Command) { c.Path = dir + "/empty" }},
		{"no such directory", "change directory to /no/such: no such file or directory", ReasonDir, syscall.ENOENT, func(c *Command) { c.Dir = "/no/such" }},
		{"a file as the directory", "change directory to DIR/plain: not a directory", ReasonDir, syscall.ENOTDIR, func(c *Command) { c.Dir = dir + "/plain" }},
		{"no such root", "chroot to /no/such: no such file or directory", ReasonDir, syscall.ENOENT, func(c *Command) { c.Attr.Chroot = "/no/such" }},
		{"no such directory in the root", "change directory to /no/such: no such file or directory", ReasonDir, syscall.ENOENT, func(c *Command) { c.Attr.Chroot, c.Dir, c.Path = "/", "no/such", "/bin/true" }},
		{"no such program in the root", "find program true: no such file or directory in the 2 directories of its PATH below DIR", ReasonNotFound, syscall.ENOENT, func(c *Command) { c.Attr.Chroot, c.Path = dir, "true" }},
		{"an unknown user", "set user nobody-here group (its own): unable to find user nobody-here: no matching entries in passwd file", ReasonUser, nil, func(c *Command) { c.Attr.User = "nobody-here" }},
		{"an unknown group", "set user (ours) group nogroup-here: unable to find group nogroup-here: no matching entries in group file", ReasonUser, nil, func(c *Command) { c.Attr.Group = "nogroup-here" }},
		{"user and uid", `set user: both a user ("daemon") and a uid (1) are given: keep one`, ReasonUser, nil, func(c *Command) { c.Attr.User, c.Attr.UID = "daemon", ptr[uint32](1) }},
		{"root where that is forbidden", "set user: it would run as root, which runAsNonRoot forbids: give it another user", ReasonUser, nil, func(c *Command) { c.Attr.NonRoot, c.Attr.User = true, "root" }},
		{"group and gid", `set group: both a group ("daemon") and a gid (1) are given: keep one`, ReasonUser, nil, func(c *Command) { c.Attr.Group, c.Attr.GID = "daemon", ptr[uint32](1) }},
		{"an unknown limit", `set rlimit: unknown limit "files": known are as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack`, ReasonAttribute, nil, func(c *Command) { c.Attr.Rlimits = []Rlimit{{"files", 1, 1}} }},
		{"a soft limit above the hard one", "set rlimit nofile=9:8: invalid argument: the soft limit must not be above the hard limit", ReasonAttribute, syscall.EINVAL, func(c *Command) { c.Attr.Rlimits = []Rlimit{{"nofile", 9, 8}} }},
		{"an oom score out of range", "set oomScoreAdj=5000: invalid argument: it is -1000 to 1000; less than now needs CAP_SYS_RESOURCE", ReasonAttribute, syscall.EINVAL, func(c *Command) { c.Attr.OOMScoreAdj = ptr(5000) }},
		{"an unknown capability", `set capabilities: unknown capability "NET_MAGIC": names are as in capabilities(7) without CAP_, such as NET_ADMIN, or ALL`, ReasonAttribute, nil, func(c *Command) { c.Attr.CapAdd = []string{"NET_MAGIC"} }},
		{"a zero byte", "exec /bin/true: a zero byte in its path, arguments or environment", ReasonOther, nil, func(c *Command) { c.Args = []string{"a\x00b"} }},
		{"a closed stream", "exec /bin/true: bad file descriptor: its stdout or stderr is closed", ReasonOther, syscall.EBADF, func(c *Command) {
			f, _ := os.Open("/dev/null")
			f.Close()
			c.Stdout = f
		}},
	} {
		for how, shim := range map[string]bool{"directly": false, "by the shim": true} {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				c := &Command{Name: "test", Path: "/bin/true", Env: []string{"PATH=/usr/bin:/bin", "SECRET=hunter2"}}
				tt.set(c)
				if c.Attr.Chroot == "/" { // it gets as far as entering it
					needRoot(t)
				}
				if shim {
					c.Attr.Umask = ptr(0o22)
				}
				_, err := r.Start(c)
				var se *StartError
				if !errors.As(err, &se) {
					t.Fatalf("got %v, not a StartError", err)
				}
				if got := strings.ReplaceAll(err.Error(), dir, "DIR"); got != tt.want || se.Reason != tt.reason {
					t.Errorf("got  %s [%s]\nwant %s [%s]", got, se.Reason, tt.want, tt.reason)
				}
				if tt.errno != nil && !errors.Is(err, tt.errno) {
					t.Errorf("%v does not wrap %v", err, tt.errno)
				}
			})
		}
	}
	eventually(t, "no zombies of failed starts", func() bool { pids, ok := directChildren(); return ok && len(pids) == 0 })
}

func TestLimitOfProcessesIsNamed(t *testing.T) {
	l := &launch{cmd: &Command{Path: "/bin/true"}, path: "/bin/true"}
	for errno, want := range map[syscall.Errno]string{
		syscall.EAGAIN: "fork: resource temporarily unavailable: the limit of processes (pids cgroup, ulimit -u) is reached",
		syscall.ENOMEM: "fork: cannot allocate memory: out of memory, or its limit is reached",
		syscall.EMFILE: "fork: too many open files: raise the limit of open files",
	} {
		err := l.explain(errno)
		var se *StartError
		if !errors.As(err, &se) || err.Error() != want || se.Reason != ReasonResources {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestStreamsAreBlockingAndTheCallersOwn(t *testing.T) {
	r := running(t)
	from, to, err := os.Pipe() // both ends are non-blocking
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	c := sh("head -c 300000 /dev/zero; echo x >&2") // more than a pipe holds
	c.Stdout = to
	child := start(t, r, c)
	to.Close()
	buf, total := make([]byte, 1<<16), 0
	for {
		n, err := from.Read(buf)
		total += n
		if err != nil {
			break
		}
	}
	if s := waitFor(t, child); total != 300000 || !s.Success() {
		t.Errorf("read %d bytes, %v", total, s)
	}
}
