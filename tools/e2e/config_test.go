package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestBadConfigStartsNothing(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "started")
	good := script("good", "touch "+mark)
	for _, test := range []struct{ name, config, says string }{
		{"an unknown key", good + "- {name: b, entrypiont: /bin/true}\n", `:4:13: b.entrypiont: unknown key — did you mean "entrypoint"?`},
		{"a wrong type", good + "- {name: b, entrypoint: /bin/true, replicas: x}\n", `:4:46: b.replicas: wants a whole number, is "x"`},
		{"an unknown dependency", good + "- {name: b, entrypoint: /bin/true, dependsOn: [nobody]}\n", `:4:48: b.dependsOn[0]: there is no process "nobody"`},
		{"a name that is there twice", good + good, `:4:9: good.name: the name "good" is there twice, first in line 1`},
		{"a cycle", good + "- {name: b, entrypoint: /bin/true, dependsOn: [b]}\n", `:4:48: b.dependsOn[0]: `},
		{"a duplicate key", good + "- {name: b, name: b, entrypoint: /bin/true}\n", `:4:13: `},
		{"no YAML", good + "- {name: b", `:4:`},
		{"a lock", good + "- {name: b, entrypoint: /bin/true, readiness: {lock: {ttlDuration: 1ms}}}\n", "b.readiness.lock.ttlDuration: "},
		{"no list", "good: {entrypoint: /bin/true}\n", `:1:1: `},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file := write(t, "pod.yaml", test.config)
			for _, args := range [][]string{{"-config", file}, {"validate", "-config", file}, {"-wait=false", "--config=" + file}} {
				got := command(t, nil, append([]string{program("process-wrapper")}, args...)...)
				if got.code != 2 || !strings.Contains(got.stderr, file+":") || !strings.Contains(got.stderr, test.says) {
					t.Errorf("%v: exit code %d, and not %q but %s", args, got.code, test.says, got.stderr)
				}
			}
			if exists(mark) {
				t.Error("it started a process")
			}
		})
	}
}

func TestEveryErrorOfAConfigIsPrinted(t *testing.T) {
	t.Parallel()
	file := write(t, "pod.yaml", "- {name: a, entrypoint: /bin/true, replica: 2}\n- {name: b}\n- {name: c, entrypoint: x, restartPolicy: sometimes}\n")
	got := command(t, nil, program("process-wrapper"), "validate", "-config", file)
	for _, line := range []string{":1:36: a.replica", ":2:3: b", ":3:43: c.restartPolicy"} {
		if !strings.Contains(got.stderr, file+line) {
			t.Errorf("no error at %s in %s", line, got.stderr)
		}
	}
}

func TestBadCommandLines(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args []string
		env  string
		says string
	}{
		{"an unknown flag", []string{"-confg"}, "", "confg"},
		{"a flag without its value", []string{"-config"}, "", "-config needs a value"},
		{"an unknown command", []string{"frobnicate"}, "", `"frobnicate" is not a command: use validate, schema, install`},
		{"no such config", []string{"-config", "/no/such.yaml"}, "", `"/no/such.yaml": no such file or directory`},
		{"a bad duration", []string{"-drain-delay", "5"}, "", "drain-delay"},
		{"a negative duration", []string{"-drain-delay", "-5s"}, "", "negative"},
		{"a bad format of logs", nil, "LOG_FORMAT=x", `LOG_FORMAT: log format "x" is unknown`},
		{"a bad CONFIG", nil, "CONFIG=[{]", "CONFIG:1:"},
		{"no URL", []string{"-pyroscope-url", "x"}, "", "-pyroscope-url is no URL"},
		{"-shared-lock with processes", []string{"-shared-lock", "-config", "x"}, "", "-shared-lock runs the shared-lock server instead of processes"},
		{"-shared-lock-url", []string{"-shared-lock-url", "x"}, "", `-shared-lock-url: "x" is no URL of a shared-lock server`},
		{"HANDLE_TERMINATION", nil, "HANDLE_TERMINATION=1", "HANDLE_TERMINATION: watch pod: KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := once(t, options{args: test.args, env: []string{test.env}})
			if got.code != 2 || !strings.Contains(got.stderr, test.says) {
				t.Errorf("exit code %d, and not %q but %s", got.code, test.says, got.stderr)
			}
		})
	}
}

func TestPlacesOfTheConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, config := range map[string]string{
		"2.yaml": script("second", "echo from 2", "restartPolicy: never"), "1.yaml": script("first", "echo from 1", "restartPolicy: never"), "notes.txt": "no config",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const asJSON = `[{"name":"it","entrypoint":"/bin/echo","args":["as JSON"],"restartPolicy":"NEVER"}]`
	for _, test := range []struct {
		name string
		o    options
		says []string
	}{
		{"a directory", options{args: []string{"-config", dir}}, []string{"from 1", "from 2"}},
		{"stdin", options{args: []string{"--config", "-"}, stdin: strings.NewReader(script("it", "echo from stdin", "restartPolicy: never"))}, []string{"from stdin"}},
		{"JSON in CONFIG", options{env: []string{"CONFIG=" + asJSON}}, []string{"as JSON"}},
		{"YAML in CONFIG", options{env: []string{"CONFIG=" + script("it", "echo as YAML", "restartPolicy: never")}}, []string{"as YAML"}},
		{"-config before CONFIG", options{config: script("it", "echo from a file", "restartPolicy: never"), env: []string{"CONFIG=" + asJSON}}, []string{"from a file"}},
		{"a pasted container", options{config: "- name: it\n  image: busybox:1\n  command: [/bin/echo]\n  args: [pasted]\n  restartPolicy: Never\n  ports: [{containerPort: 80}]\n"}, []string{"pasted"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := once(t, test.o)
			if got.code != 0 || strings.Count(got.stdout, "\n") != len(test.says) {
				t.Errorf("exit code %d, and it said %q", got.code, got.stdout)
			}
			for _, text := range test.says {
				if !strings.Contains(got.stdout, `msg="`+text+`"`) {
					t.Errorf("nothing is %s in %q", text, got.stdout)
				}
			}
		})
	}
}

func TestSubcommands(t *testing.T) {
	t.Parallel()
	wrapper := program("process-wrapper")
	if got := command(t, []string{"CONFIG=[{name: a, entrypoint: /bin/true}]"}, wrapper, "validate"); got.code != 0 || !strings.Contains(got.stdout, "OK: 1 process") {
		t.Errorf("validate: %+v", got)
	}
	got := command(t, nil, wrapper, "schema")
	var schema map[string]any
	if err := json.Unmarshal([]byte(got.stdout), &schema); err != nil || schema["$schema"] == nil {
		t.Errorf("schema is no schema: %v", err)
	}
	for _, flag := range []string{"-h", "--help", "-help"} {
		got := command(t, nil, wrapper, flag)
		if text := got.stdout + got.stderr; got.code != 0 || !strings.Contains(text, "-graceful-shutdown-deadline") || !strings.Contains(text, "HEALTH_SOCKET") {
			t.Errorf("%s: %+v", flag, got)
		}
	}
}

func TestInstallCopiesTheRunningBinary(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, target := range []string{dir, filepath.Join(dir, "new") + "/", filepath.Join(dir, "pw")} {
		for range 2 { // over itself, too
			if got := command(t, nil, program("process-wrapper"), "install", target); got.code != 0 {
				t.Fatalf("install %s: %+v", target, got)
			}
		}
	}
	for _, name := range []string{"process-wrapper", "new/process-wrapper", "pw"} {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		if got := command(t, nil, file, "-version"); got.code != 0 {
			t.Errorf("%s does not run: %+v", name, got)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := command(t, nil, program("process-wrapper"), "install", fifo); got.code != 2 || !strings.Contains(got.stderr, "it is no file") {
		t.Errorf("in place of a FIFO: %+v", got)
	}
	if info, err := os.Lstat(fifo); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("the FIFO is %v, %v", info, err)
	}
	if got := command(t, nil, program("process-wrapper"), "install"); got.code != 2 {
		t.Errorf("without a target: %+v", got)
	}
}

func TestWaitWaitsForTheReadinessFile(t *testing.T) {
	t.Parallel()
	wrapper := program("process-wrapper")
	file := filepath.Join(t.TempDir(), "started")
	got := command(t, nil, wrapper, "-wait", "-wait-deadline", "200ms", "-readiness-file", file)
	if got.code != 1 || !strings.Contains(got.stderr, "not ready within 200ms") {
		t.Errorf("without the file: %+v", got)
	}
	w := start(t, options{config: script("it", "sleep 0.5; "+forever), args: []string{"-readiness-file", file}})
	if got := command(t, nil, wrapper, "-wait", "-wait-deadline", "30s", "-readiness-file", file); got.code != 0 {
		t.Errorf("with it: %+v", got)
	}
	w.says(200, 200)
}

func TestVersionFromSource(t *testing.T) {
	t.Parallel()
	cmd := []string{"env", "-u", "GOWORK", "GOFLAGS=-buildvcs=false", "go", "-C", root, "run", "main.go", "-version"}
	got := command(t, nil, cmd...)
	if got.code != 0 || !regexp.MustCompile(`^\S+ \S+ \(commit \S+, go1\.`).MatchString(got.stdout) {
		t.Errorf("%+v", got)
	}
}
