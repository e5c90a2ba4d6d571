package spec

import "time"

// entry is an element of the list of processes as it is written, before the
// two languages for the same thing are joined. What the tables name is
// exported for package reflect.
type entry struct {
	Process
	at      *at
	visited int

	Entrypoint    string
	Command, Args []string
	WorkingDir    string
	Replicas      *int
	Deps          []dependency
	MemoryMB      int
	Resources     resources
	Grace         *time.Duration // terminationGracePeriodSeconds
	User, Group   string
	NoNewPrivs    bool
	SysProcAttr   sysProcAttr
	Security      security
	Checks        readiness
	Hooks         lifecycle
}

// entryKeys is the table of the keys of a process.
var entryKeys = object{
	name: "process", doc: "One process.",
	fields: []field{
		// What runs.
		{key: "name", doc: "Name of the process: letters, digits and `_.-`, at most 128 bytes; unique.", kind: processName, needed: true},
		{key: "entrypoint", doc: "Program to run: a path, or a name that is looked up in PATH.", kind: filled, what: "program"},
		{key: "command", doc: "Kubernetes: program and leading arguments, instead of entrypoint. `$(NAME)` is expanded as there.", kind: list, of: text, some: true, kube: true},
		{key: "args", doc: "Arguments. `$(NAME)` of a known variable is expanded.", kind: list, of: text, kube: true},
		{key: "dir", doc: "Working directory; the wrapper's by default.", kind: filled, what: "directory"},
		{key: "workingDir", doc: "Kubernetes: the same as dir.", kind: text, kube: true},
		{key: "replicas", doc: "Number of copies, named name_0, name_1, …", kind: integer, low: 1, high: maxProcesses},
		{key: "labels", doc: "Labels of its log lines, events and merged metrics.", kind: labels},

		// Its environment.
		{key: "envs", doc: "Variables of the environment: a map of names and values.", kind: envMap, to: "Env.Envs"},
		{key: "env", doc: "Kubernetes: a list of variables; `$(NAME)` is expanded.", kind: envList, in: &envKeys, to: "Env.Vars", kube: true},
		{key: "envFrom", doc: "Files with variables, read at each start.", kind: envFrom, in: &envFromKeys, to: "Env.Files", kube: true},
		{key: "envsFile", doc: "File with `NAME=value` lines, read at each start; wins over all others.", kind: filled, what: "path", to: "Env.File"},

		// Its life.
		{key: "restartPolicy", doc: "After which ends it is started again; in any case.", kind: oneOf, names: []string{string(RestartAlways), string(RestartOnFailure), string(RestartNever)}, kube: true, def: string(RestartAlways)},
		{key: "backoff", doc: "Pause before a restart.", kind: block, in: &backoffKeys},
		{key: "maxRestarts", doc: "When this is exceeded the process has failed for good.", kind: block, in: &maxRestartsKeys},
		{key: "essential", doc: "When it ends for good, the pod is stopped, with its exit code.", kind: boolean, def: "false"},
		{key: "dependsOn", doc: "Processes that must be there first.", kind: list, of: dependsOn, in: &dependencyKeys, to: "Deps"},
		{key: "stopSignal", doc: "Signal that asks it to stop.", kind: signal, def: "SIGTERM"},
		{key: "stopTimeout", doc: "Time from the stop signal to SIGKILL; the global deadline by default, and never beyond it.", kind: duration},
		{key: "terminationGracePeriodSeconds", doc: "Kubernetes: the same as stopTimeout.", kind: seconds, to: "Grace", kube: true},
		{key: "logFormat", doc: "What is done with its lines; LOG_FORMAT by default.", kind: oneOf, names: []string{"wrap", "auto", "free", "plain"}},
		{key: "log", doc: "Bounds of its output.", kind: block, in: &logKeys},
		{key: "promTarget", doc: "URL of its metrics, for /prommerge.", kind: webURL},
		{key: "memoryLimitMB", doc: "Restart it when its whole tree uses more, in MiB.", kind: mebi, low: 1, high: 1 << 30, to: "MemoryMB"},
		{key: "postStart", doc: "Hook that runs once per start, after the first good round of checks.", kind: block, in: &postStartKeys},

		// Its health.
		{key: "readiness", doc: "Checks. One that fails un-readies; failureThreshold times in a row: restart.", kind: block, in: &checkKeys, to: "Checks"},
		{key: "startupProbe", doc: "Kubernetes: holds the other probes back until it passes.", kind: block, in: &startupKeys, kube: true},
		{key: "livenessProbe", doc: "Kubernetes: restarts.", kind: block, in: &livenessKeys, kube: true},
		{key: "readinessProbe", doc: "Kubernetes: un-readies only.", kind: block, in: &readinessKeys, kube: true},
		{key: "lifecycle", doc: "Kubernetes: hooks.", kind: block, in: &lifecycleKeys, to: "Hooks", kube: true},

		// What the kernel knows of it.
		{key: "user", doc: "User to run as: a name or a number.", kind: filled, what: "user"},
		{key: "group", doc: "Group to run as: a name or a number; the user's by default.", kind: filled, what: "group"},
		{key: "umask", doc: "Octal digits, as in the shell.", kind: umask, to: "Sys.Umask"},
		{key: "nice", doc: "Scheduling priority.", kind: integer, low: -20, high: 19, to: "Sys.Nice"},
		{key: "oomScoreAdj", doc: "Whom the kernel kills first when memory ends: 1000; last: -1000.", kind: integer, low: -1000, high: 1000, to: "Sys.OOMScoreAdj"},
		{key: "rlimits", doc: "Resource limits: {nofile: 65536, core: {soft: 0, hard: unlimited}}.", kind: rlimits, to: "Sys.Rlimits"},
		{key: "noNewPrivs", doc: "It and its children can gain no privileges (set-uid, file capabilities).", kind: boolean, def: "false"},
		{key: "sysProcAttr", doc: "Attributes of the process, as Go's syscall.SysProcAttr names them.", kind: block, in: &sysProcAttrKeys},
		{key: "securityContext", doc: "Kubernetes: whom it runs as.", kind: block, in: &securityKeys, to: "Security", kube: true},
		{key: "resources", doc: "Kubernetes: limits.memory is the same as memoryLimitMB, as a quantity.", kind: block, in: &resourcesKeys, kube: true},
	},
	inert: []string{
		"image", "imagePullPolicy", "ports", "volumeMounts", "volumeDevices", "tty", "stdin", "stdinOnce",
		"terminationMessagePath", "terminationMessagePolicy", "resizePolicy", "restartPolicyRules",
	},
	hints: "after=dependsOn autorestart=restartPolicy cmd=command cwd=dir directory=dir envfile=envsFile environment=envs exec=entrypoint " +
		"gracefulshutdowntimeout=stopTimeout healthcheck=readiness numprocs=replicas requires=dependsOn restart=restartPolicy scale=replicas " +
		"stopsignal=stopSignal ulimits=rlimits",
	check: checkEntry,
}
