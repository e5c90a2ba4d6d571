package search

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/sink"
)

// DefaultIndex takes events, and op index without a name.
const DefaultIndex = "metric-events"

// How the template maps labels: LabelsKeyword is understood by both stores but lets senders add
// fields up to the store's limit (1,000); the others are one field whatever the labels.
const (
	LabelsKeyword    = "keyword"
	LabelsFlattened  = "flattened"   // Elasticsearch
	LabelsFlatObject = "flat_object" // OpenSearch 2.7 and later
)

// Config of a sink for Elasticsearch or OpenSearch.
type Config struct {
	// Sink.Name defaults to "search", Sink.Period to 5 s and Sink.BatchBytes to 20,000.
	Sink sink.Config

	URL            string // "https://search:9200", a path and a query are kept: "http://victorialogs:9428/insert/elasticsearch?_time_field=timestamp"
	User, Password string // basic auth; those in URL are used if these are empty
	CAFile         string // PEM; the system's CAs by default
	Insecure       bool   // do not verify the server's certificate

	Index      string // default DefaultIndex; where the day is added, INDEX-2026-01-02 by the event's time in UTC
	Pattern    string // what an index may be called without its day, as in path.Match: "app-*"; empty: any valid name
	DataStream bool   // no day in the name, and a field @timestamp: for data streams

	NoTemplate bool   // do not install the index template
	Shards     int    // of the template; 1
	Labels     string // of the template; LabelsKeyword

	Timeout time.Duration // of one request; 30 s
}

func (c Config) complete() (Config, error) {
	s := &c.Sink
	if s.Name == "" {
		s.Name = "search"
	}
	if s.Period == 0 {
		s.Period = 5 * time.Second
	}
	if s.BatchBytes == 0 {
		s.BatchBytes = 20_000
	}
	if c.Index == "" {
		c.Index = DefaultIndex
	}
	if c.Shards == 0 {
		c.Shards = 1
	}
	if c.Labels == "" {
		c.Labels = LabelsKeyword
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	return c, c.check()
}

func (c Config) check() error {
	var errs []error
	if _, err := path.Match(c.Pattern, ""); err != nil {
		errs = append(errs, fmt.Errorf("search index pattern %q: %w", c.Pattern, err))
	}
	if err := checkIndex(c.Index); err != nil {
		errs = append(errs, fmt.Errorf("search index %q: %w", c.Index, err))
	} else if !c.allows(c.Index) {
		errs = append(errs, fmt.Errorf("search index %q: does not match the pattern %q", c.Index, c.Pattern))
	}
	if c.Shards < 0 {
		errs = append(errs, fmt.Errorf("search shards %d: must not be negative", c.Shards))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("search timeout %s: must not be negative", c.Timeout))
	}
	switch c.Labels {
	case LabelsKeyword, LabelsFlattened, LabelsFlatObject:
	default:
		errs = append(errs, fmt.Errorf("search labels %q: want %s, %s or %s", c.Labels, LabelsKeyword, LabelsFlattened, LabelsFlatObject))
	}
	return errors.Join(errs...)
}

// allows tells whether the pattern lets a valid name pass.
func (c Config) allows(index string) bool {
	if c.Pattern == "" {
		return true
	}
	ok, err := path.Match(c.Pattern, index)
	return ok && err == nil
}

// checkIndex holds the rules that both stores have for names, and leaves room for the day. Names
// of hidden and system indices begin with a dot.
func checkIndex(name string) error {
	switch {
	case name == "" || len(name) > 200:
		return errors.New("want 1 to 200 bytes")
	case strings.ContainsAny(name[:1], "-_.+"):
		return errors.New("must begin with a letter or digit")
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return errors.New("want small letters, digits, '-', '_' and '.'")
		}
	}
	return nil
}

// urls returns the addresses of _bulk and of the template.
func (c *Config) urls() (bulk, template string, err error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", "", errors.New("search URL: not a URL") // the cause would quote it
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", "", fmt.Errorf("search URL %q: want http://HOST:PORT or https://HOST:PORT", u.Redacted())
	}
	if u.User != nil && c.User == "" && c.Password == "" {
		c.User = u.User.Username()
		c.Password, _ = u.User.Password()
	}
	u.User = nil
	t := u.JoinPath("_index_template", templateName(c.Index))
	t.RawQuery = ""
	u = u.JoinPath("_bulk")
	q := u.Query()
	if !q.Has("filter_path") {
		q.Set("filter_path", "items.*.status,items.*.error.type,items.*.error.reason")
	}
	u.RawQuery = q.Encode()
	return u.String(), t.String(), nil
}

func (c Config) tls() (*tls.Config, error) {
	t := &tls.Config{InsecureSkipVerify: c.Insecure}
	if c.CAFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA file %s: no certificate in it", c.CAFile)
	}
	return t, nil
}
