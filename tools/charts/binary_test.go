package charts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// bin is the directory of the built binaries.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	temp, err := os.MkdirTemp("", "process-wrapper-charts-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a directory for the binaries:", err)
		return 1
	}
	defer os.RemoveAll(temp)
	bin = filepath.Join(temp, "bin")
	build := exec.Command("make", "-C", root, "build", "BIN="+bin)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the binaries: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// The container of each release is started as the kubelet would, but on loopback and with its files
// elsewhere, and must come so far that all flags, variables and files are accepted.
func TestTheProgramsTakeWhatTheChartsGiveThem(t *testing.T) {
	each(t, func(t *testing.T, r release) {
		pod := r.pod().Spec
		dir := t.TempDir()
		r.files(t, dir, pod)
		c := pod.Containers[0]
		args := local(c.Args, dir)
		if r.chart == "process-wrapper" {
			validated(t, args, env(c))
			return
		}
		accepted(t, filepath.Join(bin, r.chart), args, env(c))
	})
}

// files writes what the volumes of the pod hold, below a directory.
func (r release) files(t *testing.T, dir string, pod corev1.PodSpec) {
	t.Helper()
	mounts := map[string]string{}
	for _, m := range pod.Containers[0].VolumeMounts {
		mounts[m.Name] = filepath.Join(dir, m.MountPath)
		if err := os.MkdirAll(mounts[m.Name], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range pod.Volumes {
		switch {
		case v.ConfigMap != nil:
			for name, text := range r.config(v.ConfigMap.Name) {
				write(t, filepath.Join(mounts[v.Name], name), strings.ReplaceAll(text, ": /etc/", ": "+dir+"/etc/"))
			}
		case v.Secret != nil:
			cert, key := certificate(t)
			secret := map[string]string{"ca.crt": cert, "tls.crt": cert, "tls.key": key, "access.json": `{"tokens": []}`, "app": "token", "password": "secret"}
			for name, text := range secret {
				write(t, filepath.Join(mounts[v.Name], name), text)
			}
		}
	}
}

// config is what a ConfigMap holds: one of somebody else has one process.
func (r release) config(name string) map[string]string {
	for _, m := range of[*corev1.ConfigMap](r) {
		if m.Name == name {
			return m.Data
		}
	}
	return map[string]string{"other.yaml": "- name: other\n  entrypoint: /bin/true\n"}
}

// local turns the arguments of a container to files below dir and to free ports of loopback.
func local(args []string, dir string) []string {
	var all []string
	for _, arg := range args {
		arg = regexp.MustCompile(`=(/etc/|/var/|/tmp/)`).ReplaceAllString(arg, "="+dir+"$1")
		arg = regexp.MustCompile(`^(-listen|-socket|-udp)=:\d+$`).ReplaceAllString(arg, "$1=127.0.0.1:0")
		arg = regexp.MustCompile(`^-statsd=:\d+$`).ReplaceAllString(arg, "-statsd=localhost:0") // another text than that of -udp
		arg = regexp.MustCompile(`^-etcd-endpoints=.*`).ReplaceAllString(arg, "-etcd-endpoints=127.0.0.1:1")
		if all = append(all, arg); strings.HasPrefix(arg, "-embedded-etcd=") {
			all = append(all, "-etcd-endpoints=127.0.0.1:0")
		}
	}
	return all
}

func env(c corev1.Container) []string {
	vars := []string{"PATH=/usr/bin:/bin"}
	for _, e := range c.Env {
		value := e.Value
		if e.ValueFrom != nil {
			value = "something"
		}
		vars = append(vars, e.Name+"="+strings.ReplaceAll(value, "$(HOST_IP)", "127.0.0.1"))
	}
	return vars
}

// validated fails where process-wrapper has anything to say against flags, variables or config.
func validated(t *testing.T, args, env []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "process-wrapper"), append([]string{"validate"}, args...)...)
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "level=error") {
		t.Errorf("process-wrapper validate %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// good is what the servers say when they have read all, or when etcd is all that is missing.
var good = regexp.MustCompile(`msg="?listening|read locks from etcd|no lease of its own could be had from etcd`)

// accepted starts a server until it has read all that it was given.
func accepted(t *testing.T, program string, args, env []string) {
	t.Helper()
	out := newTranscript()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = cmd.Wait() // how it ended is not the question
		close(ended)
	})
	select {
	case <-out.matched:
	case <-ended:
	case <-time.After(time.Minute):
	}
	_ = cmd.Process.Kill() // it may have ended
	wg.Wait()
	if text := out.String(); !good.MatchString(text) {
		t.Errorf("%s %s:\n%s", program, strings.Join(args, " "), text)
	}
}

// transcript keeps what is written to it, and closes matched when that is good.
type transcript struct {
	mu      sync.Mutex // guards what follows
	text    strings.Builder
	matched chan struct{}
	once    sync.Once
}

func newTranscript() *transcript { return &transcript{matched: make(chan struct{})} }

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.Write(p)
	if good.MatchString(t.text.String()) {
		t.once.Do(func() { close(t.matched) })
	}
	return len(p), nil
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

func TestAFlagThatDoesNotExistIsNotAccepted(t *testing.T) {
	for _, name := range charts {
		args := []string{"-no-such-flag"}
		if name == "process-wrapper" {
			args = []string{"validate", "-no-such-flag"}
		}
		out, err := exec.CommandContext(t.Context(), filepath.Join(bin, name), args...).CombinedOutput()
		if err == nil || good.Match(out) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// certificate makes one that is signed by itself.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
