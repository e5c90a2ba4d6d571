package mock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/metadata"
)

// maxScenario bounds the file.
const maxScenario = 1 << 20

// A scenario is a list of steps, each at its time.
type scenario struct {
	Personality string   `yaml:"personality"`
	Notice      duration `yaml:"notice"`
	WarmUp      duration `yaml:"warmUp"`
	Seed        *uint64  `yaml:"seed"`
	Steps       []*step  `yaml:"steps"`
}

// A step does one thing.
type step struct {
	at      time.Duration
	line    int
	command string            // of metadata.Server.Do, or expect
	fields  map[string]string // of the command
	expect  *expectation
}

// duration is a time.Duration written as 5s.
type duration time.Duration

// UnmarshalYAML reads 5s.
func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q is no duration: write 500ms, 5s or 1m", n.Line, n.Value)
	}
	*d = duration(v)
	return nil
}

// actions are the keys of a step, with the command for each and the field that a value alone stands for.
var actions = map[string]struct{ command, field string }{
	"preempt":     {"preempt", ""},
	"maintenance": {"maintenance", "event"},
	"rebalance":   {"rebalance", ""},
	"azureEvent":  {"azure-event", "type"},
	"cancel":      {"cancel", ""},
	"fault":       {"fault", "mode"},
	"set":         {"set", ""},
	"delete":      {"delete", "path"},
	"reset":       {"reset", ""},
	"expect":      {"expect", ""},
}

const actionNames = "preempt, maintenance, rebalance, azureEvent, cancel, fault, set, delete, reset or expect"

// readScenario reads and checks a file.
func readScenario(name string) (*scenario, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxScenario+1))
	if err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	if len(b) > maxScenario {
		return nil, fmt.Errorf("scenario %s is larger than %d bytes", name, maxScenario)
	}
	sc, err := parseScenario(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return sc, nil
}

func parseScenario(b []byte) (*scenario, error) {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	var sc scenario
	if err := d.Decode(&sc); err != nil && !errors.Is(err, io.EOF) {
		return nil, readable(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is a second document: a scenario is one")
	}
	if len(sc.Steps) == 0 {
		return nil, errors.New("there are no steps: write steps: [{at: 5s, preempt: true}]")
	}
	return &sc, sc.rehearse()
}

// readable takes Go's types out of the messages of the YAML package.
func readable(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:\n  ")
	text = strings.TrimPrefix(text, "yaml: ")
	text = strings.ReplaceAll(text, " not found in type mock.scenario", " is unknown: use personality, notice, warmUp, seed, steps")
	for from, to := range map[string]string{"into uint64": "into a whole number", "into []*mock.step": "into a list of steps", "into string": "into a text", "!!": ""} {
		text = strings.ReplaceAll(text, from, to)
	}
	return errors.New(strings.ReplaceAll(text, "\n  ", "\n"))
}

// rehearse runs the commands on a server that nobody asks, so that what is wrong is found before anything starts.
func (sc *scenario) rehearse() error {
	m, err := metadata.NewServer(metadata.Config{Personality: metadata.Personality(sc.Personality)})
	if err != nil {
		return err
	}
	defer m.Close()
	var last time.Duration
	for _, s := range sc.Steps {
		if s == nil {
			return errors.New("a step is empty: write {at: 5s, preempt: true}")
		}
		if s.at < last {
			return fmt.Errorf("line %d: at is %v, the step before is at %v: put the steps in order", s.line, s.at, last)
		}
		last = s.at
		if s.command == "expect" {
			continue
		}
		if _, err := m.Do(context.Background(), s.command, s.fields); err != nil {
			return fmt.Errorf("line %d: %w", s.line, err)
		}
	}
	return nil
}

// UnmarshalYAML reads {at: 5s, preempt: true}.
func (s *step) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: a step is a map: {at: 5s, preempt: true}", n.Line)
	}
	s.line = n.Line
	seen := map[string]bool{}
	for pair := range slices.Chunk(n.Content, 2) {
		key, value := pair[0].Value, pair[1]
		if seen[key] {
			return fmt.Errorf("line %d: %q is given twice", pair[0].Line, key)
		}
		seen[key] = true
		if key == "at" {
			if err := (*duration)(&s.at).UnmarshalYAML(value); err != nil {
				return err
			}
			if s.at < 0 {
				return fmt.Errorf("line %d: at is below zero", value.Line)
			}
			continue
		}
		action, known := actions[key]
		switch {
		case !known:
			return fmt.Errorf("line %d: %q is no step: use at and one of %s", pair[0].Line, key, actionNames)
		case s.command != "":
			return fmt.Errorf("line %d: a step does one thing: put %s into a step of its own", pair[0].Line, key)
		}
		s.command = action.command
		if err := s.read(key, action.field, value); err != nil {
			return err
		}
	}
	if s.command == "" || !seen["at"] {
		return fmt.Errorf("line %d: a step has a time and something to do: {at: 5s, preempt: true}", n.Line)
	}
	return nil
}

// read reads what belongs to an action: true, a value that stands for one field, or a map.
func (s *step) read(key, field string, value *yaml.Node) error {
	if key == "expect" {
		return s.readExpect(value)
	}
	if value.Kind == yaml.MappingNode {
		return value.Decode(&s.fields)
	}
	switch {
	case value.Kind != yaml.ScalarNode, value.Tag == "!!null":
	case value.Value == "true" && key != "set" && key != "delete" && key != "fault" && key != "azureEvent":
		return nil
	case field != "":
		if _, err := strconv.Atoi(value.Value); err == nil && field == "mode" {
			field = "status"
		}
		s.fields = map[string]string{field: value.Value}
		return nil
	}
	return fmt.Errorf("line %d: %s is %q: write true, or a map of its fields", value.Line, key, value.Value)
}

// apply puts what the file says where no flag does.
func (sc *scenario) apply(f *flags, given func(string) bool) {
	if sc.Personality != "" && !given("personality") {
		f.Personality = sc.Personality
	}
	if sc.Notice != 0 && !given("notice") {
		f.Notice = time.Duration(sc.Notice)
	}
	if sc.WarmUp != 0 && !given("warm-up") {
		f.WarmUp = time.Duration(sc.WarmUp)
	}
	if sc.Seed != nil && !given("seed") {
		f.Seed = *sc.Seed
	}
}

// run does the steps. The clock stands still while an expectation is awaited, so that the steps after it keep
// their distances. It returns an error with the exit code 1 if an expectation did not hold, or if ctx ended
// before the last step.
func (sc *scenario) run(ctx context.Context, m *metadata.Server, log *slog.Logger) error {
	start := time.Now()
	failed := 0
	for i, s := range sc.Steps {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the scenario was stopped before step %d of %d", i+1, len(sc.Steps))
		case <-time.After(time.Until(start.Add(s.at))):
		}
		log.Info("step", "at", s.at.String(), "line", s.line, "does", s.command)
		var err error
		if s.command == "expect" {
			began := time.Now()
			err = s.expect.await(ctx, m)
			start = start.Add(time.Since(began))
		} else {
			_, err = m.Do(ctx, s.command, s.fields)
		}
		if err != nil {
			failed++
			log.Error("step failed", "at", s.at.String(), "line", s.line, "err", err)
		}
	}
	if failed > 0 {
		return &cli.ExitError{Code: 1, Err: fmt.Errorf("the scenario failed: %d of %d steps", failed, len(sc.Steps))}
	}
	log.Info("the scenario passed", "steps", len(sc.Steps))
	return nil
}
