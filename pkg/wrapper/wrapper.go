// Package wrapper is the process-wrapper command: its flags and environment,
// and the wiring of all parts into PID 1 of a pod's container.
package wrapper

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/api"
	"github.com/process-wrapper/process-wrapper/pkg/cli"
	"github.com/process-wrapper/process-wrapper/pkg/command"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
)

// flags are the command line; -debug, -version and -h are cli's.
type flags struct {
	Config       string `help:"config file, a directory of *.yaml files, or - for stdin" placeholder:"PATH"`
	ConfigWatch  bool   `help:"reload the config when the file, directory or link of -config changes"`
	SkipCommands string `help:"names of processes not to run, separated by commas" placeholder:"NAMES"`

	ReadinessFile            string        `help:"file that exists while all processes are ready" default:"/tmp/started"`
	GracefulShutdownDeadline time.Duration `help:"time from SIGTERM or SIGQUIT to SIGKILL" default:"10s"`
	DrainDelay               time.Duration `help:"pause between leaving service and the first SIGTERM" default:"0s"`
	EnvoyDrain               bool          `help:"drain Envoy's listeners on preemption"`
	PreemptionProvider       string        `help:"whose metadata server is asked: auto, gce, aws or azure" enum:"auto,gce,aws,azure" default:"auto"`
	PreemptionAction         string        `help:"what a notice does: drain (leave service), terminate (and end) or none (events only)" enum:"drain,terminate,none" default:"drain"`
	PreemptionApprove        bool          `help:"tell Azure when all processes have ended, that the machine may go: for all machines of the event"`
	MainContainers           string        `help:"containers whose end ends the pod, with HANDLE_TERMINATION: all others by default" placeholder:"NAMES"`

	Wait         bool          `help:"wait until the readiness file of another process-wrapper exists"`
	WaitDeadline time.Duration `help:"how long -wait waits" default:"2m0s"`

	ControlSocket string `help:"socket for ctl, or none; by itself control.sock in /run/process-wrapper, else in the temp dir" placeholder:"PATH"`

	PyroscopeURL string `help:"push profiles of the wrapper itself to this server" placeholder:"URL"`

	SharedLock        bool   `help:"run the shared-lock server instead of processes"`
	SharedLockEtcdTLS bool   `help:"use TLS to etcd, with -shared-lock" name:"shared-lock-etcd-tls"`
	SharedLockURL     string `help:"server for lock; replicas of it separated by commas" default:"http://localhost:8191"`

	PrommergeAsync          bool `help:"fetch the targets of /prommerge side by side" default:"true"`
	PrommergeSort           bool `help:"sort the families of /prommerge by name" default:"true"`
	PrommergeEmptyOnFailure bool `help:"leave all targets out when one fails"`
	PrommergeOmitMeta       bool `help:"leave out HELP, TYPE and UNIT"`
	PrommergeSupressErrors  bool `help:"do not log failing targets"`

	Pod      struct{} `cmd:"" default:"withargs" hidden:""`
	Validate struct {
		Path string `arg:"" optional:"" help:"what -config says otherwise"`
	} `cmd:"" uses:"config" help:"check the config, print every error, start nothing"`
	Schema  struct{} `cmd:"" uses:"" help:"print the JSON Schema of the config"`
	Install struct {
		Target string `arg:"" name:"directory or file" help:"where to"`
	} `cmd:"" uses:"" help:"copy this binary, and shared-lock where it lies beside it, to a directory or file"`
	Run        runFlags `cmd:"" uses:"readiness-file,graceful-shutdown-deadline,drain-delay,envoy-drain,control-socket,pyroscope-url,prommerge-async,prommerge-sort,shared-lock-url" help:"run one program without a config file: run -ready-tcp localhost:80 -- nginx -g 'daemon off;'"`
	Completion struct {
		Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish"`
	} `cmd:"" uses:"" help:"print a script that teaches a shell to complete our command line"`
	Complete struct {
		Words []string `arg:"" optional:"" passthrough:""`
	} `cmd:"" hidden:""`
	Ctl ctl `cmd:"" uses:"control-socket" help:"look at and control the processes of a running process-wrapper"`
}

// environment are the variables without a flag.
type environment struct {
	config, healthSocket, logFormat, metricsServer, podName string
	handlePreemption, handleTermination                     string
	metadataURL, metadataHost, envoyDrainURL                string
	extraLabels, labelsFile, labelsExclude                  string
	lockToken, lockCA, lockCert, lockKey                    string
}

func (e *environment) list() []cli.EnvVar {
	return []cli.EnvVar{
		{Name: "CONFIG", Help: "config as JSON or YAML, used without -config", Value: &e.config},
		{Name: "HEALTH_SOCKET", Default: ":8111", Help: "address of the HTTP endpoints", Value: &e.healthSocket},
		{Name: "LOG_FORMAT", Default: "wrap", Help: "what becomes of the processes' output: wrap, auto, free or plain", Value: &e.logFormat},
		{Name: "POD_NAME", Help: "metadata.name in valueFrom.fieldRef, else HOSTNAME", Value: &e.podName},
		{Name: "POD_NAMESPACE", Help: "metadata.namespace in valueFrom.fieldRef"},
		{Name: "NODE_NAME", Help: "spec.nodeName in valueFrom.fieldRef"},
		{Name: "HOSTNAME", Help: "name of the pod where POD_NAME is not set"},
		{Name: "HANDLE_PREEMPTION", Help: "leave service when the node is preempted: 1, true or enabled", Value: &e.handlePreemption},
		{Name: "METADATA_URL", Help: "URL of the key preempted of GCE's metadata server; without it, the cloud is found out", Value: &e.metadataURL},
		{Name: "GCE_METADATA_HOST", Help: "host:port of GCE's metadata server", Value: &e.metadataHost},
		{Name: "ENVOY_DRAIN_URL", Default: "http://localhost:15000/drain_listeners", Help: "what -envoy-drain posts to, used as it is", Value: &e.envoyDrainURL},
		{Name: "HANDLE_TERMINATION", Help: "end with the pod's main containers, leave service when Kubernetes evicts it: 1, true or enabled", Value: &e.handleTermination},
		{Name: envMySQL, Help: "database of sql checks and hooks, user:password@tcp(host:port)/database"},
		{Name: envPostgres, Help: "database of sql checks and hooks, postgres://user:password@host:port/database"},
		{Name: envAMQP, Default: defaultAMQP, Help: "broker of amqp checks; the first %v is the user, the second the password"},
		{Name: envAMQPUser, Default: defaultAMQPUser, Help: "user of amqp checks"},
		{Name: envAMQPPass, Default: defaultAMQPUser, Help: "password of amqp checks"},
		{Name: "SHARED_LOCK_TOKEN_FILE", Help: "file with the bearer token for -shared-lock-url", Value: &e.lockToken},
		{Name: "SHARED_LOCK_CA_CERT", Help: "file with the CA of that server", Value: &e.lockCA},
		{Name: "SHARED_LOCK_CLIENT_CERT", Help: "file with a certificate for that server", Value: &e.lockCert},
		{Name: "SHARED_LOCK_CLIENT_KEY", Help: "file with the key to it", Value: &e.lockKey},
		{Name: "SHARED_LEASE_SOCKET", Default: ":8191", Help: "with -shared-lock: address to listen on"},
		{Name: "SHARED_LEASE_ETCD_ENDPOINTS", Default: "localhost:2379", Help: "with -shared-lock: members of etcd, separated by commas"},
		{Name: "SHARED_LEASE_ETCD_CA_CERT", Help: "with -shared-lock: file with the CA of etcd"},
		{Name: "SHARED_LEASE_ETCD_CLIENT_CERT", Help: "with -shared-lock: file with a certificate for etcd"},
		{Name: "SHARED_LEASE_ETCD_CLIENT_KEY", Help: "with -shared-lock: file with the key to it"},
		{Name: "METRICS_SERVER_ADDRESS", Help: "UDP host:port of a metrics-server that gets events", Value: &e.metricsServer},
		{Name: "METRICS_JSON_EXTRA_LABELS", Help: "labels of events as a JSON object of strings", Value: &e.extraLabels},
		{Name: "METRICS_EXTRA_LABELS_FILE_PATH", Help: "file with labels of events, as the downward API writes a pod's labels", Value: &e.labelsFile},
		{Name: "METRICS_EXTRA_LABELS_FILE_EXCLUDE", Help: "keys of that file to leave out, separated by commas", Value: &e.labelsExclude},
	}
}

// Main runs process-wrapper and exits.
func Main() {
	command.Init() // does not return in a child that is still to become its program
	// The kernel gives signals to the first thread, and to no other while that one
	// hangs, as in a file system that does not answer. So nothing else uses it.
	runtime.LockOSThread()
	caught := catch() // before all that takes time: until here a signal ends us
	cli.Main(program(new(flags), new(environment), terminationLogPath, caught))
}

// program is the command; why it fails goes to the file lastWords too.
func program(f *flags, env *environment, lastWords string, caught *signals) cli.Program {
	return cli.Program{
		Name:    "process-wrapper",
		About:   "runs the processes of a pod's container as Kubernetes runs its containers",
		Flags:   f,
		Env:     env.list(),
		OnError: func(err error) { terminationLog(lastWords, err.Error()) },
		Run: func(ctx context.Context, call *cli.Call) error {
			return dispatch(ctx, call, f, env, caught)
		},
	}
}

func dispatch(ctx context.Context, call *cli.Call, f *flags, env *environment, caught *signals) error {
	if err := refuse(f); err != nil {
		return err
	}
	if f.SharedLock && call.Command == "pod" {
		return execSharedLock(call, f)
	}
	if !f.Wait && (call.Command == "run" || call.Command == "pod") {
		defer caught.release()
		if call.Command == "run" {
			if err := f.Run.write(f); err != nil {
				return err
			}
		}
		return run(ctx, call, f, env, caught)
	}
	caught.yield()
	return assist(ctx, call, f, env)
}

// assist does all that runs no processes.
func assist(ctx context.Context, call *cli.Call, f *flags, env *environment) error {
	switch call.Command {
	case "validate":
		return validate(call, f, env)
	case "schema":
		_, err := call.Stdout.Write(spec.Schema())
		return err
	case "install":
		return install(call, f.Install.Target)
	case "completion":
		_, err := io.WriteString(call.Stdout, completions[f.Completion.Shell])
		return err
	case "complete":
		return completeWords(ctx, call, f)
	}
	if verb, ok := strings.CutPrefix(call.Command, "ctl "); ok {
		return f.Ctl.run(ctx, call, f.ControlSocket, verb)
	}
	return wait(ctx, f)
}

// refuse says which flags contradict each other or themselves.
func refuse(f *flags) error {
	if f.SharedLock && f.Config != "" {
		return cli.Usagef("-shared-lock runs the shared-lock server instead of processes: leave -config %s out", f.Config)
	}
	if f.ConfigWatch && (f.Config == "" || f.Config == "-") {
		return cli.Usagef("-config-watch needs a file or directory in -config")
	}
	if f.GracefulShutdownDeadline < 0 || f.DrainDelay < 0 || f.WaitDeadline < 0 {
		return cli.Usagef("a duration is negative: -graceful-shutdown-deadline %v, -drain-delay %v, -wait-deadline %v", f.GracefulShutdownDeadline, f.DrainDelay, f.WaitDeadline)
	}
	return nil
}

func enabled(value string) bool {
	switch value {
	case "1", "true", "enabled":
		return true
	}
	return false
}

// unclear reports whether a value may have been meant to switch something on.
func unclear(value string) bool {
	switch strings.ToLower(value) {
	case "", "0", "false", "disabled", "no", "off":
		return false
	}
	return !enabled(value)
}

// wait is -wait: it returns when the processes of another wrapper are ready.
func wait(ctx context.Context, f *flags) error {
	ctx, cancel := cli.SignalContext(ctx)
	defer cancel()
	if err := api.Wait(ctx, f.ReadinessFile, f.WaitDeadline); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	return nil
}
