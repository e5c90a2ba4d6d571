package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const maxInterpreter = 256 // bytes of a #! line that the kernel reads

// find returns the path to execute: as given, or from PATH as execvp does it.
func (l *launch) find() (string, error) {
	name := l.cmd.Path
	if strings.Contains(name, "/") {
		return name, nil
	}
	list, ok := getenv(l.cmd.Env, "PATH")
	if !ok {
		list = defaultPath
	}
	dirs, denied := filepath.SplitList(list), ""
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if !strings.Contains(path, "/") { // an empty element or "."
			path = "./" + path
		}
		mode, err := l.stat(path)
		switch {
		case err != nil && reasonOf(err) == ReasonResources:
			return "", &StartError{Step: "find program", Path: name, Reason: ReasonResources, Err: err}
		case err != nil || !mode.IsRegular():
		case mode&0o111 == 0:
			denied = path
		default:
			return path, nil
		}
	}
	if denied != "" {
		return "", &StartError{Step: "exec", Path: denied, Reason: ReasonPermission,
			Err: fmt.Errorf("%w: the file is not executable: chmod +x it", syscall.EACCES)}
	}
	where := "PATH"
	if l.cmd.Attr.Chroot != "" {
		where = "PATH below " + l.cmd.Attr.Chroot
	}
	return "", &StartError{Step: "find program", Path: name, Reason: ReasonNotFound,
		Err: fmt.Errorf("%w in the %d directories of its %s", syscall.ENOENT, len(dirs), where)}
}

// stat returns the mode of a file as the child will see it.
func (l *launch) stat(path string) (os.FileMode, error) {
	var st unix.Stat_t
	if l.cmd.Attr.Chroot == "" {
		if !filepath.IsAbs(path) {
			path = filepath.Join(l.dir, path)
		}
		err := unix.Stat(path, &st) // a fifth of what os.Stat takes, in each directory of PATH
		return modeOf(&st), err
	}
	f, err := l.open(path, unix.O_PATH)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	err = unix.Fstat(int(f.Fd()), &st)
	return modeOf(&st), err
}

// modeOf returns the permissions, and whether it is a directory or no regular file.
func modeOf(st *unix.Stat_t) os.FileMode {
	mode := os.FileMode(st.Mode & 0o777)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return mode
	case unix.S_IFDIR:
		return mode | os.ModeDir
	}
	return mode | os.ModeIrregular
}

// open opens a file by the path that it has for the child.
func (l *launch) open(path string, flags int) (*os.File, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(l.dir, path)
	}
	return openIn(l.cmd.Attr.Chroot, path, flags)
}

// openIn opens path as a process would whose root is root: symbolic links, also
// absolute ones, stay inside. Before Linux 5.6 they are followed as they are.
func openIn(root, path string, flags int) (*os.File, error) {
	fd, err := openFD(root, path, flags)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func openFD(root, path string, flags int) (int, error) {
	flags |= unix.O_CLOEXEC
	if flags&unix.O_PATH == 0 {
		flags |= unix.O_NONBLOCK | unix.O_NOCTTY // somebody may have put a FIFO or a terminal there
	}
	if root == "" {
		return open(path, flags)
	}
	dir, err := open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_IN_ROOT}
	for range 8 {
		var fd int
		fd, err = unix.Openat2(dir, path, &how)
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) { // something was renamed on the way
			break
		}
	}
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		return open(filepath.Join(root, filepath.Join("/", path)), flags)
	}
	return -1, err
}

func open(path string, flags int) (int, error) {
	for {
		if fd, err := unix.Open(path, flags, 0); err != unix.EINTR {
			return fd, err
		}
	}
}

// explain says which step of fork and exec an errno came from, as far as can be
// told afterwards, and what to do about it.
func (l *launch) explain(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	switch errno {
	case syscall.EAGAIN:
		return &StartError{Step: "fork", Reason: ReasonResources, Err: fmt.Errorf("%w: the limit of processes (pids cgroup, ulimit -u) is reached", errno)}
	case syscall.ENOMEM:
		return &StartError{Step: "fork", Reason: ReasonResources, Err: fmt.Errorf("%w: out of memory, or its limit is reached", errno)}
	case syscall.EBADF: // what dup3 says of a number that is over the limit
		return &StartError{Step: "fork", Reason: ReasonResources, Err: fmt.Errorf("%w: raise the limit of open files", syscall.EMFILE)}
	case syscall.EMFILE, syscall.ENFILE:
		return &StartError{Step: "fork", Reason: ReasonResources, Err: fmt.Errorf("%w: raise the limit of open files", errno)}
	}
	if e := l.explainDirs(errno); e != nil {
		return e
	}
	if errno == syscall.EPERM && l.ids != nil && !mayBecome() {
		return l.ids.denied(errno)
	}
	if errno == syscall.EPERM && l.caps.ambient != 0 {
		return &StartError{Step: "raise ambient capabilities " + names(l.caps.ambient), Reason: ReasonAttribute,
			Err: fmt.Errorf("%w: the wrapper does not have them all", errno)}
	}
	return l.explainExec(errno)
}

// explainDirs looks for the cause in chroot and working directory.
func (l *launch) explainDirs(errno syscall.Errno) error {
	if root := l.cmd.Attr.Chroot; root != "" {
		if err := isDir("", root); err != nil {
			return &StartError{Step: "chroot to", Path: root, Reason: ReasonDir, Err: err}
		}
		if errno == syscall.EPERM && os.Geteuid() != 0 {
			return &StartError{Step: "chroot to", Path: root, Reason: ReasonDir, Err: fmt.Errorf("%w: needs root or CAP_SYS_CHROOT", errno)}
		}
	}
	if l.dir == "" {
		return nil
	}
	if err := isDir(l.cmd.Attr.Chroot, l.dir); err != nil {
		return &StartError{Step: "change directory to", Path: l.dir, Reason: ReasonDir, Err: err}
	}
	return nil
}

// isDir returns why dir cannot be entered; nil if it seems that it can.
func isDir(root, dir string) error {
	f, err := openIn(root, dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			return errno
		}
		return err
	}
	defer f.Close()
	return nil
}

// explainExec looks for the cause in the program.
func (l *launch) explainExec(errno syscall.Errno) error {
	e := &StartError{Step: "exec", Path: l.path, Reason: reasonOf(errno), Err: errno}
	mode, err := l.stat(l.path)
	if err != nil {
		return e
	}
	switch {
	case mode.IsDir():
		e.Reason, e.Err = ReasonPermission, fmt.Errorf("%w: it is a directory", errno)
	case errno == syscall.EACCES && mode&0o111 == 0:
		e.Err = fmt.Errorf("%w: the file is not executable: chmod +x it", errno)
	case errno == syscall.EACCES && l.ids != nil:
		e.Err = fmt.Errorf("%w: uid %d may not execute it or enter a directory on the way", errno, l.ids.UID)
	case errno == syscall.EACCES:
		e.Err = fmt.Errorf("%w: it lies on a file system mounted noexec, or its interpreter is not executable", errno)
	case errno == syscall.ENOEXEC:
		e.Err = fmt.Errorf("%w: built for another architecture, or a script without a #! line", errno)
	case errno == syscall.ENOENT:
		e.Err = fmt.Errorf("%w: %s", errno, l.missing())
	}
	return e
}

// missing says what a program that exists needs and has not.
func (l *launch) missing() string {
	head := make([]byte, maxInterpreter)
	f, err := l.open(l.path, os.O_RDONLY)
	if err == nil {
		defer f.Close()
		n, _ := io.ReadFull(f, head)
		head = head[:n]
	}
	if name := interpreter(head); name != "" {
		if name, crlf := strings.CutSuffix(name, "\r"); crlf {
			return fmt.Sprintf("the interpreter %q of its #! line: the line ends in CR LF, it must end in LF", name)
		}
		return fmt.Sprintf("the interpreter %q of its #! line", name)
	}
	return "the program is there, the ELF loader it needs is not: built for another libc?"
}

// reasonOf sorts an error into the closed set of reasons.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return ReasonNotFound
	case errors.Is(err, syscall.ENOEXEC):
		return ReasonFormat
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return ReasonPermission
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return ReasonResources
	}
	return ReasonOther
}
