package pod

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFill(t *testing.T) {
	const mounts = "1 2 0:1 / / rw - overlay overlay rw\n" +
		"3 1 8:1 /var/lib/kubelet/pods/0a-1b/containers/wrapper/77f3 /dev/termination-log rw - ext4 /dev/sda1 rw\n"
	inCluster := map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
	for _, test := range []struct {
		name  string
		given Config
		env   map[string]string // over inCluster
		files map[string]string
		want  [4]string // server, pod, namespace, container
		err   string
	}{
		{"all from the environment", Config{}, map[string]string{"POD_NAME": "pod-1", "POD_NAMESPACE": "default", "HOSTNAME": "node"}, nil,
			[4]string{"https://10.0.0.1:443", "pod-1", "default", ""}, ""},
		{"the name from podinfo before HOSTNAME", Config{}, map[string]string{"HOSTNAME": "node"},
			map[string]string{podinfoName: "pod-2", serviceAccount + "/namespace": "apps\n", mountinfo: mounts}, [4]string{"https://10.0.0.1:443", "pod-2", "apps", "wrapper"}, ""},
		{"the name from HOSTNAME", Config{}, map[string]string{"HOSTNAME": "pod-3"}, map[string]string{serviceAccount + "/namespace": "apps"},
			[4]string{"https://10.0.0.1:443", "pod-3", "apps", ""}, ""},
		{"IPv6", Config{}, map[string]string{"KUBERNETES_SERVICE_HOST": "fd00::1", "POD_NAME": "p", "POD_NAMESPACE": "n"}, nil, [4]string{"https://[fd00::1]:443", "p", "n", ""}, ""},
		{"IPv6 in brackets", Config{}, map[string]string{"KUBERNETES_SERVICE_HOST": "[fd00::1]", "POD_NAME": "p", "POD_NAMESPACE": "n"}, nil, [4]string{"https://[fd00::1]:443", "p", "n", ""}, ""},
		{"what is given stays", Config{Server: "https://a:1", Pod: "b", Namespace: "c", Container: "d"}, map[string]string{"POD_NAME": "x", "POD_NAMESPACE": "y"},
			map[string]string{mountinfo: mounts}, [4]string{"https://a:1", "b", "c", "d"}, ""},
		{"no cluster", Config{}, map[string]string{"KUBERNETES_SERVICE_HOST": ""}, nil, [4]string{},
			"watch pod: KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set: this is no pod of Kubernetes, or its service links are switched off"},
		{"no name", Config{}, map[string]string{"POD_NAMESPACE": "n"}, nil, [4]string{}, `watch pod: the name of the pod is "": set POD_NAME from metadata.name`},
		{"a name that is none", Config{}, map[string]string{"POD_NAME": "a,b=c", "POD_NAMESPACE": "n"}, nil, [4]string{}, `watch pod: the name of the pod is "a,b=c": set POD_NAME from metadata.name`},
		{"a name that ends with a dot", Config{}, map[string]string{"POD_NAME": "a.", "POD_NAMESPACE": "n"}, nil, [4]string{}, `watch pod: the name of the pod is "a.": set POD_NAME from metadata.name`},
		{"a name of a capital letter", Config{}, map[string]string{"POD_NAME": "A", "POD_NAMESPACE": "n"}, nil, [4]string{}, `watch pod: the name of the pod is "A": set POD_NAME from metadata.name`},
		{"no namespace", Config{}, map[string]string{"POD_NAME": "p"}, nil, [4]string{},
			`watch pod: the namespace is "": set POD_NAMESPACE from metadata.namespace, or mount the service account`},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range test.files {
				if err := os.MkdirAll(filepath.Dir(root+name), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(root+name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := test.given
			err := c.fill(func(name string) string {
				if value, given := test.env[name]; given {
					return value
				}
				return inCluster[name]
			}, root)
			if err != nil || test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Fatalf("got %v, want %s", err, test.err)
				}
				return
			}
			if diff := cmp.Diff(test.want, [4]string{c.Server, c.Pod, c.Namespace, c.Container}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if c.TokenFile != root+serviceAccount+"/token" || c.CAFile != root+serviceAccount+"/ca.crt" {
				t.Errorf("files %s, %s", c.TokenFile, c.CAFile)
			}
		})
	}
}

func TestOwnContainer(t *testing.T) {
	for _, test := range []struct{ name, mounts, want string }{
		{"below the root of the file system", "3 1 8:1 /var/lib/kubelet/pods/0a/containers/app/77 /dev/termination-log rw", "app"},
		{"on a file system of its own", "3 1 8:1 /pods/0a/containers/app/77 /dev/termination-log rw", "app"},
		{"a container that is called containers", "3 1 8:1 /pods/0a/containers/containers/77 /dev/termination-log rw", "containers"},
		{"another mount", "3 1 8:1 /pods/0a/containers/app/77 /dev/log rw", ""},
		{"no kubelet", "3 1 8:1 /a/b /dev/termination-log rw", ""},
		{"nothing", "", ""},
		{"short lines", "1 2\n\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := ownContainer([]byte(test.mounts)); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// FuzzOwnContainer holds that no mounts make us fall over.
func FuzzOwnContainer(f *testing.F) {
	f.Add([]byte("3 1 8:1 /pods/0a/containers/app/77 /dev/termination-log rw"))
	f.Fuzz(func(t *testing.T, mounts []byte) {
		for _, b := range []byte(ownContainer(mounts)) {
			if b == '/' || b == '\n' {
				t.Errorf("a name with %q", b)
			}
		}
	})
}

func TestAnIncompleteConfigIsAnError(t *testing.T) {
	for _, c := range []Config{{}, {Server: "https://a", Pod: "b"}, {Server: "https://a", Pod: "b", Namespace: "c"}} {
		if err := Run(t.Context(), c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}
