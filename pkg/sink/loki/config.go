package loki

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/process-wrapper/process-wrapper/pkg/sink"
)

// PushPath is added to an address that has no path.
const PushPath = "/loki/api/v1/push"

// DefaultLabels become stream labels when Config.Labels is nil.
var DefaultLabels = []string{"event_type", "namespace", "k8s_cluster"}

// maxLabels and maxLabelValue are what Loki takes by default; more is a 400.
const (
	maxLabels     = 15
	maxLabelValue = 2048
)

// Config of a Loki sink.
type Config struct {
	Sink sink.Config // Name defaults to "loki"

	Address string // "http://loki:3100" or with a path; credentials are not allowed in it
	Tenant  string // X-Scope-OrgID; empty: none

	CAFile, CertFile, KeyFile string // PEM; the system's CAs and no client certificate by default. Files are read again when they change
	Insecure                  bool   // do not verify the server's certificate

	User, Password  string // basic auth
	PasswordFile    string // instead of Password; read for each request
	BearerToken     string // instead of basic auth
	BearerTokenFile string // instead of BearerToken; read for each request

	Labels  []string      // of an event, that become stream labels where it has them; default DefaultLabels. Few, with few values
	Timeout time.Duration // of one request; 10 s, and at most half of Sink.Deadline
}

func (c Config) complete() (Config, error) {
	if c.Sink.Name == "" {
		c.Sink.Name = "loki"
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Timeout < 0 {
		return c, fmt.Errorf("loki timeout %s: must not be negative", c.Timeout)
	}
	if c.Sink.Deadline == 0 {
		c.Sink.Deadline = 10 * time.Second
	}
	c.Timeout = min(c.Timeout, c.Sink.Deadline/2)
	c.Sink.Deadline -= c.Timeout // the client cannot be interrupted: what is in flight then may take so long
	if c.Labels == nil {
		c.Labels = DefaultLabels
	}
	return c, errors.Join(checkLabels(c.Labels), c.checkAuth())
}

func checkLabels(labels []string) error {
	if len(labels) > maxLabels {
		return fmt.Errorf("loki labels: %d of them, Loki takes %d", len(labels), maxLabels)
	}
	seen := map[string]bool{}
	for _, l := range labels {
		if !model.LegacyValidation.IsValidLabelName(l) || strings.HasPrefix(l, "__") {
			return fmt.Errorf("loki label %q: want letters, digits and _, and no __ in front", l)
		}
		if seen[l] {
			return fmt.Errorf("loki label %q: given twice", l)
		}
		seen[l] = true
	}
	return nil
}

func (c Config) checkAuth() error {
	basic := c.User != "" || c.Password != "" || c.PasswordFile != ""
	bearer := c.BearerToken != "" || c.BearerTokenFile != ""
	switch {
	case basic && bearer:
		return errors.New("loki: want either user and password or a bearer token")
	case c.Password != "" && c.PasswordFile != "":
		return errors.New("loki: want either a password or a password file")
	case c.BearerToken != "" && c.BearerTokenFile != "":
		return errors.New("loki: want either a bearer token or a bearer token file")
	case basic && c.User == "":
		return errors.New("loki: password without a user")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("loki: a client certificate needs both its certificate and its key file")
	}
	return nil
}

func (c Config) url() (*url.URL, error) {
	u, err := url.Parse(c.Address)
	if err != nil {
		return nil, errors.New("loki address: not a URL") // the cause would quote it
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("loki address %q: want http://HOST:PORT or https://HOST:PORT", u.Redacted())
	}
	if u.User != nil {
		return nil, fmt.Errorf("loki address %q: give credentials by environment or file, not here", u.Redacted())
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = PushPath
	}
	return u, nil
}

func (c Config) http() promconfig.HTTPClientConfig {
	h := promconfig.DefaultHTTPClientConfig
	h.FollowRedirects = false // a POST would become a GET, and its 200 an acknowledgement
	h.TLSConfig = promconfig.TLSConfig{
		CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, InsecureSkipVerify: c.Insecure,
	}
	if c.User != "" {
		h.BasicAuth = &promconfig.BasicAuth{
			Username: c.User, Password: promconfig.Secret(c.Password), PasswordFile: c.PasswordFile,
		}
	}
	if c.BearerToken != "" || c.BearerTokenFile != "" {
		h.Authorization = &promconfig.Authorization{
			Type: "Bearer", Credentials: promconfig.Secret(c.BearerToken), CredentialsFile: c.BearerTokenFile,
		}
	}
	return h
}
