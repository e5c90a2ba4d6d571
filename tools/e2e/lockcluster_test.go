package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// member is one etcd of a cluster, a process of its own.
type member struct {
	argv     []string
	endpoint string
	cmd      *exec.Cmd
}

// etcdCluster is an etcd of three members.
type etcdCluster struct {
	t       *testing.T
	members []*member
	client  *clientv3.Client
}

// etcdTool builds etcdmember once for all tests.
var etcdTool = sync.OnceValues(func() (string, error) {
	path := filepath.Join(bin, "etcdmember")
	build := exec.Command("go", "build", "-o", path, "./etcdmember")
	build.Env = environment("CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build etcdmember: %w\n%s", err, out)
	}
	return path, nil
})

// startEtcdCluster starts a cluster, which runs until the test ends.
func startEtcdCluster(t *testing.T, size int) *etcdCluster {
	t.Helper()
	tool, err := etcdTool()
	if err != nil {
		t.Fatal(err)
	}
	e := &etcdCluster{t: t}
	dir := t.TempDir()
	var peers, cluster []string
	for i := range size {
		peers = append(peers, fmt.Sprintf("http://127.0.0.1:%d", freePort(t)))
		cluster = append(cluster, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	for i := range size {
		m := &member{endpoint: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
		m.argv = []string{tool, "-name", fmt.Sprintf("m%d", i), "-dir", filepath.Join(dir, fmt.Sprint(i)), "-peer", peers[i],
			"-client", "http://" + m.endpoint, "-cluster", strings.Join(cluster, ",")}
		e.members = append(e.members, m)
		m.start(t)
	}
	t.Cleanup(func() {
		for _, m := range e.members {
			m.kill()
		}
	})
	if e.client, err = clientv3.New(clientv3.Config{Endpoints: e.endpoints(), DialTimeout: 2 * time.Second, Logger: zap.NewNop()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.client.Close() })
	e.healthy()
	return e
}

func (m *member) start(t *testing.T) {
	t.Helper()
	m.cmd = exec.Command(m.argv[0], m.argv[1:]...)
	m.cmd.Stderr = t.Output()
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// kill ends it as a crash does.
func (m *member) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill() // it may have ended
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

func (m *member) signal(sig syscall.Signal) { _ = m.cmd.Process.Signal(sig) }

func (e *etcdCluster) endpoints() (all []string) {
	for _, m := range e.members {
		all = append(all, m.endpoint)
	}
	return all
}

// healthy waits until each member answers, linearizably.
func (e *etcdCluster) healthy() {
	e.t.Helper()
	for _, m := range e.members {
		eventually(e.t, "etcd serves at "+m.endpoint, func() error {
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{m.endpoint}, DialTimeout: time.Second, Logger: zap.NewNop()})
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(e.t.Context(), time.Second)
			defer cancel()
			_, err = c.Get(ctx, "x")
			return err
		})
	}
}

// leader finds the member that leads now.
func (e *etcdCluster) leader() *member {
	e.t.Helper()
	var found *member
	eventually(e.t, "etcd has a leader", func() error {
		for _, m := range e.members {
			if m.cmd == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(e.t.Context(), time.Second)
			status, err := e.client.Status(ctx, m.endpoint)
			cancel()
			if err == nil && status.Leader == status.Header.MemberId {
				found = m
				return nil
			}
		}
		return errors.New("no member says so")
	})
	return found
}

// leases counts those of etcd.
func (e *etcdCluster) leases() (int, error) {
	ctx, cancel := context.WithTimeout(e.t.Context(), 2*time.Second)
	defer cancel()
	resp, err := e.client.Leases(ctx)
	if err != nil {
		return 0, err
	}
	return len(resp.Leases), nil
}

// startLockReplica starts a server on etcd. Its address stays the same when it is started again.
func startLockReplica(t *testing.T, etcd string, args ...string) *lockServer {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	argv := append([]string{program("shared-lock"), "-listen", address}, args...)
	s := startLockServer(t, []string{"SHARED_LEASE_ETCD_ENDPOINTS=" + etcd}, argv...)
	s.url = "http://" + address
	s.stderr.waitFor(t, lockListens)
	return s
}

// again starts a server that has ended with what it was started with.
func (s *lockServer) again(t *testing.T) {
	t.Helper()
	old := s.cmd
	s.stderr = newTranscript()
	s.cmd = exec.Command(old.Args[0], old.Args[1:]...)
	s.cmd.Env, s.cmd.Stderr = old.Env, s.stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (s *lockServer) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

// crash kills a server.
func (s *lockServer) crash() {
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()
}

var metricLine = regexp.MustCompile(`(?m)^([a-z_]+) (\S+)$`)

// gauge returns a metric of a server that has no labels.
func (s *lockServer) gauge(t *testing.T, name string) (v float64) {
	t.Helper()
	_, body := get(t, s.url+"/metrics")
	for _, m := range metricLine.FindAllStringSubmatch(body, -1) {
		if m[1] == name {
			_, _ = fmt.Sscan(m[2], &v)
			return v
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}
