package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// answers returns what an endpoint of a container says, "" when it says no.
func (d *daemon) answers200(t *testing.T, id, url string) (string, error) {
	t.Helper()
	out, err := d.client(t.Context(), "exec", id, "wget", "-q", "-O", "-", url).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return string(out), nil
}

// ready waits until the pod in a container is.
func (d *daemon) ready(t *testing.T, id string) {
	t.Helper()
	eventually(t, "/readiness of the container is 200", func() error {
		_, err := d.answers200(t, id, "http://127.0.0.1:8111/readiness")
		return err
	})
}

// stop stops a container as the kubelet does, and returns its exit code.
func (d *daemon) stop(t *testing.T, id string) string {
	t.Helper()
	d.do(t, "stop", "-t", "20", id)
	return d.do(t, "inspect", "-f", "{{.State.ExitCode}}", id)
}

// standIn answers on the port that amqproxy is told, and says what it was told.
const standIn = `#!/bin/sh
echo "amqproxy $*"
exec httpd -f -p "$2:$4" -h /bin
`

func TestExampleAmqproxy(t *testing.T) {
	t.Parallel()
	d := container(t)
	proxy := write(t, "amqproxy", standIn)
	if err := os.Chmod(proxy, 0o755); err != nil {
		t.Fatal(err)
	}
	example, err := filepath.Abs(root + "/examples/amqproxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal([]map[string]any{{
		"name": "amqproxy", "entrypoint": "/bin/sh", "args": []string{"-c", "exec /usr/bin/amqproxy -l $LISTEN_ADDRESS -p $LISTEN_PORT $AMQP_URL"},
		"envs":      map[string]any{"LISTEN_ADDRESS": "0.0.0.0", "LISTEN_PORT": 5673, "AMQP_URL": "amqp://127.0.0.1"},
		"readiness": map[string]any{"tcp": map[string]any{"socket": "127.0.0.1:5673"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	mount := []string{"-v", proxy + ":/usr/bin/amqproxy:ro"}
	for _, test := range []struct {
		name string
		args []string
	}{
		{"as YAML with -config", append(mount, "-v", example+":/pod.yaml:ro", d.image, "process-wrapper", "-config", "/pod.yaml")},
		{"as JSON in CONFIG", append(mount, "-e", "CONFIG="+string(asJSON), d.image, "process-wrapper")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			id := d.run(t, test.args...)
			d.ready(t, id)
			if logs := d.do(t, "logs", id); !strings.Contains(logs, `msg="amqproxy -l 0.0.0.0 -p 5673 amqp://127.0.0.1"`) {
				t.Errorf("it says %s", logs)
			}
			if got := d.stop(t, id); got != "0" {
				t.Errorf("exit code %s", got)
			}
		})
	}
}

func TestExampleDemo(t *testing.T) {
	t.Parallel()
	needs(t, "unshare")
	dir := t.TempDir() // its paths are relative to the repository, where make builds into bin
	if err := os.Symlink(bin, filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(root + "/examples/demo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, options{config: string(example), namespace: true, chdir: dir})
	w.ready()
	if _, body := w.get("/status"); !strings.Contains(body, `"hello":true`) || !strings.Contains(body, `"migrate":true`) {
		t.Errorf("/status is %s", body)
	}
	w.stdout.waitFor(t, regexp.MustCompile(`name=only_[01] pid=\d+ out=stdout msg="alone, with token [1-9]\d*"`))
	eventually(t, "one holds the lock and the other waits for it", func() error {
		if a, b := w.states()["only_0"].Phase, w.states()["only_1"].Phase; !(a == "ready" && b == "standby" || b == "ready" && a == "standby") {
			return fmt.Errorf("they are %s and %s", a, b)
		}
		return nil
	})
	w.stdout.waitFor(t, regexp.MustCompile(`name=worker pid=\d+ out=stdout msg="job done" team=demo job=1`))
	if got := w.stop(); got != 0 {
		t.Errorf("exit code %d", got)
	}
}

func TestRestrictedContainer(t *testing.T) {
	t.Parallel()
	d := container(t)
	config := script("it", forever, "readiness: {delay: 0s, period: 200ms, exec: {command: {entrypoint: /bin/true}}}") +
		script("crashes", "(setsid sleep 1000 &); sleep 0.2; exit 1", "backoff: {initial: 100ms, max: 100ms}", "restartPolicy: onFailure", "maxRestarts: {count: 100}")
	for _, test := range []struct{ name, file string }{
		{"without a place for the readiness file", "/tmp/started"},
		{"with a place for it", "/run/started"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			id := d.run(t, "--read-only", "--user", "1000:1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
				"--tmpfs", "/run:mode=1777", "-e", "CONFIG="+config, d.image, "process-wrapper", "-readiness-file", test.file, "-skip-commands", "crashes")
			d.ready(t, id)
			if strings.HasPrefix(test.file, "/run") {
				eventually(t, "the readiness file comes", func() error {
					return d.client(t.Context(), "exec", id, "test", "-e", test.file).Run()
				})
			}
			if got := d.stop(t, id); got != "0" {
				t.Errorf("exit code %s", got)
			}
		})
	}
	t.Run("a process that crashes", func(t *testing.T) {
		t.Parallel()
		id := d.run(t, "--read-only", "--user", "1000:1000", "--cap-drop", "ALL", "-e", "CONFIG="+config, d.image, "process-wrapper")
		eventually(t, "it was restarted", func() error {
			body, err := d.answers200(t, id, "http://127.0.0.1:8111/v1/processes/crashes")
			if !regexp.MustCompile(`"restarts":[3-9]`).MatchString(body) {
				return fmt.Errorf("it is %s, %w", body, err)
			}
			return nil
		})
		if got := d.stop(t, id); got != "0" {
			t.Errorf("exit code %s", got)
		}
	})
}

func TestReasonIsInTheTerminationLog(t *testing.T) {
	t.Parallel()
	d := container(t)
	for _, test := range []struct{ name, config, says, code string }{
		{"a process that failed", script("it", "exit 3", "restartPolicy: never"), "it: exited with code 3", "3"},
		{"a bad config", "[{name: it, entrypiont: x}]", `unknown key — did you mean "entrypoint"?`, "2"},
		{"a clean end", script("it", "exit 0", "restartPolicy: never"), "", "0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file := write(t, "termination-log", "")
			id := d.run(t, "-v", file+":/dev/termination-log", "-e", "CONFIG="+test.config, d.image, "process-wrapper")
			if got := d.do(t, "wait", id); got != test.code {
				t.Errorf("exit code %s", got)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(text); !strings.Contains(got, test.says) || test.says == "" && got != "" {
				t.Errorf("it says %q", got)
			}
		})
	}
}

func TestInstallFromAnImageWithoutAShell(t *testing.T) {
	t.Parallel()
	d := container(t)
	dir := t.TempDir()
	d.do(t, "run", "--rm", "-v", dir+":/target", d.image, "process-wrapper", "install", "/target")
	if got := command(t, nil, filepath.Join(dir, "process-wrapper"), "-version"); got.code != 0 {
		t.Errorf("%+v", got)
	}
}

func TestHealthSocketOnIPv6(t *testing.T) {
	t.Parallel()
	w := start(t, options{config: script("it", forever), env: []string{"HEALTH_SOCKET=[::1]:0"}})
	w.ready()
	if url := w.url(""); !strings.HasPrefix(url, "http://[::1]:") {
		t.Errorf("it listens on %s", url)
	}
	w.says(200, 200)
}
