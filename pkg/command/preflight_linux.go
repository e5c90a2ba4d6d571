package command

import (
	"bytes"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxScripts is how many interpreters of interpreters the kernel follows.
const maxScripts = 5

// preflight opens what exec will open, before anything is forked: the directory,
// the program, and the interpreters of scripts. It says whether any of it lies on
// a file system that may stop answering.
//
// Between fork and exec the runtime cannot stop the thread that forks, and so not
// the world: if exec hangs, all of us hangs, from the next garbage collection on.
// If a file hangs here, only this start does. So what is read from local disks is
// read first, and what is on others is left to the shim to execute.
func (l *launch) preflight(remote func(fs int64) bool) bool {
	root := l.cmd.Attr.Chroot
	if root != "" && touch("", root, nil, remote) || l.dir != "" && touch(root, l.dir, nil, remote) {
		return true
	}
	path, head := l.path, make([]byte, maxInterpreter)
	for range maxScripts {
		if !filepath.IsAbs(path) {
			path = filepath.Join(l.dir, path)
		}
		if touch(root, path, head, remote) {
			return true
		}
		if path = interpreter(head); path == "" {
			break
		}
	}
	return false
}

// touch opens a file and reads its head, and says whether its file system is
// remote. What cannot be opened is left for exec to complain about.
func touch(root, path string, head []byte, remote func(fs int64) bool) bool {
	clear(head)
	fd, err := openFD(root, path, os.O_RDONLY)
	if err != nil { // it may still be executed, or entered
		fd, err = openFD(root, path, unix.O_PATH)
	}
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) == nil && remote(int64(fs.Type)) {
		return true
	}
	if len(head) > 0 {
		_, _ = unix.Pread(fd, head, 0)
	}
	return false
}

// interpreter returns what the #! line of a script names, or "".
func interpreter(head []byte) string {
	rest, script := bytes.CutPrefix(head, []byte("#!"))
	if !script {
		return ""
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	words := bytes.FieldsFunc(line, func(c rune) bool { return c == ' ' || c == '\t' || c == 0 })
	if len(words) == 0 {
		return ""
	}
	return string(words[0])
}

// isRemote says of the magic number of a file system whether what it answers is
// up to another machine or process.
func isRemote(fs int64) bool {
	switch uint32(fs) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC,
		unix.FUSE_SUPER_MAGIC, unix.V9FS_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC,
		unix.CODA_SUPER_MAGIC, unix.OCFS2_SUPER_MAGIC, unix.NCP_SUPER_MAGIC, unix.AUTOFS_SUPER_MAGIC,
		lustreMagic, gfs2Magic:
		return true
	}
	return false
}

// Of file systems that package unix does not name.
const (
	lustreMagic = 0x0BD00BD0
	gfs2Magic   = 0x01161970
)
