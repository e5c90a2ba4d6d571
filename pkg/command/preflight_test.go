//go:build linux

package command

import (
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPreflightLooksAtAllThatExecOpens(t *testing.T) {
	r := running(t)
	dir := t.TempDir()
	write(t, dir+"/script", "#! /proc/version -x\n", 0o755)
	write(t, dir+"/script2", "#!script\n", 0o755)
	write(t, dir+"/local", "#!/bin/sh\nexit 0", 0o711)
	write(t, dir+"/ring", "#!"+dir+"/ring\n", 0o755)
	inProc := func(fs int64) bool { return fs == unix.PROC_SUPER_MAGIC }
	for _, tt := range []struct {
		name string
		cmd  Command
		want bool
	}{
		{"a local program", Command{Path: dir + "/local"}, false},
		{"a program that is not there", Command{Path: dir + "/none"}, false},
		{"a remote program", Command{Path: "/proc/version"}, true},
		{"a relative one", Command{Path: "./version", Dir: "/proc"}, true},
		{"a remote directory", Command{Path: dir + "/local", Dir: "/proc"}, true},
		{"a remote root", Command{Path: "/local", Attr: Attr{Chroot: "/proc"}}, true},
		{"a remote directory in a root", Command{Path: dir + "/local", Dir: "/proc", Attr: Attr{Chroot: "/"}}, true},
		{"a program in a root", Command{Path: "/local", Attr: Attr{Chroot: dir}}, false},
		{"a remote interpreter", Command{Path: dir + "/script"}, true},
		{"a remote interpreter of an interpreter", Command{Path: dir + "/script2", Dir: dir}, true},
		{"a script that is its own interpreter", Command{Path: dir + "/ring"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &launch{cmd: &tt.cmd, path: tt.cmd.Path, dir: tt.cmd.Dir}
			if got := l.preflight(inProc); got != tt.want {
				t.Errorf("remote: %v", got)
			}
		})
	}
	t.Run("what is remote is executed by the shim", func(t *testing.T) {
		r.remote = func(int64) bool { return true }
		fork, shims := r.forkExec, 0
		r.forkExec = func(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
			if path == shimExe {
				shims++
			}
			return fork(path, argv, attr)
		}
		if s := waitFor(t, start(t, r, &Command{Path: dir + "/local"})); !s.Success() || shims != 1 {
			t.Errorf("%v, by %d shims", s, shims)
		}
	})
}

func TestRemoteFileSystems(t *testing.T) {
	for name, want := range map[int64]bool{
		unix.NFS_SUPER_MAGIC: true, unix.FUSE_SUPER_MAGIC: true, unix.SMB2_SUPER_MAGIC: true, unix.CEPH_SUPER_MAGIC: true,
		int64(int32(-11317950)) /* cifs, where the type is 32 bits wide */ : true,
		unix.EXT4_SUPER_MAGIC:                                               false, unix.OVERLAYFS_SUPER_MAGIC: false, unix.TMPFS_MAGIC: false, unix.XFS_SUPER_MAGIC: false, unix.BTRFS_SUPER_MAGIC: false, 0: false,
	} {
		if isRemote(name) != want {
			t.Errorf("%#x: %v", name, !want)
		}
	}
}

func FuzzInterpreter(f *testing.F) {
	for _, seed := range []string{"#!/bin/sh", "#! \t/bin/sh -e\nx", "#!\n", "#!/bin/sh\r\n", "#!/bin/sh\x00\x00", "\x7fELF", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		name := interpreter(head)
		if len(name) > len(head) || name != "" && (string(head[:2]) != "#!" || strings.ContainsAny(name, " \t\n\x00")) {
			t.Errorf("%q gives %q", head, name)
		}
	})
}
