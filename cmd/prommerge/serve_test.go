package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTLSTargetsAreVerified(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, "m 1\n")
	}))
	t.Cleanup(s.Close)
	ca := file(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	url := exporter(t, file(t, "c.yaml", `
targets:
  - {name: unknown, url: `+s.URL+`}
  - {name: known, url: `+s.URL+`, tls: {caFile: `+ca+`}}
  - {name: other, url: `+s.URL+`, tls: {caFile: `+ca+`, serverName: other.test}}
  - {name: named, url: `+s.URL+`, tls: {caFile: `+ca+`, serverName: example.com}}
  - {name: careless, url: `+s.URL+`, tls: {insecureSkipVerify: true}}
`))
	_, page := get(t, url+"/metrics")
	for name, up := range map[string]string{"unknown": "0", "known": "1", "other": "0", "named": "1", "careless": "1"} {
		if want := `prommerge_target_up{process_name="` + name + `"} ` + up + "\n"; !strings.Contains(string(page), want) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
}

func TestATargetThatAsksForACertificateGetsIt(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, "m 1\n")
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of the handshake that fails
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	seen := make(chan []byte, 9)
	s.TLS.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error { seen <- raw[0]; return nil }
	s.StartTLS()
	t.Cleanup(s.Close)
	own := s.TLS.Certificates[0] // any pair does
	der, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert := file(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]})))
	key := file(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	url := exporter(t, file(t, "c.yaml", `
targets:
  - {name: with, url: `+s.URL+`, tls: {caFile: `+cert+`, certFile: `+cert+`, keyFile: `+key+`}}
  - {name: without, url: `+s.URL+`, tls: {caFile: `+cert+`}}
`))
	_, page := get(t, url+"/metrics")
	for name, up := range map[string]string{"with": "1", "without": "0"} {
		if want := `prommerge_target_up{process_name="` + name + `"} ` + up + "\n"; !strings.Contains(string(page), want) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	if len(seen) != 1 || !bytes.Equal(<-seen, own.Certificate[0]) {
		t.Error("the target did not see the certificate")
	}
}

func TestSIGHUPReadsTheConfigAgain(t *testing.T) {
	path := file(t, "c.yaml", "targets: [{name: before, url: http://127.0.0.1:1/}]")
	url := exporter(t, path)
	get(t, url+"/health") // it serves, and has asked for signals before
	if err := os.WriteFile(path, []byte("targets: [{name: after, url: http://127.0.0.1:1/}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, list := get(t, url+"/targets?format=json")
		if strings.Contains(string(list), `"after"`) && !strings.Contains(string(list), `"before"`) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %s", list)
		}
	}
}

func TestReloadingOverHTTPIsOffByDefault(t *testing.T) {
	src, err := newSource("", []string{"a=http://127.0.0.1:1/"}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	newHandler(nil, src, false).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/-/reload", nil))
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "-enable-reload") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestTheExampleIsGood(t *testing.T) {
	src, err := newSource("../../examples/prommerge/targets.yaml", nil, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if got := src.Targets(); len(got) < 3 || got[0].Name != "node" || got[0].Labels["role"] != "host" {
		t.Errorf("targets %v", got)
	}
}
