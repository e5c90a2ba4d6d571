package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const root = "../.."

// patience bounds every wait for something that should come at once.
const patience = 30 * time.Second

// bin is the directory of the built binaries, an absolute path.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run builds every command once, with the flags of a release, and runs the tests.
func run(m *testing.M) int {
	if file := os.Getenv(holderFile); file != "" {
		return hold(file)
	}
	temp, err := os.MkdirTemp("", "process-wrapper-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a directory for the binaries:", err)
		return 1
	}
	defer os.RemoveAll(temp)
	bin = filepath.Join(temp, "bin")
	build := exec.Command("make", "-C", root, "build", "BIN="+bin)
	build.Env = environment("MAKEFLAGS=", "MAKELEVEL=")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the binaries: %v\n%s", err, out)
		return 1
	}
	defer docker.close()
	return m.Run()
}
