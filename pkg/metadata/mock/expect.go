package mock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/process-wrapper/process-wrapper/pkg/metadata"
)

const (
	lookAgain     = 20 * time.Millisecond // between two looks at what is expected
	defaultWithin = time.Second
)

// An expectation is about what clients of the mock did, and what others answer. All of it has to hold at
// the same time, once within a time.
type expectation struct {
	Waiting   *bound    `yaml:"waiting"`   // requests that wait for a change
	Requests  *bound    `yaml:"requests"`  // that were answered since the beginning, or the last reset
	Preempted *bool     `yaml:"preempted"` // of the mock
	HTTP      string    `yaml:"http"`      // a URL that is asked
	Status    int       `yaml:"status"`    // of its answer; 0: 200
	Contains  string    `yaml:"contains"`  // in its body
	Within    *duration `yaml:"within"`    // 1s
}

// A bound is a number, or {path, min, max}.
type bound struct {
	Path string `yaml:"path"`
	Min  uint64 `yaml:"min"`
	Max  *uint64
}

// UnmarshalYAML reads 1 or {min: 1, max: 90, path: instance/preempted}.
func (b *bound) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		err := n.Decode(&b.Min)
		b.Max = &b.Min
		return err
	}
	var fields struct {
		Path string  `yaml:"path"`
		Min  *uint64 `yaml:"min"`
		Max  *uint64 `yaml:"max"`
	}
	if err := strict(n, []string{"path", "min", "max"}); err != nil {
		return err
	}
	if err := n.Decode(&fields); err != nil {
		return err
	}
	if fields.Min == nil && fields.Max == nil {
		return fmt.Errorf("line %d: a bound needs min or max", n.Line)
	}
	b.Path, b.Max = fields.Path, fields.Max
	if fields.Min != nil {
		b.Min = *fields.Min
	}
	if b.Max != nil && *b.Max < b.Min {
		return fmt.Errorf("line %d: max is %d, less than min %d", n.Line, *b.Max, b.Min)
	}
	if b.Path != "" && b.Path[0] != '/' {
		b.Path = "/computeMetadata/v1/" + b.Path
	}
	return nil
}

// strict refuses keys that are not known, which Node.Decode does not.
func strict(n *yaml.Node, known []string) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %q: write a map of %s", n.Line, n.Value, strings.Join(known, ", "))
	}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		found := false
		for _, name := range known {
			found = found || name == key.Value
		}
		if !found {
			return fmt.Errorf("line %d: unknown key %q: use %s", key.Line, key.Value, strings.Join(known, ", "))
		}
	}
	return nil
}

func (s *step) readExpect(n *yaml.Node) error {
	if err := strict(n, []string{"waiting", "requests", "preempted", "http", "status", "contains", "within"}); err != nil {
		return err
	}
	s.expect = &expectation{}
	if err := n.Decode(s.expect); err != nil {
		return err
	}
	if err := s.expect.valid(); err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	return nil
}

// valid says what does not fit.
func (e *expectation) valid() error {
	if e.HTTP != "" {
		if u, err := url.Parse(e.HTTP); err != nil || !strings.HasPrefix(u.Scheme, "http") || u.Host == "" {
			return fmt.Errorf("http is %q: write a URL such as http://localhost:8111/readiness", e.HTTP)
		}
	}
	switch {
	case e.Waiting == nil && e.Requests == nil && e.Preempted == nil && e.HTTP == "":
		return errors.New("expect is empty: use waiting, requests, preempted or http")
	case e.HTTP == "" && (e.Status != 0 || e.Contains != ""):
		return errors.New("status and contains need http, a URL")
	case e.Waiting != nil && e.Waiting.Path != "":
		return errors.New("waiting has no path")
	}
	return nil
}

// await looks until all holds, or the time is over.
func (e *expectation) await(ctx context.Context, m *metadata.Server) error {
	within := defaultWithin
	if e.Within != nil {
		within = time.Duration(*e.Within)
	}
	deadline := time.Now().Add(within)
	for {
		err := e.check(ctx, m)
		if err == nil {
			return nil
		}
		if !time.Now().Before(deadline) {
			return fmt.Errorf("%w, not within %v", err, within)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(lookAgain):
		}
	}
}

// check says what does not hold now.
func (e *expectation) check(ctx context.Context, m *metadata.Server) error {
	state := m.State()
	if e.Waiting != nil {
		if err := e.Waiting.check("waiting", uint64(state.Waiting)); err != nil {
			return err
		}
	}
	if e.Requests != nil {
		count := state.Requests
		if e.Requests.Path != "" {
			count = 0
			for path, n := range state.Paths {
				if strings.HasPrefix(path, e.Requests.Path) {
					count += n
				}
			}
		}
		if err := e.Requests.check("requests "+e.Requests.Path, count); err != nil {
			return err
		}
	}
	if e.Preempted != nil && state.Preempted != *e.Preempted {
		return fmt.Errorf("preempted is %t", state.Preempted)
	}
	if e.HTTP != "" {
		return e.ask(ctx)
	}
	return nil
}

func (b *bound) check(what string, got uint64) error {
	what = strings.TrimSpace(what)
	switch {
	case got < b.Min:
		return fmt.Errorf("%s is %d, less than %d", what, got, b.Min)
	case b.Max != nil && got > *b.Max:
		return fmt.Errorf("%s is %d, more than %d", what, got, *b.Max)
	}
	return nil
}

// ask compares an answer of another server.
func (e *expectation) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.HTTP, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read %s: %w", e.HTTP, err)
	}
	status := e.Status
	if status == 0 {
		status = http.StatusOK
	}
	switch {
	case resp.StatusCode != status:
		return fmt.Errorf("%s answers %d, want %d", e.HTTP, resp.StatusCode, status)
	case !strings.Contains(string(body), e.Contains):
		return fmt.Errorf("%s does not contain %q", e.HTTP, e.Contains)
	}
	return nil
}
