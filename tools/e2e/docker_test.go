package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// docker is a Docker daemon of our own, started by the first test that needs it.
var docker daemon

type daemon struct {
	once  sync.Once
	err   error
	dir   string
	cmd   *exec.Cmd
	image string
}

// dockerfile makes an image of the binaries and busybox, and nothing else.
const dockerfile = `FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY bin/ /usr/local/bin/
`

// container returns a docker client that speaks to our daemon; its image has the binaries in
// /usr/local/bin and busybox in /bin.
func container(t *testing.T) *daemon {
	t.Helper()
	needsRoot(t)
	needs(t, "dockerd", "docker", "busybox")
	docker.once.Do(func() { docker.err = docker.start() })
	if docker.err != nil {
		t.Fatalf("start dockerd: %v", docker.err)
	}
	return &docker
}

func (d *daemon) start() error {
	dir, err := os.MkdirTemp("", "process-wrapper-docker-")
	if err != nil {
		return err
	}
	d.dir, d.image = dir, "process-wrapper-e2e"
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close() // the daemon has its own descriptor
	d.cmd = exec.Command("dockerd", "--iptables=false", "--bridge=none", "-H", d.host(),
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"))
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		d.cmd = nil
		return err
	}
	if err := d.answers(); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w; its log:\n%s", err, text)
	}
	return d.build()
}

// answers waits until the daemon does.
func (d *daemon) answers() error {
	const most = 4 * patience
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := d.client(ctx, "version").CombinedOutput()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer within %v: %w: %s", most, err, out)
		case <-tick.C:
		}
	}
}

func (d *daemon) build() error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	source := filepath.Join(d.dir, "image")
	if err := os.CopyFS(filepath.Join(source, "bin"), os.DirFS(bin)); err != nil {
		return err
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(source, "busybox"), program, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(source, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	out, err := d.client(ctx, "build", "--network", "none", "-t", d.image, source).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the image: %w\n%s", err, out)
	}
	return nil
}

func (d *daemon) host() string { return "unix://" + filepath.Join(d.dir, "docker.sock") }

func (d *daemon) client(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"-H", d.host()}, args...)...)
	cmd.Env = environment("DOCKER_BUILDKIT=0", "DOCKER_CONFIG="+d.dir)
	return cmd
}

// do runs a docker command that must succeed and returns its output.
func (d *daemon) do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := d.client(t.Context(), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %v: %v\n%s", args, err, out)
	}
	return string(bytes.TrimSpace(out))
}

// run starts a container, with the arguments of docker run, and returns its id. It is removed when
// the test ends. Without "--network host" it has no network.
func (d *daemon) run(t *testing.T, args ...string) string {
	t.Helper()
	id := d.do(t, append([]string{"run", "-d"}, args...)...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
		defer cancel()
		if t.Failed() {
			logs, _ := d.client(ctx, "logs", id).CombinedOutput()
			t.Logf("container %.12s:\n%s", id, logs)
		}
		if out, err := d.client(ctx, "rm", "-f", id).CombinedOutput(); err != nil {
			t.Errorf("remove container: %v\n%s", err, out)
		}
	})
	return id
}

// close ends the daemon and what it left.
func (d *daemon) close() {
	if d.cmd != nil {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		ended := make(chan struct{})
		go func() {
			_ = d.cmd.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(patience):
			_ = d.cmd.Process.Kill()
			<-ended
		}
	}
	if d.dir == "" {
		return
	}
	if err := os.RemoveAll(d.dir); err != nil {
		_, _ = io.WriteString(os.Stderr, "remove the data of dockerd: "+err.Error()+"\n")
	}
}
