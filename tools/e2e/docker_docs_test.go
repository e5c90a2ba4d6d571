package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// dockerMachine starts a Docker with a network of its own and the images that the pages pull: busybox, and
// golang, which a stand-in plays: the Go, make and git of this machine, with the cache of modules as its proxy.
const dockerMachine = `
export DOCKER_HOST=unix:///run/docker.sock DOCKER_BUILDKIT=1 DOCKER_CONFIG=/run
busybox httpd -p 3000 -h "$(go env GOMODCACHE)/cache/download"
serve 'dockerd -H $DOCKER_HOST --data-root $EXAMPLE_DOCKER --pidfile /run/docker.pid --exec-root /run/docker' 'API listen on'
image() { # NAME: a directory with root/ becomes an image
  (cd "$1" && mkdir -p root/bin root/home root/usr/bin && cp "$(command -v busybox)" root/bin/busybox && ln -s /bin/env root/usr/bin/env &&
    { printf 'FROM scratch\nCOPY root/ /\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'; cat lines; } >Dockerfile && docker build -q -t "$1" .)
}
if ! docker image inspect golang:1.26 >/dev/null 2>&1; then (
  mkdir /mnt/images && cd /mnt/images && mkdir -p busybox:1.37 golang:1.26/root/usr/local golang:1.26/root/tmp golang:1.26/root/src
  echo 'CMD ["sh"]' >busybox:1.37/lines && image busybox:1.37
  cp -a "$(go env GOROOT)" golang:1.26/root/usr/local/go
  cp --parents -L $(which bash make git) /etc/ssl/certs/ca-certificates.crt $(ldd $(which bash make git) | grep -oE '/\S+' | grep -v ':$' | sort -u) golang:1.26/root
  mkdir -p golang:1.26/root/bin && [[ -e golang:1.26/root/bin/bash ]] || ln -s "$(which bash)" golang:1.26/root/bin/bash
  echo 'ENV PATH=/usr/local/go/bin:/usr/bin:/bin GOPATH=/go GOTOOLCHAIN=local GOSUMDB=off GOPROXY=http://172.17.0.1:3000' >golang:1.26/lines
  image golang:1.26
); fi
`

// dockerExamples are run one after the other with one store of Docker, so that only the first one compiles.
var dockerExamples = []example{
	{
		page: "README.md", blocks: []string{"docker build -t process-wrapper "}, first: dockerMachine, tree: true,
		serves: []lasting{{"docker run --rm -p 8111:8111", "all processes are ready"}},
		change: []string{"curl localhost", "curl -sf localhost", "  # in another terminal", "; docker run --rm process-wrapper -version; docker image inspect -f '{{.Config.Entrypoint}}' process-wrapper #"},
		says:   []string{`(?m)^ok`, `process-wrapper \S+ \(commit [0-9a-f]{12} of `, `(?m)^\[/usr/local/bin/process-wrapper\]`},
	},
	{
		page: "docs/images.md", blocks: []string{"docker build -t process-wrapper:dev", "docker build -t process-wrapper-inject:dev"}, first: dockerMachine, tree: true,
		change: []string{"docker rm -f hello", "docker stop -t 15 hello; docker inspect -f 'ends with {{.State.ExitCode}}' hello; docker run --rm prommerge:dev -version; docker rm -f hello"},
		says:   []string{`installed /shared/process-wrapper`, `(?m)^ok`, `"name":"web"`, `msg="ready" name=web`, `ends with 0`, `prommerge \S+ \(commit`},
	},
}

// The commands of the docs for those who have nothing but Docker, in a fresh clone. It compiles all
// programs in a container without a cache, which takes minutes: make test-docker.
func TestTheDockerCommandsOfTheDocs(t *testing.T) {
	if os.Getenv("DOCKER_COMPILE") != "1" {
		t.Skip("compiles for minutes: make test-docker")
	}
	needsRoot(t)
	needs(t, "unshare", "mount", "busybox", "bash", "curl", "dockerd", "/usr/bin/docker", "git", "make", "go", "iptables")
	clone, store := filepath.Join(t.TempDir(), "clone"), t.TempDir()
	commit(t, "clone", "-q", ".", clone)
	if got := command(t, []string{"GOWORK=off"}, "go", "-C", clone, "mod", "download"); got.code != 0 { // fills the cache that plays the proxy
		t.Fatalf("%+v", got)
	}
	all := pages(t)
	for _, e := range dockerExamples {
		t.Run(e.page, func(t *testing.T) { e.try(t, all[e.page], clone, 20*time.Minute, "EXAMPLE_DOCKER="+store) })
	}
}

func TestSlimImages(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("upx"); err != nil {
		t.Skip("upx is not installed, and Debian 12 has it in backports only; see make upx")
	}
	d := container(t)
	needs(t, "make", "git")
	client, err := buildKitClient()
	if err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "make", "-C", root, "docker-build-slim", "BIN="+bin, "IMAGE="+filepath.Join(t.TempDir(), "images"),
		"REGISTRY=e2e", "TAG=slim", "DOCKER="+client)
	build.Env = environment("MAKEFLAGS=", "MAKELEVEL=", "DOCKER_HOST="+d.host(), "DOCKER_CONFIG="+d.dir)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	image := "e2e/process-wrapper:slim-slim"
	if got := d.do(t, "run", "--rm", "--entrypoint", "/usr/local/bin/process-wrapper", image, "-version"); versionLine.FindString(got+"\n") == "" {
		t.Errorf("-version says %q", got)
	}
	// In the image is no other program to run, so it runs itself.
	config := `[{name: it, entrypoint: /usr/local/bin/process-wrapper, envs: {HEALTH_SOCKET: "127.0.0.1:8112", CONFIG: "[]"}, args: [-readiness-file, /tmp/inner],
	  readiness: {delay: 0s, period: 200ms, http: {url: "http://127.0.0.1:8112/readiness"}}}]`
	id := d.run(t, append(restricted, "--health-interval", "500ms", "-e", "CONFIG="+config, image)...)
	eventually(t, "the health check of the image passes", func() error {
		got := d.do(t, "inspect", "-f", "{{.State.Health.Status}}", id)
		if got != "healthy" {
			return os.ErrDeadlineExceeded
		}
		return nil
	})
	if got := d.stop(t, id); got != "0" {
		t.Errorf("exit code %s", got)
	}
	dir := t.TempDir()
	d.do(t, "run", "--rm", "--user", "0", "-v", dir+":/shared", "e2e/process-wrapper-inject:slim-slim")
	packed := filepath.Join(dir, "process-wrapper")
	if size(t, packed) > packedBar {
		t.Errorf("what it installs is not packed: %d bytes", size(t, packed))
	}
	if got := command(t, nil, packed, "-version"); !versionLine.MatchString(got.stdout) {
		t.Errorf("what it installs says %+v", got)
	}
}

// A snapshot of goreleaser with images, for the platform of this machine. make release-images builds goreleaser first.
func TestGoreleaserBuildsTheImages(t *testing.T) {
	goreleaser := os.Getenv("GORELEASER")
	if goreleaser == "" {
		t.Skip("needs goreleaser: make release-images")
	}
	d := container(t)
	clone := filepath.Join(t.TempDir(), "clone")
	commit(t, "clone", "-q", ".", clone)
	copyTo(t, goreleaser, filepath.Join(clone, "bin", "goreleaser"))
	snapshot := exec.CommandContext(t.Context(), "scripts/snapshot.sh", "--quick", "--images")
	snapshot.Dir = clone
	snapshot.Env = environment("MAKEFLAGS=", "MAKELEVEL=", "GOWORK=off", "DOCKER_HOST="+d.host(), "DOCKER_CONFIG="+d.dir)
	if out, err := snapshot.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	listed := d.do(t, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "ghcr.io/process-wrapper/*")
	version := regexp.MustCompile(`"version":"([^"]+)"`).FindSubmatch(content(t, filepath.Join(clone, "dist/metadata.json")))
	if version == nil {
		t.Fatal("dist/metadata.json has no version")
	}
	want := []string{"process-wrapper:v%s", "process-wrapper-inject:v%s", "shared-lock:v%s", "metadata-mock:v%s", "metrics-server:v%s", "prommerge:v%s"}
	if _, err := exec.LookPath("upx"); err == nil {
		want = append(want, "process-wrapper:v%s-slim", "process-wrapper-inject:v%s-slim")
	}
	for _, name := range want {
		image := "ghcr.io/process-wrapper/" + strings.Replace(name, "%s", string(version[1]), 1) + "-amd64"
		if !strings.Contains(listed, image) {
			t.Errorf("there is no %s in\n%s", image, listed)
			continue
		}
		program, _, _ := strings.Cut(strings.Replace(name, "-inject", "", 1), ":")
		out := d.do(t, "run", "--rm", "--read-only", "--cap-drop", "ALL", "--entrypoint", "/usr/local/bin/"+program, image, "-version")
		if !strings.HasPrefix(out, program+" v"+string(version[1])+" (commit ") {
			t.Errorf("%s says %q", image, out)
		}
		if got := d.do(t, "image", "inspect", "-f", `{{index .Config.Labels "org.opencontainers.image.version"}} {{.Config.User}}`, image); got != "v"+string(version[1])+" 65532:65532" {
			t.Errorf("%s: its version and user are %s", image, got)
		}
	}
}

// The stage that compiles is for a Go that can: the version of the image is at least that of go.mod.
func TestTheDockerfileHasTheGoOfTheModule(t *testing.T) {
	image := regexp.MustCompile(`(?m)^ARG GO_VERSION=(\S+)$`).FindSubmatch(content(t, root+"/deployment/docker/Dockerfile"))
	module := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(content(t, root+"/go.mod"))
	if image == nil || module == nil || !strings.HasPrefix(string(image[1]), string(module[1])) {
		t.Errorf("the image has %q, go.mod wants %q", image, module)
	}
}
