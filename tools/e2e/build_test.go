package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// commit is what git says of the tree under test.
func commit(t *testing.T, args ...string) string {
	t.Helper()
	needs(t, "git")
	got := command(t, nil, append([]string{"git", "-C", root}, args...)...)
	if got.code != 0 {
		t.Fatalf("git %v: %+v", args, got)
	}
	return strings.TrimSpace(got.stdout)
}

// The go command's cache may answer for what it compiled before, so what differs here is the
// linker's work, the directory and the stamps; make reproducible compiles everything twice.
func TestTwoBuildsOfACommitAreIdentical(t *testing.T) {
	t.Parallel()
	other := filepath.Join(t.TempDir(), "another", "directory")
	for file := range strings.SplitSeq(commit(t, "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00") {
		if file == "" {
			continue
		}
		copyTo(t, filepath.Join(root, file), filepath.Join(other, file))
	}
	out := filepath.Join(t.TempDir(), "bin")
	stamps := command(t, []string{"MAKEFLAGS=", "MAKELEVEL="}, "make", "-s", "--no-print-directory", "-C", root, "stamps")
	if stamps.code != 0 {
		t.Fatalf("%+v", stamps)
	}
	build := append([]string{"make", "-C", other, "build", "BIN=" + out}, strings.Fields(stamps.stdout)...)
	if got := command(t, []string{"MAKEFLAGS=", "MAKELEVEL="}, build...); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	for _, name := range []string{"process-wrapper", "shared-lock", "metadata-mock", "metrics-server", "prommerge"} {
		if !bytes.Equal(content(t, filepath.Join(bin, name)), content(t, filepath.Join(out, name))) {
			t.Errorf("%s differs when it is built in another directory", name)
		}
	}
}

func TestBuildsWithoutTheMakefileKnowTheirCommit(t *testing.T) {
	t.Parallel()
	clone, out := filepath.Join(t.TempDir(), "clone"), t.TempDir()
	commit(t, "clone", "-q", ".", clone) // go looks at no tree but that of a clone
	// go install ./cmd/... does the same, and more slowly.
	build := exec.CommandContext(t.Context(), "go", "-C", clone, "build", "-buildvcs=true", "-o", out+"/", "./cmd/metadata-mock")
	build.Env = environment("GOWORK=off")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	got := command(t, nil, filepath.Join(out, "metadata-mock"), "-version")
	match := regexp.MustCompile(`^metadata-mock (v\d+\.\d+\.\d+\S*) \(commit ([0-9a-f]{12})(-dirty)? of (\S+), go`).FindStringSubmatch(got.stdout)
	if match == nil {
		t.Fatalf("%+v", got)
	}
	if want := commit(t, "rev-parse", "HEAD")[:12]; match[2] != want {
		t.Errorf("it says commit %s, not %s", match[2], want)
	}
}

// go install PACKAGE@VERSION refuses a module that replaces or excludes others.
func TestTheModuleCanBeInstalledByItsVersion(t *testing.T) {
	if directive := regexp.MustCompile(`(?m)^(replace|exclude)\b.*`).FindString(string(content(t, root+"/go.mod"))); directive != "" {
		t.Errorf("go.mod has %q", directive)
	}
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Lstat(from)
	if os.IsNotExist(err) {
		return // removed, but not yet in a commit
	}
	if err != nil {
		t.Fatal(err)
	}
	if !info.Mode().IsRegular() {
		return
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content(t, from), info.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
