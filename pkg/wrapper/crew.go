package wrapper

import (
	"reflect"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/process"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
	"github.com/process-wrapper/process-wrapper/pkg/status"
	"github.com/process-wrapper/process-wrapper/pkg/supervisor"
)

// crew are all processes of the config, by name.
type crew map[string]*member

// member is one of them: what the config says, and what came of it.
type member struct {
	spec    *spec.Process
	cfg     process.Config
	proc    *process.Process
	starter *starter
	skipped bool // it is never run
}

// member makes one of what the config says.
func (b *builder) member(s *spec.Process, board *status.Board) (*member, error) {
	cfg, starter, err := b.process(s)
	if err != nil {
		return nil, cli.Usagef("%s: process %s: %w", s.Source, s.Name, err)
	}
	b.outbox.Command(s.Name, s.Exec.Command[0])
	return &member{spec: s, cfg: cfg, proc: process.New(cfg, board), starter: starter}, nil
}

// unit is what the supervisor knows of a member.
func (m *member) unit() supervisor.Unit {
	u := supervisor.Unit{Name: m.spec.Name, Run: m.proc.Run, Essential: m.spec.Essential}
	for _, d := range m.cfg.DependsOn {
		u.Needs = append(u.Needs, d.Names)
	}
	return u
}

// difference is what has to be done so that a process is what another config
// says.
type difference int

const (
	none    difference = iota
	around             // what is around the command, which goes on
	another            // it is another command, or another way to run it
)

// compare finds the difference of two processes.
func compare(a, b *spec.Process) difference {
	x, y := *a, *b
	x.Source, y.Source = "", "" // where it stands
	if reflect.DeepEqual(x, y) {
		return none
	}
	if reflect.DeepEqual(core(x), core(y)) {
		return around
	}
	return another
}

// core is what cannot be changed while the command runs.
func core(p spec.Process) spec.Process {
	p.Readiness = spec.Readiness{Lock: p.Readiness.Lock}
	p.StartupProbe, p.LivenessProbe, p.ReadinessProbe = nil, nil, nil
	p.DependsOn, p.Essential = nil, false
	p.RestartPolicy, p.Backoff, p.MaxRestarts = "", spec.Backoff{}, nil
	p.StopSignal, p.StopTimeout = 0, nil
	p.PostStart, p.Lifecycle = nil, spec.Lifecycle{}
	p.PromTarget = ""
	return p
}
