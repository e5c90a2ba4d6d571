package spec

import (
	"syscall"
	"time"
)

// RestartPolicy says after which ends a process is started again.
type RestartPolicy string

// The restart policies.
const (
	RestartAlways    RestartPolicy = "always"
	RestartOnFailure RestartPolicy = "onFailure"
	RestartNever     RestartPolicy = "never"
)

// Condition is what a dependency must have come to.
type Condition string

// The conditions of dependsOn.
const (
	DependsStarted   Condition = "started"
	DependsReady     Condition = "ready"
	DependsCompleted Condition = "completed"
)

// Process is one process, with every default applied. Each replica has its own
// copy of everything but Dependency.Processes.
type Process struct {
	Name    string
	Base    string // Name, or what stood in the file before replicas made Name of it
	Replica int    // from 0
	Source  string // file:line:column of its entry

	Exec     Exec   // what runs
	Dir      string // "": the wrapper's
	Env      Env    // what its environment is made of
	Labels   map[string]string
	Identity Identity
	Sys      Sys

	DependsOn      []Dependency
	RestartPolicy  RestartPolicy
	Backoff        Backoff
	MaxRestarts    *MaxRestarts // nil: no limit
	Essential      bool
	StopSignal     syscall.Signal
	StopTimeout    *time.Duration // nil: the global deadline; 0: KILL at once
	LogFormat      string         // wrap, auto, free, plain; "": as LOG_FORMAT
	Log            Log
	PromTarget     string // URL or ""
	MemoryLimit    int64  // bytes of the whole tree; 0: none
	Readiness      Readiness
	StartupProbe   *Probe
	LivenessProbe  *Probe
	ReadinessProbe *Probe
	PostStart      *PostStart
	Lifecycle      Lifecycle
}

// Expansion is how $(NAME) is replaced in a command.
type Expansion string

// The kinds of expansion. Where a config uses the keys of Kubernetes, its rules
// hold to the letter, so $$ is $. Where it uses the established keys, only
// $(NAME) with a known NAME and $$(NAME) are touched, so a shell's $$ survives.
const (
	ExpandNone       Expansion = ""
	ExpandKnown      Expansion = "known"
	ExpandKubernetes Expansion = "kubernetes"
)

// Exec is a command: of a process, a probe or a hook.
type Exec struct {
	Command []string // entrypoint and arguments, not expanded; see [Exec.Argv]
	Expand  Expansion
	Envs    []EnvVar      // added to the process's environment
	Timeout time.Duration // of a readiness check; 0 elsewhere
}

// Env is what the environment of a process is made of; see [Process.Environ].
type Env struct {
	Files []EnvFile // envFrom
	Envs  []EnvVar  // envs, in the order of the file
	Vars  []EnvVar  // env
	File  string    // envsFile, or ""
}

// Paths are the files that are read for it.
func (e *Env) Paths() []string {
	var paths []string
	for _, f := range e.Files {
		paths = append(paths, f.Path)
	}
	if e.File != "" {
		paths = append(paths, e.File)
	}
	return paths
}

// EnvVar is one variable.
type EnvVar struct {
	Name   string
	Value  string    // not expanded
	Field  string    // metadata.name, metadata.namespace, spec.nodeName, or ""
	Expand Expansion // of Value
}

// EnvFile is an element of envFrom.
type EnvFile struct {
	Path     string
	Prefix   string // put before each name
	Optional bool   // a missing file is no error
}

// Dependency is what must be there before a process starts.
type Dependency struct {
	Name      string // as written
	Condition Condition
	Processes []string // Name, or all replicas of it; shared by replicas: not to be changed
}

// Backoff is the pause before a restart: Initial × Factor^n, at most Max, ±
// Jitter of it. A run longer than ResetAfter resets n, and is followed by a
// restart at once.
type Backoff struct {
	Initial, Max time.Duration
	Factor       float64
	Jitter       float64 // 0.1 is ±10 %
	ResetAfter   time.Duration
}

// MaxRestarts ends a process that needs more than Count restarts Within a time.
type MaxRestarts struct {
	Count  int
	Within time.Duration // 0: ever
}

// Log is what is done with output.
type Log struct {
	MaxLineBytes int64
	Rate         Rate
}

// Rate bounds output per second; 0 is no bound.
type Rate struct{ Lines, Bytes int64 }

// PostStart is the hook that runs once per incarnation, after the first good
// round of checks.
type PostStart struct {
	Command  *Exec
	SQL      *SQLHook
	Envs     []EnvVar
	Deadline time.Duration
}

// SQLHook are queries that a hook runs, on the database of a [SQLCheck].
type SQLHook struct {
	Queries     []string
	Driver, DSN string
}

// Lifecycle are the hooks of Kubernetes: PostStart right after the start,
// PreStop before the stop signal.
type Lifecycle struct {
	PostStart *Handler
	PreStop   *Handler
}

// Identity is whom a process runs as. Names are looked up at each start.
type Identity struct {
	User         string  // name or number; "": the wrapper's
	Group        string  // name or number; "": the user's, or the wrapper's
	Groups       []int64 // supplementary; nil: the user's where User is a name, else none
	RunAsNonRoot bool    // refuse to start as uid 0
}

// Sys are the kernel's attributes of a process.
type Sys struct {
	Chroot      string
	Setsid      bool // a session of its own; a process group it has always
	Pdeathsig   syscall.Signal
	AmbientCaps []Cap
	AddCaps     []Cap
	DropCaps    []Cap
	NoNewPrivs  bool
	Umask       *int
	Nice        *int
	OOMScoreAdj *int
	Rlimits     []Rlimit
}
