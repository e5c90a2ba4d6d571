package loki

import (
	"bytes"
	"crypto/x509"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/process-wrapper/process-wrapper/pkg/sink"
	"github.com/process-wrapper/process-wrapper/pkg/sink/sinktest"
)

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token, password := file("token", "from-file\n"), file("password", "s3cret\n")
	cert, key, clients := sinktest.Certificate(t, dir, "metrics-server")
	for _, tt := range []struct {
		name      string
		config    Config
		key, want string
	}{
		{"basic auth", Config{User: "u", Password: "s3cret"}, "Authorization", "Basic dTpzM2NyZXQ="},
		{"basic auth with a password file", Config{User: "u", PasswordFile: password}, "Authorization", "Basic dTpzM2NyZXQ="},
		{"a bearer token", Config{BearerToken: "s3cret"}, "Authorization", "Bearer s3cret"},
		{"a bearer token from a file", Config{BearerTokenFile: token}, "Authorization", "Bearer from-file"},
		{"a tenant", Config{Tenant: "team-1"}, "X-Scope-Orgid", "team-1"},
		{"a tenant beside a bearer token", Config{Tenant: "team-1", BearerToken: "s3cret"}, "X-Scope-Orgid", "team-1"},
		{"none", Config{}, "Authorization", ""},
	} {
		for over, start := range map[string]func(f *fake, c *Config){
			"http":  func(f *fake, c *Config) { c.Address = sinktest.Serve(t, f) },
			"https": func(f *fake, c *Config) { c.Address, c.CAFile = sinktest.ServeTLS(t, f, nil) },
			"https with a client certificate": func(f *fake, c *Config) {
				c.Address, c.CAFile = sinktest.ServeTLS(t, f, clients)
				c.CertFile, c.KeyFile = cert, key
			},
		} {
			t.Run(tt.name+" over "+over, func(t *testing.T) {
				f := newFake(t)
				f.status = func(n int) int { return map[bool]int{true: 500}[n == 0] } // an error to log
				start(f, &tt.config)
				checkCredentials(t, f, tt.config, tt.key, tt.want)
			})
		}
	}
}

// checkCredentials sends an event, and looks at a header of each of the two requests, and at the log.
func checkCredentials(t *testing.T, f *fake, c Config, key, want string) {
	t.Helper()
	var log bytes.Buffer
	c.Sink.Log = slog.New(slog.NewTextHandler(&log, nil))
	s, stop := start(t, c)
	sinktest.Put(t, s, sinktest.Event("x", 0))
	sinktest.Eventually(t, "sent", func() bool { return sinktest.Settled(s) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if len(f.headers) != 2 {
		t.Errorf("%d requests, want one that is refused and another", len(f.headers))
	}
	for _, h := range f.headers {
		if got := h.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if !strings.Contains(log.String(), "500") || strings.Contains(log.String(), "s3cret") {
		t.Errorf("log %s", log.String())
	}
}

func TestCertificates(t *testing.T) {
	cert, key, clients := sinktest.Certificate(t, t.TempDir(), "metrics-server")
	otherCert, otherKey, others := sinktest.Certificate(t, t.TempDir(), "other")
	for _, tt := range []struct {
		name    string
		clients *x509.CertPool // that the server wants, nil: none
		trust   bool           // the server's certificate is given as CA
		config  Config
		client  string // whose certificate the server saw; "-": nothing may be sent
	}{
		{"a server that nobody vouches for", nil, false, Config{}, "-"},
		{"a server that its CA vouches for", nil, true, Config{}, ""},
		{"a server that is not verified", nil, false, Config{Insecure: true}, ""},
		{"a client certificate that nobody wants", nil, true, Config{CertFile: cert, KeyFile: key}, ""},
		{"no client certificate though it is wanted", clients, true, Config{}, "-"},
		{"a client certificate that is wanted", clients, true, Config{CertFile: cert, KeyFile: key}, "metrics-server"},
		{"a client certificate of somebody else", clients, true, Config{CertFile: otherCert, KeyFile: otherKey}, "-"},
		{"somebody else's, where that is wanted", others, true, Config{CertFile: otherCert, KeyFile: otherKey}, "other"},
		{"a client certificate for a server that nobody vouches for", clients, false, Config{CertFile: cert, KeyFile: key}, "-"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen := &peers{next: newFake(t)}
			var ca string
			tt.config.Address, ca = sinktest.ServeTLS(t, seen, tt.clients)
			if tt.trust {
				tt.config.CAFile = ca
			}
			tt.config.Sink.SpoolDir = t.TempDir()
			s, stop := start(t, tt.config)
			sinktest.Put(t, s, sinktest.Event("x", 0))
			sinktest.Eventually(t, "a try", func() bool { return s.Stats().Flush.Count > 0 })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			st := s.Stats()
			if tt.client == "-" {
				if st.Sent != 0 || st.DeadLetter != 0 || st.SpoolBytes == 0 || len(seen.names) != 0 {
					t.Errorf("%+v, seen %q: want it kept, and nothing sent", st, seen.names)
				}
				return
			}
			if st.Sent != 1 || len(seen.names) != 1 || seen.names[0] != tt.client {
				t.Errorf("sent %d, the server saw %q, want %q", st.Sent, seen.names, tt.client)
			}
		})
	}
}

// A certificate lives shorter than the server, and who renews it writes to the same files.
func TestARenewedCertificateIsUsed(t *testing.T) {
	dir, next := t.TempDir(), t.TempDir()
	cert, key, _ := sinktest.Certificate(t, dir, "old")
	nextCert, nextKey, clients := sinktest.Certificate(t, next, "new")
	seen := &peers{next: newFake(t)}
	url, ca := sinktest.ServeTLS(t, seen, clients)
	s, _ := start(t, Config{Address: url, CAFile: ca, CertFile: cert, KeyFile: key, Sink: sink.Config{SpoolDir: t.TempDir()}})
	sinktest.Put(t, s, sinktest.Event("x", 0))
	sinktest.Eventually(t, "the old one is refused", func() bool { return s.Stats().Retried > 0 })
	for from, to := range map[string]string{nextCert: cert, nextKey: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	sinktest.Eventually(t, "sent", func() bool { return sinktest.Settled(s) })
	if seen.names[0] != "new" {
		t.Errorf("the server saw %q", seen.names)
	}
}

func TestRenewedSecretsAreUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	for _, tt := range []struct {
		config Config
		want   [2]string
	}{
		{Config{BearerTokenFile: file}, [2]string{"Bearer old", "Bearer new"}},
		{Config{User: "u", PasswordFile: file}, [2]string{"Basic dTpvbGQ=", "Basic dTpuZXc="}},
	} {
		f := newFake(t)
		tt.config.Address = sinktest.Serve(t, f)
		s, stop := start(t, tt.config)
		for i, secret := range []string{"old", "new"} {
			if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			sinktest.Put(t, s, sinktest.Event("x", i))
			sinktest.Eventually(t, "sent", func() bool { return s.Stats().Sent == uint64(i)+1 })
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if got := [2]string{f.headers[0].Get("Authorization"), f.headers[1].Get("Authorization")}; got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// peers notes whose certificates come.
type peers struct {
	next  http.Handler
	mu    sync.Mutex // guards names
	names []string
}

func (p *peers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := ""
	if certs := r.TLS.PeerCertificates; len(certs) > 0 {
		name = certs[0].Subject.CommonName
	}
	p.mu.Lock()
	p.names = append(p.names, name)
	p.mu.Unlock()
	p.next.ServeHTTP(w, r)
}
