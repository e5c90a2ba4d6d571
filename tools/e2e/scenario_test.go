package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A scenarioTrial is a scenario file of examples/preemption whose client is process-wrapper.
type scenarioTrial struct {
	name string
	said []string // in the log of process-wrapper, and
	not  string   // what is not
}

// toRun returns what the comment at the top of a file says to run.
func toRun(file string) (script string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if command, ok := strings.CutPrefix(line, "#   "); ok {
			lines = append(lines, command)
		}
	}
	if len(lines) != 2 || !strings.HasSuffix(lines[0], " &\n") || !strings.Contains(lines[1], "-scenario") {
		return "", fmt.Errorf("%s says to run %q", file, lines)
	}
	return strings.Join(lines, ""), nil
}

// rehearse runs the commands of a file as they are, with a network of their own for their ports. The verdict is the
// exit code of metadata-mock.
func (r scenarioTrial) rehearse(t *testing.T) error {
	dir := t.TempDir()
	run, err := toRun(filepath.Join(root, "examples/preemption", r.name+".yaml"))
	if err != nil {
		return err
	}
	// What is said to run is the binary with files of its own.
	shim := fmt.Sprintf("#!/bin/sh\nexec %s -readiness-file %s/started -control-socket none \"$@\"\n", program("process-wrapper"), dir)
	if err := os.WriteFile(filepath.Join(dir, "process-wrapper"), []byte(shim), 0o700); err != nil {
		return err
	}
	script := "set -m; busybox ip link set lo up || exit 99\n" + run + "verdict=$?\nkill %1 && wait %1 || exit 98\nexit $verdict\n"
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--pid", "--fork", "--kill-child", "/bin/bash", "-c", script)
	cmd.Dir = root
	cmd.Env = environment("PATH=" + dir + ":" + bin + ":" + os.Getenv("PATH"))
	cmd.WaitDelay = patience
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	for _, want := range r.said {
		if !strings.Contains(string(out), want) {
			return fmt.Errorf("the log does not say %q\n%s", want, out)
		}
	}
	if r.not != "" && strings.Contains(string(out), r.not) {
		return fmt.Errorf("the log says %q\n%s", r.not, out)
	}
	return nil
}

// The scenarios that a user finds, run as their comments say, with process-wrapper itself as the client.
func TestScenariosOfProcessWrapper(t *testing.T) {
	t.Parallel()
	needs(t, "unshare", "busybox", "bash")
	needsRoot(t)
	shown, err := toRun(filepath.Join(root, "examples/preemption/gce.yaml"))
	if page := string(content(t, filepath.Join(root, "docs/metadata-mock.md"))); err != nil || !strings.Contains(page, "```sh\n"+shown+"```\n") {
		t.Errorf("docs/metadata-mock.md does not show %q, %v", shown, err)
	}
	all := []scenarioTrial{
		{"gce", []string{"kind=maintenance", `msg="this pod is about to be taken away"`}, ""},
		{"gke-wi", []string{"connection refused", "Workload Identity of GKE hides"}, "about to be taken away"},
		{"aws", []string{"kind=rebalance", "back in service", "will stop this spot instance"}, ""},
		{"azure", []string{"kind=freeze", "back in service", "has started a redeploy"}, ""},
	}
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, r := range all { // at the same time: all that they do is wait
		wg.Go(func() { errs[i] = r.rehearse(t) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("%s: %v", all[i].name, err)
		}
	}
}
