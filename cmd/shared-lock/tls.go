package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

// rotating is a certificate that is read anew for each handshake. While its two files do not fit
// together, as between the writing of one and of the other, the last good one is used.
type rotating struct {
	cert, key string
	last      atomic.Pointer[tls.Certificate]
}

func (r *rotating) load() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(r.cert, r.key)
	if err == nil {
		r.last.Store(&pair)
		return &pair, nil
	}
	if last := r.last.Load(); last != nil {
		return last, nil
	}
	return nil, err
}

// etcdTLS is nil where etcd is asked without TLS.
func (f *flags) etcdTLS() (*tls.Config, error) {
	https := strings.Contains(f.EtcdEndpoints, "https://")
	if !f.SharedLockEtcdTLS && !https && f.EtcdCACert == "" && f.EtcdClientCert == "" && f.EtcdClientKey == "" {
		return nil, nil
	}
	return clientTLS(tlsFiles{f.EtcdCACert, f.EtcdClientCert, f.EtcdClientKey},
		tlsFiles{"SHARED_LEASE_ETCD_CA_CERT", "SHARED_LEASE_ETCD_CLIENT_CERT", "SHARED_LEASE_ETCD_CLIENT_KEY"})
}

// serverTLS is nil where clients come without TLS.
func (f *flags) serverTLS() (*tls.Config, error) {
	switch {
	case f.TLSCert == "" && f.TLSKey == "" && f.TLSClientCA == "":
		return nil, nil
	case f.TLSCert == "" && f.TLSKey == "":
		return nil, errors.New("-tls-client-ca needs -tls-cert and -tls-key")
	case f.TLSCert == "" || f.TLSKey == "":
		return nil, errors.New("-tls-cert and -tls-key belong together")
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	pair := &rotating{cert: f.TLSCert, key: f.TLSKey}
	if _, err := pair.load(); err != nil {
		return nil, fmt.Errorf("read -tls-cert and -tls-key: %w", err)
	}
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.load() }
	if f.TLSClientCA != "" {
		pool, err := readCA(f.TLSClientCA)
		if err != nil {
			return nil, fmt.Errorf("-tls-client-ca: %w", err)
		}
		c.ClientCAs, c.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return c, nil
}

// tlsFiles are the files of a client, or how the user calls them.
type tlsFiles struct{ ca, cert, key string }

// clientTLS makes the TLS of a client. Of the files, the CA may be missing, and the pair.
func clientTLS(f, names tlsFiles) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		pool, err := readCA(f.ca)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", names.ca, err)
		}
		c.RootCAs = pool
	}
	switch {
	case f.cert == "" && f.key == "":
		return c, nil
	case f.cert == "" || f.key == "":
		return nil, fmt.Errorf("%s and %s belong together", names.cert, names.key)
	}
	pair := &rotating{cert: f.cert, key: f.key}
	if _, err := pair.load(); err != nil {
		return nil, fmt.Errorf("read %s and %s: %w", names.cert, names.key, err)
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.load() }
	return c, nil
}

func readCA(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err // it names the file
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}
