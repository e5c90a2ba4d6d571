package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority issues certificates into a directory.
type authority struct {
	t    *testing.T
	dir  string
	file string // its own certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key = a.sign("ca", template)
	a.file = filepath.Join(a.dir, "ca.pem")
	return a
}

// issue makes a certificate for both ends, good for 127.0.0.1, and returns the two files.
func (a *authority) issue(name string) (cert, key string) {
	a.t.Helper()
	a.sign(name, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	return filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
}

// sign writes NAME.pem and NAME.key.
func (a *authority) sign(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

// knock asks over TLS, on a connection of its own, and returns the status and who answered.
func knock(t *testing.T, url string, c *tls.Config, header ...string) (status int, peer string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(header) > 0 {
		req.Header.Set("Authorization", header[0])
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.TLS != nil {
		peer = resp.TLS.PeerCertificates[0].Subject.CommonName
	}
	return resp.StatusCode, peer, nil
}

func (a *authority) trusting(t *testing.T, pair ...string) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c := &tls.Config{RootCAs: pool}
	if len(pair) == 2 {
		cert, err := tls.LoadX509KeyPair(pair[0], pair[1])
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c
}

// tlsScene is a server that wants certificates and tokens, and a client that has both.
type tlsScene struct {
	*lockServer
	ours, theirs          *authority
	cert, key             string // of the server
	clientCert, clientKey string
	mutual                *tls.Config
	list                  string // what the token may see
}

func TestSharedLockOverTLS(t *testing.T) {
	s := tlsScene{ours: newAuthority(t), theirs: newAuthority(t)}
	s.cert, s.key = s.ours.issue("server")
	access := write(t, "access.json", `{"tokens":[{"name":"ci","token":"secret-of-the-ci","prefixes":["ci/"],"rights":["hold"]}]}`)
	s.lockServer = startSharedLock(t, t.TempDir(), "-tls-cert", s.cert, "-tls-key", s.key, "-tls-client-ca", s.ours.file, "-access-file", access)
	s.url = strings.Replace(s.url, "http:", "https:", 1)
	s.clientCert, s.clientKey = s.ours.issue("client")
	s.mutual = s.ours.trusting(t, s.clientCert, s.clientKey)
	s.list = s.url + "/v1/locks?prefix=ci/"
	t.Run("who has no certificate or a wrong one is not let in", s.strangers)
	t.Run("a certificate does not stand in for a token", s.tokens)
	t.Run("the commands", s.commands)
	t.Run("a renewed certificate is used at once", s.renewed) // the last: the authority changes
}

func (s *tlsScene) strangers(t *testing.T) {
	strangerCert, strangerKey := s.theirs.issue("stranger")
	old := s.ours.trusting(t, s.clientCert, s.clientKey)
	old.MaxVersion = tls.VersionTLS11
	old.MinVersion = tls.VersionTLS10
	for what, c := range map[string]*tls.Config{
		"without a certificate": s.ours.trusting(t), "with one of another authority": s.ours.trusting(t, strangerCert, strangerKey),
		"with TLS 1.1": old, "which does not trust the server": s.theirs.trusting(t, s.clientCert, s.clientKey),
	} {
		if status, _, err := knock(t, s.url+"/health", c); err == nil {
			t.Errorf("a client %s gets %d", what, status)
		}
	}
	if status, _, err := knock(t, strings.Replace(s.url, "https:", "http:", 1)+"/health", nil); err == nil && status != 400 {
		t.Errorf("plain HTTP gets %d", status)
	}
}

func (s *tlsScene) tokens(t *testing.T) {
	for header, want := range map[string]int{"": 401, "Bearer secret-of-the-xx": 401, "Basic secret-of-the-ci": 401, "Bearer secret-of-the-ci": 200} {
		if status, peer, err := knock(t, s.list, s.mutual, header); err != nil || status != want || peer != "server" {
			t.Errorf("%q: %d from %q (%v), want %d", header, status, peer, err, want)
		}
	}
	if status, _, err := knock(t, s.url+"/v1/locks?prefix=c", s.mutual, "Bearer secret-of-the-ci"); err != nil || status != 403 {
		t.Errorf("a wider prefix than that of the token: %d (%v)", status, err)
	}
}

func (s *tlsScene) commands(t *testing.T) {
	token := write(t, "token", "secret-of-the-ci\n")
	as := []string{"-shared-lock-url", s.url, "-token-file", token, "-ca-cert", s.ours.file, "-cert", s.clientCert, "-key", s.clientKey}
	run := append(append([]string{program("shared-lock"), "run"}, as...), "ci/job", "--", "true")
	if got := command(t, nil, run...); got.code != 0 {
		t.Errorf("run: %+v", got)
	}
	denied := append(append([]string{program("shared-lock"), "run"}, as...), "other", "--", "true")
	if got := command(t, nil, denied...); got.code == 0 || !strings.Contains(got.stderr, `may not hold here`) || strings.Contains(got.stderr, "secret") {
		t.Errorf("run outside of the prefix: %+v", got)
	}
}

func (s *tlsScene) renewed(t *testing.T) {
	next := newAuthority(t)
	newCert, newKey := next.issue("renewed")
	if err := os.Rename(newCert, s.cert); err != nil {
		t.Fatal(err)
	}
	if status, peer, err := knock(t, s.list, s.mutual, "Bearer secret-of-the-ci"); err != nil || status != 200 || peer != "server" {
		t.Errorf("while the key is not there yet: %d from %q: %v", status, peer, err)
	}
	if err := os.Rename(newKey, s.key); err != nil {
		t.Fatal(err)
	}
	both := next.trusting(t, s.clientCert, s.clientKey)
	if status, peer, err := knock(t, s.list, both, "Bearer secret-of-the-ci"); err != nil || status != 200 || peer != "renewed" {
		t.Errorf("%d from %q: %v", status, peer, err)
	}
}

// startTLSEtcd runs one member that speaks TLS and wants certificates.
func startTLSEtcd(t *testing.T, a *authority) string {
	t.Helper()
	tool, err := etcdTool()
	if err != nil {
		t.Fatal(err)
	}
	cert, key := a.issue("etcd")
	peer, endpoint := fmt.Sprintf("http://127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	m := &member{endpoint: endpoint, argv: []string{tool, "-dir", t.TempDir(), "-peer", peer, "-client", "https://" + endpoint, "-cluster", "m0=" + peer,
		"-cert", cert, "-key", key, "-ca", a.file}}
	m.start(t)
	t.Cleanup(m.kill)
	eventually(t, "etcd listens", func() error {
		conn, err := net.Dial("tcp", endpoint)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return endpoint
}

func TestSharedLockReachesEtcdOverTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	endpoint := startTLSEtcd(t, ours)
	cert, key := ours.issue("lock")
	strangerCert, strangerKey := theirs.issue("stranger")
	env := func(endpoint, ca, cert, key string) []string {
		return []string{"SHARED_LEASE_ETCD_ENDPOINTS=" + endpoint, "SHARED_LEASE_ETCD_CA_CERT=" + ca, "SHARED_LEASE_ETCD_CLIENT_CERT=" + cert,
			"SHARED_LEASE_ETCD_CLIENT_KEY=" + key}
	}
	direct := []string{program("shared-lock"), "-listen", "127.0.0.1:0"}
	for name, with := range map[string]struct {
		env  []string
		argv []string
	}{
		"by the variables": {env(endpoint, ours.file, cert, key), direct},
		"by the flag":      {env(endpoint, ours.file, cert, key), append(direct[:3:3], "-shared-lock-etcd-tls")},
		"by https":         {env("https://"+endpoint, ours.file, cert, key), direct},
		"by way of process-wrapper": {append(env(endpoint, ours.file, cert, key), "SHARED_LEASE_SOCKET=127.0.0.1:0"),
			[]string{program("process-wrapper"), "-shared-lock", "-shared-lock-etcd-tls"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startLockServer(t, with.env, with.argv...)
			s.url = "http://" + s.stderr.waitFor(t, lockListens)[1]
			if status, _ := s.ask(t, "POST", "/v1/locks/k/acquire", `{"ttl":"200ms","wait":"5s"}`); status != 201 {
				t.Errorf("acquire: %d", status)
			}
		})
	}
	for name, with := range map[string][]string{
		"a stranger's certificate":   env(endpoint, ours.file, strangerCert, strangerKey),
		"an authority not etcd's":    env(endpoint, theirs.file, cert, key),
		"no certificate":             env(endpoint, ours.file, "", ""),
		"no TLS where etcd wants it": env(endpoint, "", "", ""),
	} {
		t.Run(name+" is of no use", func(t *testing.T) {
			t.Parallel()
			got := command(t, with, program("shared-lock"), "-listen", "127.0.0.1:0")
			if got.code == 0 || !strings.Contains(got.stderr, endpoint) || !strings.Contains(got.stderr, "SHARED_LEASE_ETCD_ENDPOINTS") {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestBadFlagsOfSharedLock(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("x")
	empty := write(t, "empty", "")
	for _, test := range []struct{ flags, want string }{
		{"-tls-cert " + cert, "-tls-cert and -tls-key belong together"},
		{"-tls-key " + key, "-tls-cert and -tls-key belong together"},
		{"-tls-client-ca " + a.file, "-tls-client-ca needs -tls-cert and -tls-key"},
		{"-tls-cert " + cert + " -tls-key /none", "read -tls-cert and -tls-key: open /none: no such file or directory"},
		{"-tls-cert " + key + " -tls-key " + key, "read -tls-cert and -tls-key: tls: failed to find"},
		{"-tls-cert " + cert + " -tls-key " + key + " -tls-client-ca " + empty, "-tls-client-ca: " + empty + " holds no certificate"},
		{"-etcd-ca-cert /none", "SHARED_LEASE_ETCD_CA_CERT: open /none: no such file or directory"},
		{"-etcd-client-cert " + cert, "SHARED_LEASE_ETCD_CLIENT_CERT and SHARED_LEASE_ETCD_CLIENT_KEY belong together"},
		{"-etcd-client-key " + key, "SHARED_LEASE_ETCD_CLIENT_CERT and SHARED_LEASE_ETCD_CLIENT_KEY belong together"},
		{"-access-file /none", "read access file: open /none: no such file or directory"},
		{"-access-file " + empty, "access file " + empty + ": parse JSON: EOF"},
		{"-shared-lock-etcd-tls -embedded-etcd " + t.TempDir(), "leave -shared-lock-etcd-tls out"},
	} {
		got := command(t, nil, append([]string{program("shared-lock"), "-listen", "127.0.0.1:0"}, strings.Fields(test.flags)...)...)
		if got.code != 2 || !strings.Contains(got.stderr, test.want) {
			t.Errorf("%s:\n got %d %s\nwant 2 and %s", test.flags, got.code, got.stderr, test.want)
		}
	}
}
