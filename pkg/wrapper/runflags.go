package wrapper

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
)

// runFlags say how the program of the command line is run: the common keys of a
// process.
type runFlags struct {
	Name          string   `help:"name of the process; that of the program by default"`
	Env           []string `short:"e" sep:"none" help:"a variable, again for more" placeholder:"NAME=VALUE"`
	Dir           string   `help:"working directory"`
	User          string   `help:"user to run as"`
	Group         string   `help:"group to run as"`
	Replicas      int      `help:"number of copies" default:"1"`
	Restart       string   `help:"always, onFailure or never" default:"always"`
	StopSignal    string   `help:"signal that stops it" default:"SIGTERM"`
	StopTimeout   string   `help:"time from that to SIGKILL" placeholder:"DURATION"`
	MemoryLimitMB int      `help:"restart it above that, with its whole tree" name:"memory-limit-mb" placeholder:"MIB"`
	PromTarget    string   `help:"its metrics, for /prommerge" placeholder:"URL"`
	ReadyHTTP     string   `help:"it is ready while a GET of this succeeds" name:"ready-http" placeholder:"URL"`
	ReadyTCP      string   `help:"it is ready while this accepts" name:"ready-tcp" placeholder:"HOST:PORT"`
	ReadyDelay    string   `help:"pause before the first check" default:"5s"`
	ReadyPeriod   string   `help:"pause between two checks" default:"5s"`
	Command       []string `arg:"" passthrough:"partial" help:"program and arguments"`

	config []byte // what they come to
}

// write makes a config of the flags, which is checked as any other.
func (r *runFlags) write(f *flags) error {
	if f.Config != "" {
		return cli.Usagef("run and -config exclude each other: %s says what to run", f.Config)
	}
	argv := r.Command
	if len(argv) > 0 && argv[0] == "--" {
		argv = argv[1:]
	}
	if len(argv) == 0 {
		return cli.Usagef("run has nothing to run: run -- PROGRAM ARGS...")
	}
	p := map[string]any{
		"name": r.Name, "entrypoint": argv[0], "args": argv[1:], "restartPolicy": r.Restart, "stopSignal": r.StopSignal,
	}
	if r.Name == "" {
		p["name"] = filepath.Base(argv[0])
	}
	for key, value := range map[string]string{"dir": r.Dir, "user": r.User, "group": r.Group, "stopTimeout": r.StopTimeout, "promTarget": r.PromTarget} {
		if value != "" {
			p[key] = value
		}
	}
	if r.Replicas != 1 {
		p["replicas"] = r.Replicas
	}
	if r.MemoryLimitMB != 0 {
		p["memoryLimitMB"] = r.MemoryLimitMB
	}
	if len(r.Env) > 0 {
		envs, err := r.envs()
		if err != nil {
			return err
		}
		p["envs"] = envs
	}
	checks := map[string]any{"delay": r.ReadyDelay, "period": r.ReadyPeriod}
	if r.ReadyHTTP != "" {
		checks["http"] = map[string]string{"url": r.ReadyHTTP}
	}
	if r.ReadyTCP != "" {
		checks["tcp"] = map[string]string{"socket": r.ReadyTCP}
	}
	p["readiness"] = checks
	text, err := json.Marshal([]any{p})
	if err != nil {
		return fmt.Errorf("write config: %w", err)
	}
	r.config = text
	return nil
}

func (r *runFlags) envs() (map[string]string, error) {
	envs := make(map[string]string, len(r.Env))
	for _, kv := range r.Env {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			return nil, cli.Usagef("-env wants NAME=VALUE, such as -env PORT=80") // which may be a secret
		}
		envs[name] = value
	}
	return envs, nil
}
