package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gopkg.in/yaml.v3"

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
	s.static, s.patterns, s.files = static, c.FileSD, map[string]*sdFile{}
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
	seen := map[string]bool{}
	s.targets = slices.DeleteFunc(targets, func(t prommerge.Target) bool {
		again := seen[t.Name]
		seen[t.Name] = true
		return again
	})
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

// parseSD reads a file in Prometheus' file_sd format, JSON or YAML. A target is called by its label process_name,
// else by its address.
func parseSD(path string) ([]prommerge.Target, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var groups []struct {
		Targets []string          `yaml:"targets"`
		Labels  map[string]string `yaml:"labels"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&groups); err != nil {
		return nil, err
	}
	var out []prommerge.Target
	for _, g := range groups {
		for _, address := range g.Targets {
			t := prommerge.Target{Name: address, Labels: map[string]string{}}
			scheme, metricsPath := "http", "/metrics"
			for k, v := range g.Labels {
				switch {
				case k == "__scheme__":
					scheme = v
				case k == "__metrics_path__":
					metricsPath = v
				case k == prommerge.LabelName && len(g.Targets) == 1:
					t.Name = v
				case !strings.HasPrefix(k, "__"):
					t.Labels[k] = v
				}
			}
			t.URL = scheme + "://" + address + metricsPath
			if err := checkURL(t.URL); err != nil {
				return nil, fmt.Errorf("target %q: %w", address, err)
			}
			out = append(out, t)
		}
	}
	return out, nil
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
