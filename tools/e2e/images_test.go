package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// images are those of make docker-build, built by the first test that needs one.
var images struct {
	once sync.Once
	err  error
}

// ours returns the name of an image that make docker-build made of the binaries under test.
func (d *daemon) ours(t *testing.T, name string) string {
	t.Helper()
	needs(t, "make", "git")
	images.once.Do(func() { images.err = d.buildImages() })
	if images.err != nil {
		t.Fatalf("make docker-build: %v", images.err)
	}
	return "e2e/" + name + ":test"
}

func (d *daemon) buildImages() error {
	client, err := buildKitClient()
	if err != nil {
		return err
	}
	build := exec.Command("make", "-C", root, "docker-build", "BIN="+bin, "IMAGE="+filepath.Join(d.dir, "images"),
		"REGISTRY=e2e", "TAG=test", "DOCKER="+client)
	build.Env = environment("MAKEFLAGS=", "MAKELEVEL=", "DOCKER_HOST="+d.host(), "DOCKER_CONFIG="+d.dir)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// buildKitClient finds a docker that can build with BuildKit: those since 23 need their plugin
// buildx for it, Debian 12's can do it alone.
func buildKitClient() (string, error) {
	for _, client := range []string{"docker", "/usr/bin/docker"} {
		out, err := exec.Command(client, "version", "-f", "{{.Client.Version}}").Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) { // it exits with 1 where its server is not there
			continue
		}
		if regexp.MustCompile(`^(19|20)\.`).Match(out) || exec.Command(client, "buildx", "version").Run() == nil {
			return client, nil
		}
	}
	return "", errors.New("no docker with BuildKit: neither with the plugin buildx, nor Debian's docker.io at /usr/bin/docker")
}

// on builds an image on top of another one: files go from the host, by their path in the image, and
// more lines of a Dockerfile follow.
func (d *daemon) on(t *testing.T, base, name string, files map[string]string, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	lines := []string{"FROM " + base}
	for to, from := range files {
		file := strings.ReplaceAll(to, "/", "_")
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o755); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, "COPY "+file+" "+to)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(strings.Join(append(lines, more...), "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.do(t, "build", "-q", "--network", "none", "-t", name, dir)
	return name
}

// busybox returns an image with busybox and nothing of ours.
func (d *daemon) busybox(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	return d.on(t, "scratch", "e2e/busybox", map[string]string{"/bin/busybox": program}, `RUN ["/bin/busybox", "--install", "-s", "/bin"]`)
}

// restricted are the arguments of docker run for a container with no rights.
var restricted = []string{"--memory", "256m", "--read-only", "--cap-drop", "ALL", "--user", "1000:1000", "--security-opt", "no-new-privileges",
	"--tmpfs", "/tmp:mode=1777"}

func TestDemoRunsRestrictedInOurImage(t *testing.T) {
	t.Parallel()
	d := container(t)
	program, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	// As a user would: FROM our image, and the programs of the config beside it.
	image := d.on(t, d.ours(t, "process-wrapper"), "e2e/demo", map[string]string{
		"/bin/busybox": program, "/bin/hello": filepath.Join(bin, "hello"), "/bin/metrics-server": filepath.Join(bin, "metrics-server"),
		"/bin/shared-lock":          filepath.Join(bin, "shared-lock"),
		"/etc/process-wrapper.yaml": root + "/examples/demo.yaml",
	}, "USER 0", `RUN ["/bin/busybox", "--install", "-s", "/bin"]`, "USER 65532:65532", `CMD ["-config", "/etc/process-wrapper.yaml"]`)
	id := d.run(t, append(restricted, "--health-interval", "500ms", image)...)
	d.ready(t, id)
	eventually(t, "the health check of the image passes", func() error {
		if got := d.do(t, "inspect", "-f", "{{.State.Health.Status}}", id); got != "healthy" {
			return errors.New(got)
		}
		return nil
	})
	if got := d.do(t, "exec", id, "readlink", "/proc/1/exe"); got != "/usr/local/bin/process-wrapper" {
		t.Errorf("PID 1 is %s", got)
	}
	eventually(t, "the worker logs", func() error {
		if logs := d.do(t, "logs", id); !strings.Contains(logs, `out=stdout msg="job done" team=demo job=1`) {
			return errors.New(logs)
		}
		return nil
	})

	d.do(t, "exec", id, "kill", "-KILL", d.pidOf(t, id, "flaky"))
	eventually(t, "what was killed is restarted", func() error {
		body, err := d.answers200(t, id, "http://127.0.0.1:8111/v1/processes/flaky")
		if !regexp.MustCompile(`"phase":"(running|ready)".*"restarts":1`).MatchString(body) {
			return fmt.Errorf("%s %w", body, err)
		}
		return nil
	})

	// A request that takes 5 s is under way when the stop comes.
	slow := make(chan error, 1)
	go func() {
		out, err := d.client(t.Context(), "exec", id, "wget", "-q", "-O", "-", "http://127.0.0.1:8080/slow").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		slow <- err
	}()
	eventually(t, "the request is under way", func() error {
		return d.client(t.Context(), "exec", id, "pidof", "wget").Run()
	})
	began := time.Now()
	d.do(t, "stop", "-t", "15", id)
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("docker stop took %v", took)
	}
	if got := d.do(t, "inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}}", id); got != "0 false" {
		t.Errorf("exit code and OOM are %s", got)
	}
	if err := <-slow; err != nil {
		t.Errorf("the request was not finished: %v", err)
	}
}

// pidOf returns the pid that a process has in its container.
func (d *daemon) pidOf(t *testing.T, id, name string) string {
	t.Helper()
	body, err := d.answers200(t, id, "http://127.0.0.1:8111/pids")
	if err != nil {
		t.Fatal(err)
	}
	var pids map[string]int
	if err := json.Unmarshal([]byte(body), &pids); err != nil || pids[name] == 0 {
		t.Fatalf("no pid of %s in %s: %v", name, body, err)
	}
	return fmt.Sprint(pids[name])
}

func TestInjectionIntoAnImageThatIsNotOurs(t *testing.T) {
	t.Parallel()
	d := container(t)
	busybox := d.busybox(t)
	volume := d.do(t, "volume", "create")
	t.Cleanup(func() {
		if out, err := d.client(context.Background(), "volume", "rm", "-f", volume).CombinedOutput(); err != nil {
			t.Errorf("remove the volume: %v\n%s", err, out)
		}
	})

	init := append([]string{"run", "--rm", "-v", volume + ":/shared"}, restricted...)
	// The user is that of the image, which a new volume belongs to; Kubernetes' emptyDir is open to all.
	init = append(init, "--user", "65532:65532", d.ours(t, "process-wrapper-inject"))
	if got := d.do(t, init...); got != "installed /shared/process-wrapper" {
		t.Errorf("it says %q", got)
	}
	config := script("it", forever, "readiness: {delay: 0s, period: 200ms, exec: {command: {entrypoint: /bin/true}}}")
	id := d.run(t, append(restricted, "-v", volume+":/shared:ro", "-e", "CONFIG="+config, "--entrypoint", "/shared/process-wrapper", busybox)...)
	d.ready(t, id)
	if got := d.stop(t, id); got != "0" {
		t.Errorf("exit code %s", got)
	}
}

func TestMemoryThatEndsInAContainerIsReported(t *testing.T) {
	t.Parallel()
	d := container(t)
	// tail keeps the last line, and this one has no end.
	config := script("eats", "tail /dev/zero", "restartPolicy: never") + script("lives", forever)
	id := d.run(t, append(restricted, "--memory", "64m", "--memory-swap", "64m", "-e", "CONFIG="+config, d.image, "process-wrapper")...)
	eventually(t, "the death is put down to memory", func() error {
		body, err := d.answers200(t, id, "http://127.0.0.1:8111/v1/processes/eats")
		if err != nil {
			return err
		}
		if !regexp.MustCompile(`"phase":"failed".*"reason":"oom"`).MatchString(body) {
			return errors.New(body)
		}
		return nil
	})
	body, err := d.answers200(t, id, "http://127.0.0.1:8111/v1/processes/lives")
	if err != nil || !strings.Contains(body, `"restarts":0`) {
		t.Errorf("the other process: %s %v", body, err)
	}
	if logs := d.do(t, "logs", id); !strings.Contains(logs, `cause="killed by signal 9 (killed): out of memory (the container's memory limit)"`) {
		t.Errorf("the log does not say it:\n%s", logs)
	}
}

func TestImagesSayWhatTheyAre(t *testing.T) {
	t.Parallel()
	d := container(t)
	for _, name := range []string{"process-wrapper", "process-wrapper-inject", "shared-lock", "metadata-mock", "metrics-server", "prommerge"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image := d.ours(t, name)
			var config []struct {
				Config struct {
					User   string
					Labels map[string]string
				}
			}
			if err := json.Unmarshal([]byte(d.do(t, "image", "inspect", image)), &config); err != nil {
				t.Fatal(err)
			}
			got := config[0].Config
			if got.User != "65532:65532" {
				t.Errorf("its user is %q", got.User)
			}
			for label, want := range map[string]string{"title": "^" + name + "$", "description": "^[A-Z].*", "version": "^(v|devel)", "revision": "^[0-9a-f]{12}$",
				"created": `^\d{4}-\d\d-\d\dT.*Z$`, "source": "^https://", "documentation": "^https://.*md$", "licenses": "^MIT$"} {
				if value := got.Labels["org.opencontainers.image."+label]; !regexp.MustCompile(want).MatchString(value) {
					t.Errorf("label %s is %q", label, value)
				}
			}
			program := strings.TrimSuffix(name, "-inject")
			out := d.do(t, "run", "--rm", "--read-only", "--cap-drop", "ALL", "--entrypoint", "/usr/local/bin/"+program, image, "-version")
			if match := versionLine.FindStringSubmatch(out + "\n"); match == nil || match[1] != program {
				t.Errorf("-version says %q", out)
			}
		})
	}
}

func TestImagesHaveCertificatesAndATmp(t *testing.T) {
	t.Parallel()
	d := container(t)
	program, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	image := d.on(t, d.ours(t, "prommerge"), "e2e/looks", map[string]string{"/bin/sh": program})
	look := `echo x >/tmp/x && while read line; do echo "$line"; break; done </etc/ssl/certs/ca-certificates.crt && test ! -w /etc/passwd && echo well`
	out := d.do(t, "run", "--rm", "--entrypoint", "/bin/sh", image, "-c", look)
	if !strings.Contains(out, "BEGIN CERTIFICATE") || !strings.HasSuffix(out, "well") {
		t.Errorf("it says %q", out)
	}
}

func TestSharedLockLiesBesideProcessWrapperInItsImage(t *testing.T) {
	t.Parallel()
	d := container(t)
	id := d.run(t, append(restricted, "-e", "SHARED_LEASE_ETCD_ENDPOINTS=127.0.0.1:1", d.ours(t, "process-wrapper"), "-shared-lock")...)
	eventually(t, "it is shared-lock that looks for etcd", func() error {
		if logs := d.do(t, "logs", id); !strings.Contains(logs, "SHARED_LEASE_ETCD_ENDPOINTS says where etcd is: 127.0.0.1:1") {
			return errors.New(logs)
		}
		return nil
	})
	if got := d.do(t, "wait", id); got != "1" {
		t.Errorf("exit code %s", got)
	}
}

// Every image serves with a root that it cannot write, no rights and another user, and ends well.
func TestImagesServeRestricted(t *testing.T) {
	t.Parallel()
	d := container(t)
	for name, args := range map[string][]string{
		"metadata-mock":  nil,
		"metrics-server": nil,
		"prommerge":      {"-target", "app=http://127.0.0.1:1/"},
		"shared-lock":    {"-embedded-etcd", "/tmp/etcd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := d.run(t, slices.Concat(restricted, []string{d.ours(t, name)}, args)...)
			eventually(t, "it listens", func() error {
				if logs := d.do(t, "logs", id); !strings.Contains(logs, `msg="listening"`) {
					return errors.New(logs)
				}
				return nil
			})
			if got := d.stop(t, id); got != "0" {
				t.Errorf("exit code %s", got)
			}
		})
	}
}
