package wrapper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
)

// execSharedLock is -shared-lock: the server's binary takes our place.
func execSharedLock(call *cli.Call, f *flags) error {
	path, err := findSibling()
	if err != nil {
		return err
	}
	argv := []string{sibling}
	if f.SharedLockEtcdTLS {
		argv = append(argv, "-shared-lock-etcd-tls")
	}
	if call.Debug {
		argv = append(argv, "-debug")
	}
	if err := syscall.Exec(path, argv, os.Environ()); err != nil {
		return fmt.Errorf("execute %s: %w", path, err)
	}
	return nil
}

// findSibling finds the binary beside ours, else in PATH.
func findSibling() (string, error) {
	var dirs []string
	if self, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(self))
	}
	for _, dir := range append(dirs, filepath.SplitList(os.Getenv("PATH"))...) {
		if dir == "" {
			dir = "."
		}
		path := filepath.Join(dir, sibling)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	if len(dirs) == 0 {
		return "", errors.New("-shared-lock: this binary cannot be found, and there is no shared-lock in PATH")
	}
	return "", fmt.Errorf("-shared-lock: there is no binary shared-lock in %s or PATH: install it there", dirs[0])
}
