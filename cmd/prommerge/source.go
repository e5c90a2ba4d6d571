package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/prommerge"
)

// refresh is how often files of targets are looked at, when a scrape comes.
const refresh = 5 * time.Second

// source is where the targets come from: the command line, the config file and the files that it names. What was
// good stays in use when a file turns bad.
type source struct {
	path string
	args []prommerge.Target
	log  *slog.Logger

	mu         sync.Mutex // guards all below
	static     []prommerge.Target
	patterns   []string
	files      map[string]*sdFile
	looked     time.Time
	warned     map[string]bool // names that two targets have
	targets    []prommerge.Target
	reloads    int
	reloadOK   bool
	reloadTime time.Time
}

// sdFile is a file in file_sd format as it was last read.
type sdFile struct {
	modified time.Time
	size     int64
	targets  []prommerge.Target
}

func newSource(path string, args []string, log *slog.Logger) (*source, error) {
	s := &source{path: path, log: log}
	for _, a := range args {
		name, url, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("-target %q: write name=url", a)
		}
		if err := checkURL(url); err != nil {
			return nil, fmt.Errorf("-target %s: %w", name, err)
		}
		s.args = append(s.args, prommerge.Target{Name: name, URL: url})
	}
	if path == "" && len(args) == 0 {
		return nil, errors.New("no targets: give -config FILE or -target NAME=URL")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s, s.load()
}

// Reload reads all files again.
func (s *source) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.load()
	if err != nil {
		s.log.Error("config is bad, the old one stays in use", "err", err)
		return err
	}
	s.log.Info("config read", "targets", len(s.targets))
	return nil
}

// load reads the config; s.mu is held.
func (s *source) load() error {
	s.reloads++
	s.reloadOK = false
	var c config
	if s.path != "" {
		var err error
		if c, err = readConfig(s.path); err != nil {
			return err
		}
	}
	static := slices.Clone(s.args)
	for i := range c.Targets {
		t, err := c.Targets[i].target()
		if err != nil {
			return fmt.Errorf("%s: %w", s.path, err)
		}
		static = append(static, t)
	}
	if name := twice(static); name != "" {
		return fmt.Errorf("two targets are called %q: a name is the value of %s", name, prommerge.LabelName)
	}
	for i, p := range c.FileSD {
		if _, err := filepath.Match(p, ""); err != nil {
			return fmt.Errorf("%s: fileSD %q: %w", s.path, p, err)
		}
		if !filepath.IsAbs(p) {
			c.FileSD[i] = filepath.Join(filepath.Dir(s.path), p)
		}
	}
	s.closeIdle()
	s.static, s.patterns, s.warned = static, c.FileSD, map[string]bool{}
	for _, f := range s.files {
		f.modified = time.Time{} // to be read again
	}
	s.reloadOK, s.reloadTime = true, time.Now()
	s.discover()
	return nil
}

// closeIdle gives up the connections of clients that are about to be replaced.
func (s *source) closeIdle() {
	for i := range s.static {
		if c := s.static[i].Client; c != nil {
			c.CloseIdleConnections()
		}
	}
}

// Targets returns all targets. Files that changed are read again.
func (s *source) Targets() []prommerge.Target {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.patterns) > 0 && time.Since(s.looked) > refresh {
		s.discover()
	}
	return s.targets
}

// discover reads the files of targets that changed; s.mu is held.
func (s *source) discover() {
	s.looked = time.Now()
	targets := slices.Clone(s.static)
	found := map[string]*sdFile{}
	for _, pattern := range s.patterns {
		paths, _ := filepath.Glob(pattern) // the pattern is good: it was checked
		for _, path := range paths {
			f := s.readSD(path)
			found[path] = f
			targets = append(targets, f.targets...)
		}
	}
	s.files = found
	seen := map[string]string{}
	s.targets = slices.DeleteFunc(targets, func(t prommerge.Target) bool {
		first, again := seen[t.Name]
		if !again {
			seen[t.Name] = t.URL
			return false
		}
		if !s.warned[t.Name] { // once
			s.warned[t.Name] = true
			s.log.Warn("two targets have one name, the first is taken; give each a group with its own label process_name",
				"name", t.Name, "first", redacted(first), "other", redacted(t.URL))
		}
		return true
	})
	spareMemory(len(s.targets))
}

// spareMemory lets garbage be collected earlier where there are many targets: what requests leave behind may then grow
// as large as all pages. Collecting costs little, for pages hold no pointers.
func spareMemory(targets int) {
	percent := 100
	if targets > 200 {
		percent = 25
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// readSD returns the file at path, as it was last time if it has not changed or is bad.
func (s *source) readSD(path string) *sdFile {
	old := s.files[path]
	if old == nil {
		old = &sdFile{}
	}
	info, err := os.Stat(path)
	if err != nil {
		s.log.Warn("file of targets cannot be read", "path", path, "err", err)
		return old
	}
	if info.ModTime().Equal(old.modified) && info.Size() == old.size {
		return old
	}
	f := &sdFile{modified: info.ModTime(), size: info.Size()}
	if f.targets, err = parseSD(path); err != nil {
		s.log.Warn("file of targets is bad, what it said before stays in use", "path", path, "err", err)
		f.targets = old.targets
	}
	return f
}

// sdGroup is an element of a file in Prometheus' file_sd format.
type sdGroup struct {
	Targets []string          `yaml:"targets"`
	Labels  map[string]string `yaml:"labels"`
}

// parseSD reads a file in file_sd format, JSON or YAML.
func parseSD(path string) (out []prommerge.Target, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var groups []sdGroup
	if err := decode(b, &groups); err != nil {
		return nil, err
	}
	for _, g := range groups {
		for _, address := range g.Targets {
			t, err := g.target(address)
			if err != nil {
				return nil, fmt.Errorf("target %q: %w", address, err)
			}
			out = append(out, t)
		}
	}
	return out, nil
}

// target returns one target of g. It is called by its label process_name if it is alone, else by its address. Of
// the labels that begin with two underscores it uses what Prometheus does, and leaves out the rest.
func (g *sdGroup) target(address string) (t prommerge.Target, err error) {
	t = prommerge.Target{Name: address, Labels: map[string]string{}}
	u := url.URL{Scheme: "http", Host: address, Path: "/metrics"}
	params := url.Values{}
	for k, v := range g.Labels {
		param, isParam := strings.CutPrefix(k, "__param_")
		switch {
		case k == "__scheme__":
			u.Scheme = v
		case k == "__metrics_path__":
			u.Path, u.RawQuery, _ = strings.Cut(v, "?")
		case k == "__scrape_timeout__":
			if t.Timeout, err = time.ParseDuration(v); err != nil || t.Timeout <= 0 {
				return t, fmt.Errorf("__scrape_timeout__ %q is not a duration: write 500ms, 5s or 1m", v)
			}
		case isParam:
			params.Set(param, v)
		case k == prommerge.LabelName && len(g.Targets) == 1:
			t.Name = v
		case !strings.HasPrefix(k, "__"):
			t.Labels[k] = v
		}
	}
	if len(params) > 0 {
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+params.Encode(), "&")
	}
	t.URL = u.String()
	return t, checkURL(t.URL)
}

// twice returns a name that two targets have, or "".
func twice(targets []prommerge.Target) string {
	seen := map[string]bool{}
	for i := range targets {
		if seen[targets[i].Name] {
			return targets[i].Name
		}
		seen[targets[i].Name] = true
	}
	return ""
}
