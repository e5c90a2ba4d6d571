package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func TestASignalEndsAWrapperThatWaitsForItsConfig(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT, "SIGQUIT": syscall.SIGQUIT} {
		for command, args := range map[string][]string{"run": nil, "validate": {"validate"}} {
			t.Run(command+" "+name, func(t *testing.T) {
				r, w, err := os.Pipe() // as of a person who types
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				defer w.Close()
				p := start(t, options{args: append(args, "-config", "-"), stdin: r})
				eventually(t, "it reads", func() error { return blocked(p.pid) })
				began := time.Now()
				p.signal(sig)
				want := map[string]int{"run": 0, "validate": 128 + int(sig)}[command]
				if got := p.wait(); got != want && (command != "validate" || sig != syscall.SIGQUIT || got != 2) {
					t.Errorf("exit code %d, not %d", got, want)
				}
				within(t, began, 5*time.Second, "the end")
			})
		}
	}
}

// The key of a lock may hold what stands in a file.
func TestASignalEndsAWrapperWhoseFilesDoNotCome(t *testing.T) {
	t.Parallel()
	for what, of := range map[string]func(file string) options{
		"labels": func(file string) options {
			return options{config: script("a", forever), env: []string{"METRICS_SERVER_ADDRESS=127.0.0.1:9", "METRICS_EXTRA_LABELS_FILE_PATH=" + file}}
		},
		"the key of a lock": func(file string) options {
			return options{config: script("a", forever, "envsFile: "+file, "readiness: {lock: {key: $(KEY)}}")}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "file")
			if err := syscall.Mkfifo(file, 0o600); err != nil {
				t.Fatal(err)
			}
			p := start(t, of(file))
			p.stderr.waitFor(t, regexp.MustCompile(`msg="nothing is started yet.* reads="?`+regexp.QuoteMeta(file)))
			began := time.Now()
			p.signal(syscall.SIGTERM)
			if got := p.wait(); got != 0 {
				t.Errorf("exit code %d", got)
			}
			within(t, began, 5*time.Second, "the end")
		})
	}
}

// blocked returns why a process does not count as one that reads its stdin.
func blocked(pid int) error {
	names, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/syscall")
	if err != nil {
		return err
	}
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && bytes.HasPrefix(text, []byte("0 0x0 ")) {
			return nil
		}
	}
	return os.ErrNotExist
}

func TestASignalAtAnyMomentOfTheStartEndsIt(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(script("a", forever)), 0o600); err != nil {
		t.Fatal(err)
	}
	codes := map[int]int{}
	for i := range 60 {
		c := exec.Command(filepath.Join(bin, "process-wrapper"), "-config", file, "-readiness-file=")
		c.Env = environment("HEALTH_SOCKET=127.0.0.1:0")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		delay := time.NewTimer(time.Duration(i) * 500 * time.Microsecond)
		<-delay.C
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
		got := code(t, c.Wait())
		late.Stop()
		codes[got]++
		if got != 0 && got != 128+int(syscall.SIGTERM) { // before it has begun a signal ends it
			t.Errorf("exit code %d after %v", got, time.Duration(i)*500*time.Microsecond)
		}
	}
	t.Logf("exit codes: %v", codes)
	w := start(t, options{config: script("a", forever)})
	w.url("/")
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d once it listens", got)
	}
}
