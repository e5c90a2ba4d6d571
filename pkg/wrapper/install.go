package wrapper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
)

// sibling is installed with us where it lies beside us.
const sibling = "shared-lock"

// install copies the running binary to a directory or a file.
func install(call *cli.Call, target string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("install: find this binary: %w", err)
	}
	dst := target
	if info, err := os.Stat(target); err == nil && info.IsDir() || strings.HasSuffix(target, "/") {
		dst = filepath.Join(target, "process-wrapper")
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	pairs := [][2]string{{self, dst}}
	beside := filepath.Join(filepath.Dir(self), sibling)
	if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
		pairs = append(pairs, [2]string{beside, filepath.Join(filepath.Dir(dst), sibling)})
	}
	for _, p := range pairs {
		if info, err := os.Lstat(p[1]); err == nil && !info.Mode().IsRegular() && info.Mode().Type() != os.ModeSymlink {
			return cli.Usagef("install %s: it is no file (%v) and left alone: name a directory or a new file", p[1], info.Mode().Type())
		}
	}
	for _, p := range pairs {
		if err := copyFile(p[0], p[1]); err != nil {
			return fmt.Errorf("install %s: %w", p[1], err)
		}
		if _, err := fmt.Fprintln(call.Stdout, "installed", p[1]); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies a binary so that nobody ever sees a part of it.
func copyFile(src, dst string) (err error) {
	from, err := os.Open(src)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read from
	if same(from, dst) {
		return nil
	}
	to, err := os.CreateTemp(filepath.Dir(dst), "."+filepath.Base(dst)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, to.Close(), os.Remove(to.Name()))
		}
	}()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	if err := to.Chmod(0o755); err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return err
	}
	if err := to.Close(); err != nil {
		return err
	}
	return os.Rename(to.Name(), dst)
}

func same(open *os.File, path string) bool {
	a, err := open.Stat()
	b, err2 := os.Stat(path)
	return err == nil && err2 == nil && os.SameFile(a, b)
}

// terminationLogPath is where Kubernetes looks for the last words of a
// container.
const terminationLogPath = "/dev/termination-log"

// maxTerminationLog is how much of it Kubernetes reads.
const maxTerminationLog = 4096

// terminationLog writes why the pod ended where Kubernetes shows it. The file
// is there when somebody will read it; it is never made.
func terminationLog(path, reason string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return // nobody reads it
	}
	if len(reason) > maxTerminationLog {
		reason = strings.ToValidUTF8(reason[:maxTerminationLog-len(cut)], "") + cut
	}
	_, _ = io.WriteString(f, reason) // the last thing that we do, and nobody left to tell
	_ = f.Close()
}

const cut = " …"

// validate is the subcommand: it prints every error and starts nothing.
func validate(call *cli.Call, f *flags, env *environment) error {
	if f.Validate.Path != "" {
		f.Config = f.Validate.Path
	}
	cfg, err := load(f, env)
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		if _, err := fmt.Fprintln(call.Stderr, "warning:", w); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(call.Stdout, "OK: %d processes\n", len(cfg.Processes))
	return err
}
