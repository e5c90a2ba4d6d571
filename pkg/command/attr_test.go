//go:build linux

package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func ptr[T any](v T) *T { return &v }

// status is a script that prints lines of /proc/self/status.
func status(keys ...string) string {
	return "grep -E '^(" + strings.Join(keys, "|") + "):' /proc/self/status | tr '\\t' ' '"
}

func TestAttributesReachTheProcess(t *testing.T) {
	needRoot(t)
	ours, err := exec.Command("sh", "-c", "umask; nice").Output() // before a reaper runs, which would take it away
	if err != nil {
		t.Fatal(err)
	}
	r := running(t)
	for _, tt := range []struct {
		name, script, want string
		attr               Attr
	}{
		{"nothing set", "umask; nice; " + status("NoNewPrivs", "SigBlk"), string(ours) + "SigBlk: 0000000000000000\nNoNewPrivs: 0", Attr{}},
		{"umask", "umask", "0077", Attr{Umask: ptr(0o77)}},
		{"nice", "nice", "7", Attr{Nice: ptr(7)}},
		{"a higher priority", "nice", "-5", Attr{Nice: ptr(-5)}},
		{"oom score", "cat /proc/self/oom_score_adj", "321", Attr{OOMScoreAdj: ptr(321)}},
		{"rlimits", "ulimit -Sn; ulimit -Hn; ulimit -c", "32\n64\nunlimited",
			Attr{Rlimits: []Rlimit{{"nofile", 32, 64}, {"RLIMIT_CORE", Unlimited, Unlimited}}}},
		{"limits too small for our own runtime", "ulimit -s; ulimit -v", "256\n65536",
			Attr{Rlimits: []Rlimit{{"stack", 256 << 10, 256 << 10}, {"as", 64 << 20, 64 << 20}, {"data", 16 << 20, 16 << 20}, {"nproc", 1, 1}, {"nofile", 4, 4}, {"fsize", 0, 0}}}},
		{"no new privileges", status("NoNewPrivs"), "NoNewPrivs: 1", Attr{NoNewPrivs: true}},
		{"uid alone has the gid of its user", "id -u; id -g; id -G", "1\n1\n1", Attr{UID: ptr[uint32](1)}},
		{"an unknown uid has gid 0 as in Kubernetes", "id -u; id -g; id -G", "54321\n0\n0", Attr{UID: ptr[uint32](54321)}},
		{"uid, gid and groups", "id -u; id -g; id -G", "1000\n2000\n2000 3000 3001", Attr{UID: ptr[uint32](1000), GID: ptr[uint32](2000), Groups: []uint32{3001, 3000}}},
		{"gid alone", "id -u; id -g", "0\n2000", Attr{GID: ptr[uint32](2000)}},
		{"user by name", "id -un; id -gn", "daemon\ndaemon", Attr{User: "daemon"}},
		{"user and group by name", "id -un; id -gn", "daemon\nmail", Attr{User: "daemon", Group: "mail"}},
		{"user in the shim", "id -un; id -gn; umask", "daemon\nmail\n0007", Attr{User: "daemon", Group: "mail", Umask: ptr(7)}},
		{"uid in the shim has no capabilities", "id -G; " + status("CapEff", "CapPrm", "CapInh", "CapAmb"), "7 9\nCapInh: 0000000000000000\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\nCapAmb: 0000000000000000",
			Attr{UID: ptr[uint32](5), GID: ptr[uint32](7), Groups: []uint32{9}, NoNewPrivs: true}},
		{"an added capability survives the change of user", status("CapEff", "CapAmb"), "CapEff: 0000000000000400\nCapAmb: 0000000000000400", Attr{UID: ptr[uint32](5), CapAdd: []string{"NET_BIND_SERVICE"}}},
		{"an ambient capability", status("CapEff", "CapAmb"), "CapEff: 0000000000000400\nCapAmb: 0000000000000400", Attr{UID: ptr[uint32](5), AmbientCaps: []string{"CAP_NET_BIND_SERVICE"}}},
		{"all dropped but one", status("CapEff", "CapBnd", "CapPrm"), "CapPrm: 0000000000000400\nCapEff: 0000000000000400\nCapBnd: 0000000000000400", Attr{CapDrop: []string{"ALL"}, CapAdd: []string{"net_bind_service"}}},
		{"all dropped but one, for a user", status("CapEff", "CapBnd", "CapAmb"), "CapEff: 0000000000000400\nCapBnd: 0000000000000400\nCapAmb: 0000000000000400", Attr{User: "daemon", CapDrop: []string{"ALL"}, CapAdd: []string{"NET_BIND_SERVICE"}}},
		{"all dropped", status("CapEff", "CapBnd"), "CapEff: 0000000000000000\nCapBnd: 0000000000000000", Attr{CapDrop: []string{"all"}}},
		{"a group of its own", `read _ _ _ _ g s _ </proc/$$/stat; [ $g = $$ ] && [ $s != $$ ] && echo yes`, "yes", Attr{}},
		{"a session of its own", `read _ _ _ _ g s _ </proc/$$/stat; [ $g = $$ ] && [ $s = $$ ] && echo yes`, "yes", Attr{Setsid: true}},
		{"a session of its own in the shim", `read _ _ _ _ g s _ </proc/$$/stat; [ $g = $$ ] && [ $s = $$ ] && echo yes`, "yes", Attr{Setsid: true, Nice: ptr(1)}},
		{"orders are in neither arguments nor environment", "tr '\\0' ' ' </proc/$$/cmdline | head -c 11; echo; grep -c Umask /proc/self/environ", "/bin/sh -c \n0", Attr{Umask: ptr(0)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := sh(tt.script + "\ntrue")
			c.Attr = tt.attr
			if got := run(t, r, c); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestChildrenHaveTheOriginalLimitOfOpenFiles(t *testing.T) {
	r := running(t)
	limited := sh("") // a shell with a low soft limit starts us …
	limited.Args = []string{"-c", `ulimit -Sn 77; ` + helperEnv + `=nofile exec "$0"`, exe(t)}
	if got := run(t, r, limited); got != "77\n77" { // … and our children have it again, both ways
		t.Errorf("the limits are %q", got)
	}
}

func exe(t *testing.T) string {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// helperRun prints what a script prints, started directly and by the shim.
func helperRun(script string) error {
	r := NewReaper()
	stop := background(r)
	defer stop()
	for _, a := range []Attr{{}, {Umask: ptr(0o22)}} {
		c := sh(script)
		c.Attr, c.Stdout = a, os.Stdout
		child, err := r.Start(c)
		if err != nil {
			return err
		}
		<-child.Exited()
	}
	return nil
}

func TestChildrenHaveDefaultSignalsWhateverWeHave(t *testing.T) {
	r := running(t)
	if got, want := run(t, r, self("masked")), "SigBlk: 0000000000000000"; got != want+"\n"+want {
		t.Errorf("got %q", got)
	}
}

// helperMasked executes itself once more with signals blocked, as a careless
// parent would.
func helperMasked() error {
	if os.Getenv("MASKED") == "" {
		signal.Reset()
		set := unix.Sigset_t{}
		set.Val[0] = 1 << (uint(syscall.SIGUSR1) - 1)
		return withMask(&set, func() error {
			return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), "MASKED=1"))
		})
	}
	return helperRun(status("SigBlk"))
}

func TestChrootIsEntered(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"bin", "etc", "work", "real"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := running(t)
	install(t, r, root, "/bin/sh", "/real/shell")
	for link, to := range map[string]string{"bin/sh": "/real/shell", "etc/group": "/etc/groups", "bin/outside": "/../../../../etc/passwd"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "etc/passwd"), "inner:x:4711:4712::/:/bin/sh\n", 0o644)
	write(t, filepath.Join(root, "etc/groups"), "club:x:4713:inner\n", 0o644)
	for name, attr := range map[string]Attr{"directly": {}, "by the shim": {Umask: ptr(0o22)}} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(root, "work/out")
			_ = os.Remove(out)
			if err := os.Chmod(filepath.Join(root, "work"), 0o777); err != nil {
				t.Fatal(err)
			}
			attr.Chroot, attr.User = root, "inner"
			c := &Command{Path: "sh", Args: []string{"-c", "pwd; echo hi >out; read _ < /etc/passwd && echo *"}, Env: []string{"PATH=/none:/bin"}, Dir: "work", Attr: attr}
			if got := run(t, r, c); got != "/work\nout" {
				t.Errorf("got %q", got)
			}
			info, err := os.Stat(out)
			if err != nil {
				t.Fatal(err)
			}
			if s := info.Sys().(*syscall.Stat_t); s.Uid != 4711 || s.Gid != 4712 {
				t.Errorf("ran as %d:%d", s.Uid, s.Gid)
			}
		})
	}
	id, err := resolve(&Attr{Chroot: root, User: "inner"})
	if err != nil || len(id.Groups) != 1 || id.Groups[0] != 4713 {
		t.Errorf("groups %v, %v", id, err)
	}
}

// install copies a program and the libraries it needs below root.
func install(t *testing.T, r *Reaper, root, program, as string) {
	t.Helper()
	out := run(t, r, &Command{Path: "ldd", Args: []string{program}, Env: os.Environ()})
	files := map[string]string{program: as}
	for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(out, -1) {
		files[lib] = lib
	}
	for from, to := range files {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to = filepath.Join(root, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, to, string(b), 0o755)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestWrapperWithoutPrivilegesSaysWhatItLacks(t *testing.T) {
	needRoot(t)
	r := running(t)
	c := self("as-user")
	c.Attr = Attr{UID: ptr[uint32](65534), GID: ptr[uint32](65534)}
	want := `same user: exit code 0
same user, no new privileges, all dropped: exit code 0
another user: set user 1 group 1: operation not permitted: needs root, or CAP_SETUID and CAP_SETGID; the wrapper runs as uid 65534 [user]
another user in the shim: set user 1 group 1: operation not permitted: needs root, or CAP_SETUID and CAP_SETGID; the wrapper runs as uid 65534 [user]
chroot: chroot to /tmp: operation not permitted: needs root or CAP_SYS_CHROOT [dir]
nice: set nice=-20: permission denied: less than now needs CAP_SYS_NICE [attribute]
rlimit: set rlimit core=1:unlimited: operation not permitted: more than the wrapper's own hard limit needs CAP_SYS_RESOURCE [attribute]
ambient: raise ambient capabilities NET_ADMIN: operation not permitted: the wrapper does not have them all [attribute]
added: add capability NET_ADMIN: operation not permitted: the wrapper does not have it itself: give it to the container [attribute]
dropped: drop capability CHOWN: operation not permitted: needs CAP_SETPCAP; without it set noNewPrivs (allowPrivilegeEscalation: false), which has the same effect for a user other than root [attribute]`
	if got := run(t, r, c); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func helperAsUser() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return tryAll([]attempt{
		{"same user", Attr{UID: ptr[uint32](65534), GID: ptr[uint32](65534)}},
		{"same user, no new privileges, all dropped", Attr{UID: ptr[uint32](65534), NoNewPrivs: true, CapDrop: []string{"ALL"}}},
		{"another user", Attr{UID: ptr[uint32](1)}},
		{"another user in the shim", Attr{UID: ptr[uint32](1), Umask: ptr(0)}},
		{"chroot", Attr{Chroot: "/tmp"}},
		{"nice", Attr{Nice: ptr(-20)}},
		{"rlimit", Attr{Rlimits: []Rlimit{{"core", 1, Unlimited}}}},
		{"ambient", Attr{AmbientCaps: []string{"NET_ADMIN"}}},
		{"added", Attr{CapAdd: []string{"NET_ADMIN"}}},
		{"dropped", Attr{CapDrop: []string{"CHOWN"}}},
	})
}

type attempt struct {
	name string
	attr Attr
}

// tryAll prints how starts end.
func tryAll(attempts []attempt) error {
	r := NewReaper()
	stop := background(r)
	defer stop()
	for _, tt := range attempts {
		c := sh("exit 0")
		c.Attr = tt.attr
		child, err := r.Start(c)
		var se *StartError
		switch {
		case errors.As(err, &se):
			fmt.Printf("%s: %v [%s]\n", tt.name, err, se.Reason)
		case err != nil:
			fmt.Printf("%s: %v, not a StartError\n", tt.name, err)
		default:
			<-child.Exited()
			fmt.Printf("%s: %v\n", tt.name, child.Status())
		}
	}
	return nil
}

func TestDeathSignalComesWithOurEndOnly(t *testing.T) {
	for _, attr := range []string{"direct", "shim"} {
		t.Run(attr, func(t *testing.T) {
			r := running(t)
			c := self("pdeath", attr)
			from, to, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()
			c.Stdout = to
			helper := start(t, r, c)
			to.Close()
			text, err := io.ReadAll(from) // ends when the grandchild does: it has the pipe too
			if err != nil {
				t.Fatal(err)
			}
			waitFor(t, helper)
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatalf("said %q", text)
			}
			eventually(t, "the grandchild is gone", func() bool { p, ok := look(pid); return !ok || !p.alive() })
		})
	}
}

// helperPdeath starts children with a death signal from many goroutines whose
// threads end, checks that they live, and ends without a word to them.
func helperPdeath() error {
	r := NewReaper()
	background(r)
	c := sh("trap '' HUP; exec sleep 1000")
	c.Attr.Pdeathsig, c.Stdout = syscall.SIGTERM, os.Stdout
	if os.Args[1] == "shim" {
		c.Attr.Umask, c.Attr.UID = ptr(0o22), ptr(uint32(os.Geteuid()))
	}
	child, err := onEndingThread(func() (*Child, error) { return r.Start(c) })
	if err != nil {
		return err
	}
	if p, ok := look(child.PID()); !ok || !p.alive() {
		return errors.New("the child died with a thread of ours")
	}
	fmt.Println(child.PID())
	return nil
}

func TestRootWithoutPowersStaysWhoItIs(t *testing.T) {
	needRoot(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("setpriv", "--bounding-set", "-all", "--inh-caps", "-all", exe)
	c.Env = append(os.Environ(), helperEnv+"=as-root")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := `root: exit code 0
root by name: exit code 0
root in the shim: exit code 0
another user: set user 1 group 1: operation not permitted: needs CAP_SETUID and CAP_SETGID, which the wrapper lacks although it is root [user]
`
	if string(out) != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

// helperAsRoot has no capabilities.
func helperAsRoot() error {
	return tryAll([]attempt{
		{"root", Attr{UID: ptr[uint32](0), GID: ptr[uint32](0)}},
		{"root by name", Attr{User: "root"}},
		{"root in the shim", Attr{UID: ptr[uint32](0), Umask: ptr(0)}},
		{"another user", Attr{UID: ptr[uint32](1)}},
	})
}
