package main

import (
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/sink/sinktest"
)

// asked is what a store saw of a request.
type asked struct{ path, auth, tenant, client string }

// store is one that takes all, over TLS, and only from who has a certificate of a client.
func store(t *testing.T) (url, ca, cert, key string, seen <-chan asked) {
	t.Helper()
	all := make(chan asked, 99)
	cert, key, clients := sinktest.Certificate(t, t.TempDir(), "metrics-server")
	url, ca = sinktest.ServeTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all <- asked{r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("X-Scope-OrgID"), r.TLS.PeerCertificates[0].Subject.CommonName}
		w.WriteHeader(http.StatusNoContent)
	}), clients)
	return url, ca, cert, key, all
}

func TestTheFlagsOfLokiReachIt(t *testing.T) {
	dir := t.TempDir()
	password, token := filepath.Join(dir, "password"), filepath.Join(dir, "token")
	for _, file := range []string{password, token} {
		if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		args []string
		want asked
	}{
		{"a password", []string{"-loki-user", "u", "-loki-password-file", password, "-loki-tenant", "team-1"}, asked{"/loki/api/v1/push", "Basic dTpzM2NyZXQ=", "team-1", "metrics-server"}},
		{"a token", []string{"-loki-bearer-token-file", token}, asked{"/loki/api/v1/push", "Bearer s3cret", "", "metrics-server"}},
		{"an unknown certificate that is not verified", []string{"-loki-ca-path", "", "-loki-insecure"}, asked{"/loki/api/v1/push", "", "", "metrics-server"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, ca, cert, key, seen := store(t)
			v := serve(t, nil, append([]string{"-loki-address", url, "-loki-ca-path", ca, "-loki-cert-path", cert, "-loki-key-path", key}, tt.args...)...)
			send(t, v.receiver.Addrs()[0], `{"name":"e","op":"event"}`)
			select {
			case got := <-seen:
				if got != tt.want {
					t.Errorf("got %+v, want %+v", got, tt.want)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("Loki was not asked")
			}
			v.finish(nil)
			if err := v.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func send(t *testing.T, to net.Addr, message string) {
	t.Helper()
	conn, err := net.Dial(to.Network(), to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(message)); err != nil {
		t.Fatal(err)
	}
}

func TestACertificateWithoutItsKeyIsRefused(t *testing.T) {
	_, err := newServer(parse(t, "-loki-address", "https://loki", "-loki-cert-path", "a"), &environment{}, slog.New(slog.DiscardHandler), func() {})
	if err == nil || err.Error() != "loki: a client certificate needs both its certificate and its key file" {
		t.Error(err)
	}
}
