package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// config is the file of -config.
type config struct {
	Targets []targetConfig `yaml:"targets"`
	FileSD  []string       `yaml:"fileSD"` // patterns of files in Prometheus' file_sd format
}

type targetConfig struct {
	Name            string            `yaml:"name"`
	URL             string            `yaml:"url"`
	Labels          map[string]string `yaml:"labels"`
	Timeout         duration          `yaml:"timeout"`
	Headers         map[string]string `yaml:"headers"`
	BasicAuth       *basicAuth        `yaml:"basicAuth"`
	BearerTokenFile string            `yaml:"bearerTokenFile"`
	TLS             *tlsConfig        `yaml:"tls"`
}

type basicAuth struct {
	Username     string `yaml:"username"`
	Password     string `yaml:"password"`
	PasswordFile string `yaml:"passwordFile"`
}

type tlsConfig struct {
	CAFile             string `yaml:"caFile"`
	CertFile           string `yaml:"certFile"`
	KeyFile            string `yaml:"keyFile"`
	ServerName         string `yaml:"serverName"`
	InsecureSkipVerify bool   `yaml:"insecureSkipVerify"`
}

// duration is a time.Duration written as 5s.
type duration time.Duration

// UnmarshalYAML reads 5s.
func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil || v < 0 {
		return fmt.Errorf("line %d: %q is not a duration: write 500ms, 5s or 1m", n.Line, n.Value)
	}
	*d = duration(v)
	return nil
}

// readConfig reads a config file, strictly.
func readConfig(path string) (c config, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("read config: %w", err)
	}
	if err := decode(b, &c); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	c.locate(filepath.Dir(path))
	return c, nil
}

// locate makes relative paths of targets' files start at dir, where the config file is.
func (c *config) locate(dir string) {
	at := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	for i := range c.Targets {
		t := &c.Targets[i]
		at(&t.BearerTokenFile)
		if t.BasicAuth != nil {
			at(&t.BasicAuth.PasswordFile)
		}
		if t.TLS != nil {
			at(&t.TLS.CAFile)
			at(&t.TLS.CertFile)
			at(&t.TLS.KeyFile)
		}
	}
}

// target checks t and returns it as the library wants it.
func (t *targetConfig) target() (prommerge.Target, error) {
	out := prommerge.Target{Name: t.Name, URL: t.URL, Labels: t.Labels, Timeout: time.Duration(t.Timeout)}
	if t.Name == "" {
		return out, fmt.Errorf("target with url %q has no name", t.URL)
	}
	if err := checkURL(t.URL); err != nil {
		return out, fmt.Errorf("target %s: %w", t.Name, err)
	}
	if err := t.check(); err != nil {
		return out, fmt.Errorf("target %s: %w", t.Name, err)
	}
	if len(t.Headers) > 0 {
		out.Header = make(http.Header, len(t.Headers))
		for k, v := range t.Headers {
			out.Header.Set(k, v)
		}
	}
	if t.BasicAuth == nil && t.BearerTokenFile == "" && t.TLS == nil {
		return out, nil
	}
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: 5 * time.Minute,
		MaxResponseHeaderBytes: prommerge.MaxHeaderBytes, ForceAttemptHTTP2: true}
	if t.TLS != nil {
		var err error
		if tr.TLSClientConfig, err = t.TLS.client(); err != nil {
			return out, fmt.Errorf("target %s: %w", t.Name, err)
		}
	}
	out.Client = &http.Client{Transport: &authorizer{next: tr, basic: t.BasicAuth, tokenFile: t.BearerTokenFile}}
	return out, nil
}

// check refuses what would have no effect.
func (t *targetConfig) check() error {
	for _, name := range []string{prommerge.LabelName, "__name__", ""} {
		if _, ok := t.Labels[name]; ok {
			return fmt.Errorf("label %q cannot be set: %s is the name of the target", name, prommerge.LabelName)
		}
	}
	if t.BasicAuth != nil && t.BearerTokenFile != "" {
		return errors.New("basicAuth and bearerTokenFile exclude each other")
	}
	if t.BasicAuth != nil && t.BasicAuth.Password != "" && t.BasicAuth.PasswordFile != "" {
		return errors.New("password and passwordFile exclude each other")
	}
	return nil
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil: // which would show a password
		return errors.New("its url cannot be read: write http://host:port/metrics")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("url %q is not complete: write http://host:port/metrics", u.Redacted())
	}
	return nil
}

func (t *tlsConfig) client() (*tls.Config, error) {
	c := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile); err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // read anew: it is rotated
			cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			return &cert, err
		}
	}
	return c, nil
}

// authorizer adds credentials to requests. Files are read for each one, since they are rotated.
type authorizer struct {
	next      *http.Transport
	basic     *basicAuth
	tokenFile string
}

// RoundTrip implements http.RoundTripper.
func (a *authorizer) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	switch {
	case a.basic != nil:
		password := a.basic.Password
		if a.basic.PasswordFile != "" {
			var err error
			if password, err = readSecret(a.basic.PasswordFile); err != nil {
				return nil, err
			}
		}
		req.SetBasicAuth(a.basic.Username, password)
	case a.tokenFile != "":
		token, err := readSecret(a.tokenFile)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return a.next.RoundTrip(req)
}

// CloseIdleConnections lets http.Client give them up.
func (a *authorizer) CloseIdleConnections() { a.next.CloseIdleConnections() }

func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return strings.TrimSpace(string(b)), err
}
