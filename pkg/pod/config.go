package pod

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

const (
	serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"
	podinfoName    = "/etc/podinfo/name"
	mountinfo      = "/proc/self/mountinfo"
	maxSmallFile   = 1 << 20
)

// isName tells whether s can be the name of a pod or of a namespace. By hand: to compile the regular
// expression took a tenth of the whole start, also where no pod is watched.
func isName(s string) bool {
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && c != '.' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 253 && isAlphanumeric(s[0]) && isAlphanumeric(s[len(s)-1])
}

func isAlphanumeric(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' }

// Fill completes what is empty: Server from KUBERNETES_SERVICE_HOST and _PORT, Pod from POD_NAME,
// /etc/podinfo/name or HOSTNAME in that order, Namespace from POD_NAMESPACE or the service account, the files
// from the service account, and Container from the mount of /dev/termination-log, where there is one.
func (c *Config) Fill(getenv func(string) string) error { return c.fill(getenv, "") }

// fill is Fill with all files below root.
func (c *Config) fill(getenv func(string) string, root string) error {
	if c.Server == "" {
		host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return errors.New("watch pod: KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set: this is no pod of Kubernetes, or its service links are switched off")
		}
		c.Server = "https://" + net.JoinHostPort(strings.Trim(host, "[]"), port)
	}
	setDefault(&c.TokenFile, root+serviceAccount+"/token")
	setDefault(&c.CAFile, root+serviceAccount+"/ca.crt")
	setDefault(&c.Pod, getenv("POD_NAME"))
	setDefault(&c.Pod, readLine(root+podinfoName))
	setDefault(&c.Pod, getenv("HOSTNAME"))
	setDefault(&c.Namespace, getenv("POD_NAMESPACE"))
	setDefault(&c.Namespace, readLine(root+serviceAccount+"/namespace"))
	if c.Container == "" {
		if text, err := readSmall(root + mountinfo); err == nil {
			c.Container = ownContainer(text)
		}
	}
	if !isName(c.Pod) {
		return fmt.Errorf("watch pod: the name of the pod is %q: set POD_NAME from metadata.name", c.Pod)
	}
	if !isName(c.Namespace) {
		return fmt.Errorf("watch pod: the namespace is %q: set POD_NAMESPACE from metadata.namespace, or mount the service account", c.Namespace)
	}
	return nil
}

func setDefault(to *string, value string) {
	if *to == "" {
		*to = value
	}
}

func readLine(name string) string {
	text, err := readSmall(name)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text))
}

func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxSmallFile))
}

// ownContainer finds our name in the mounts: the kubelet mounts a file below
// pods/UID/containers/NAME/ at /dev/termination-log.
func ownContainer(mounts []byte) string {
	lines := bufio.NewScanner(bytes.NewReader(mounts))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || fields[4] != "/dev/termination-log" {
			continue
		}
		parts := strings.Split(fields[3], "/")
		for i := len(parts) - 3; i >= 2; i-- {
			if parts[i] == "containers" && parts[i-2] == "pods" {
				return parts[i+1]
			}
		}
	}
	return ""
}
