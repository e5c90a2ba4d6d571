package spec

import (
	"slices"
	"time"
)

// entry is an element of the list of processes as it is written, before the
// two languages for the same thing are joined.
type entry struct {
	Process
	at *at

	entrypoint    string
	command, args []string
	workingDir    string
	replicas      *int
	deps          []dependency
	memoryMB      int
	resources     resources
	grace         *time.Duration // terminationGracePeriodSeconds
	user, group   string
	noNewPrivs    bool
	sysProcAttr   sysProcAttr
	security      security
	readiness     readiness
	lifecycle     lifecycle
	visited       int
}

// entryObject is the table of the keys of a process.
func entryObject() *object[entry] {
	return &object[entry]{
		name: "process", doc: "One process.",
		fields: slices.Concat(commandFields(), envFields(), lifeFields(), probeFields(), sysFields(), inertFields()),
		hints: map[string]string{
			"cmd": "command", "exec": "entrypoint", "environment": "envs", "envfile": "envsFile", "cwd": "dir",
			"directory": "dir", "restart": "restartPolicy", "autorestart": "restartPolicy", "numprocs": "replicas",
			"scale": "replicas", "healthcheck": "readiness", "after": "dependsOn", "requires": "dependsOn",
			"stopsignal": "stopSignal", "gracefulshutdowntimeout": "stopTimeout", "ulimits": "rlimits",
		},
		check: checkEntry,
	}
}

func commandFields() []field[entry] {
	return []field[entry]{
		key("name", "Name of the process: letters, digits and `_.-`, at most 128 bytes; unique.", processName(), func(e *entry) *string { return &e.Name }).require(),
		key("entrypoint", "Program to run: a path, or a name that is looked up in PATH.", filled("program"), func(e *entry) *string { return &e.entrypoint }),
		key("command", "Kubernetes: program and leading arguments, instead of entrypoint. `$(NAME)` is expanded as there.", some(text()), func(e *entry) *[]string { return &e.command }).asKube(),
		key("args", "Arguments. `$(NAME)` of a known variable is expanded.", list(text()), func(e *entry) *[]string { return &e.args }).asKube(),
		key("dir", "Working directory; the wrapper's by default.", filled("directory"), func(e *entry) *string { return &e.Dir }),
		key("workingDir", "Kubernetes: the same as dir.", text(), func(e *entry) *string { return &e.workingDir }).asKube(),
		key("replicas", "Number of copies, named name_0, name_1, …", optional(integer(1, maxProcesses)), func(e *entry) **int { return &e.replicas }),
		key("labels", "Labels of its log lines, events and merged metrics.", labels(), func(e *entry) *map[string]string { return &e.Labels }),
	}
}

func envFields() []field[entry] {
	return []field[entry]{
		key("envs", "Variables of the environment: a map of names and values.", envMap(), func(e *entry) *[]EnvVar { return &e.Env.Envs }),
		key("env", "Kubernetes: a list of variables; `$(NAME)` is expanded.", envList(), func(e *entry) *[]EnvVar { return &e.Env.Vars }).asKube(),
		key("envFrom", "Files with variables, read at each start.", envFrom(), func(e *entry) *[]EnvFile { return &e.Env.Files }).asKube(),
		key("envsFile", "File with `NAME=value` lines, read at each start; wins over all others.", filled("path"), func(e *entry) *string { return &e.Env.File }),
	}
}

func lifeFields() []field[entry] {
	grace := func(e *entry) **time.Duration { return &e.grace }
	return []field[entry]{
		keyOr("restartPolicy", "After which ends it is started again; in any case.", oneOf(RestartAlways, RestartOnFailure, RestartNever), RestartAlways, func(e *entry) *RestartPolicy { return &e.RestartPolicy }).asKube(),
		sub("backoff", "Pause before a restart.", backoffObject(), func(e *entry) *Backoff { return &e.Backoff }),
		block("maxRestarts", "When this is exceeded the process has failed for good.", maxRestartsObject(), func(e *entry) **MaxRestarts { return &e.MaxRestarts }),
		keyOr("essential", "When it ends for good, the pod is stopped, with its exit code.", boolean(), false, func(e *entry) *bool { return &e.Essential }),
		key("dependsOn", "Processes that must be there first.", dependencies(), func(e *entry) *[]dependency { return &e.deps }),
		keyOr("stopSignal", "Signal that asks it to stop.", signal(), sigTerm, func(e *entry) *sig { return &e.StopSignal }),
		key("stopTimeout", "Time from the stop signal to SIGKILL; the global deadline by default, and never beyond it.", optional(duration(0)), func(e *entry) **time.Duration { return &e.StopTimeout }),
		key("terminationGracePeriodSeconds", "Kubernetes: the same as stopTimeout.", optional(seconds(0)), grace).asKube(),
		key("logFormat", "What is done with its lines; LOG_FORMAT by default.", oneOf("wrap", "auto", "free", "plain"), func(e *entry) *string { return &e.LogFormat }),
		sub("log", "Bounds of its output.", logObject(), func(e *entry) *Log { return &e.Log }),
		key("promTarget", "URL of its metrics, for /prommerge.", webURL(), func(e *entry) *string { return &e.PromTarget }),
		key("memoryLimitMB", "Restart it when its whole tree uses more, in MiB.", megabytes(), func(e *entry) *int { return &e.memoryMB }),
		block("postStart", "Hook that runs once per start, after the first good round of checks.", postStartObject(), func(e *entry) **PostStart { return &e.PostStart }),
	}
}

func probeFields() []field[entry] {
	return []field[entry]{
		sub("readiness", "Checks. One that fails un-readies; failureThreshold times in a row: restart.", readinessObject(), func(e *entry) *readiness { return &e.readiness }),
		block("startupProbe", "Kubernetes: holds the other probes back until it passes.", probeObject("startupProbe"), func(e *entry) **Probe { return &e.StartupProbe }).asKube(),
		block("livenessProbe", "Kubernetes: restarts.", probeObject("livenessProbe"), func(e *entry) **Probe { return &e.LivenessProbe }).asKube(),
		block("readinessProbe", "Kubernetes: un-readies only.", probeObject("readinessProbe"), func(e *entry) **Probe { return &e.ReadinessProbe }).asKube(),
		sub("lifecycle", "Kubernetes: hooks.", lifecycleObject(), func(e *entry) *lifecycle { return &e.lifecycle }).asKube(),
	}
}

func sysFields() []field[entry] {
	return []field[entry]{
		key("user", "User to run as: a name or a number.", filled("user"), func(e *entry) *string { return &e.user }),
		key("group", "Group to run as: a name or a number; the user's by default.", filled("group"), func(e *entry) *string { return &e.group }),
		key("umask", "Octal digits, as in the shell.", optional(umask()), func(e *entry) **int { return &e.Sys.Umask }),
		key("nice", "Scheduling priority.", optional(integer(-20, 19)), func(e *entry) **int { return &e.Sys.Nice }),
		key("oomScoreAdj", "Whom the kernel kills first when memory ends: 1000; last: -1000.", optional(integer(-1000, 1000)), func(e *entry) **int { return &e.Sys.OOMScoreAdj }),
		key("rlimits", "Resource limits: {nofile: 65536, core: {soft: 0, hard: unlimited}}.", rlimits(), func(e *entry) *[]Rlimit { return &e.Sys.Rlimits }),
		keyOr("noNewPrivs", "It and its children can gain no privileges (set-uid, file capabilities).", boolean(), false, func(e *entry) *bool { return &e.noNewPrivs }),
		sub("sysProcAttr", "Attributes of the process, as Go's syscall.SysProcAttr names them.", sysProcAttrObject(), func(e *entry) *sysProcAttr { return &e.sysProcAttr }),
		sub("securityContext", "Kubernetes: whom it runs as.", securityObject(), func(e *entry) *security { return &e.security }).asKube(),
		sub("resources", "Kubernetes: limits.memory is the same as memoryLimitMB, as a quantity.", resourcesObject(), func(e *entry) *resources { return &e.resources }).asKube(),
	}
}

func inertFields() []field[entry] {
	var fields []field[entry]
	for _, name := range []string{
		"image", "imagePullPolicy", "ports", "volumeMounts", "volumeDevices", "tty", "stdin", "stdinOnce",
		"terminationMessagePath", "terminationMessagePolicy", "resizePolicy", "restartPolicyRules",
	} {
		fields = append(fields, inert[entry](name))
	}
	return fields
}
