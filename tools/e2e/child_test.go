package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// statusOf starts one process and returns /proc/PID/status of it, once it is the program that it
// is to be.
func statusOf(t *testing.T, more ...string) (*wrapper, int, map[string]string) {
	t.Helper()
	w := start(t, options{config: "- name: it\n  entrypoint: /bin/sleep\n  args: ['1000']\n  " + strings.Join(more, "\n  ") + "\n"})
	w.ready()
	pid := w.states()["it"].PID
	return w, pid, procStatus(t, pid)
}

func TestIdentityOfChildren(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	for _, test := range []struct {
		name string
		keys []string
		want map[string]string
	}{
		{"sysProcAttr.credential", []string{"sysProcAttr: {credential: {uid: 1001, gid: 1002, groups: [1003]}}"}, map[string]string{
			"Uid": "1001 1001 1001 1001", "Gid": "1002 1002 1002 1002", "Groups": "1003", "CapEff": "0000000000000000",
		}},
		{"names", []string{"user: nobody", "group: daemon"}, map[string]string{"Uid": "65534 65534 65534 65534", "Gid": "1 1 1 1"}},
		{"securityContext", []string{"securityContext: {runAsUser: 1001, runAsGroup: 1002, supplementalGroups: [7], allowPrivilegeEscalation: false}"}, map[string]string{
			"Uid": "1001 1001 1001 1001", "Gid": "1002 1002 1002 1002", "Groups": "7", "NoNewPrivs": "1",
		}},
		{"capabilities of another user", []string{"securityContext: {runAsUser: 1001, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}"}, map[string]string{
			"CapEff": "0000000000000400", "CapPrm": "0000000000000400", "CapBnd": "0000000000000400",
		}},
		{"capabilities of root", []string{"securityContext: {capabilities: {drop: [ALL]}}"}, map[string]string{
			"CapEff": "0000000000000000", "CapBnd": "0000000000000000",
		}},
		{"ambient capabilities", []string{"sysProcAttr: {credential: {uid: 1001, gid: 1001}, ambientcaps: [10]}"}, map[string]string{
			"CapAmb": "0000000000000400", "CapEff": "0000000000000400",
		}},
		{"umask and no_new_privs", []string{"umask: '027'", "noNewPrivs: true"}, map[string]string{"Umask": "0027", "NoNewPrivs": "1"}},
		{"nothing", []string{"restartPolicy: always"}, map[string]string{"Uid": "0 0 0 0", "NoNewPrivs": "0", "SigIgn": "0000000000000000", "SigBlk": "0000000000000000"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, _, status := statusOf(t, test.keys...)
			status["SigIgn"] = ofPrograms(t, status["SigIgn"])
			for key, want := range test.want {
				if got := strings.Join(strings.Fields(status[key]), " "); got != want {
					t.Errorf("%s is %q, not %q", key, got, want)
				}
			}
		})
	}
}

// ofPrograms takes out of a set of signals those of the C library (32 and 33),
// which no program may set and which come from whoever started the tests.
func ofPrograms(t *testing.T, set string) string {
	t.Helper()
	signals, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%016x", signals&^(3<<31))
}

func TestLimitsOfChildren(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	_, pid, _ := statusOf(t, "rlimits: {nofile: 123, core: {soft: 0, hard: unlimited}}", "nice: 5", "oomScoreAdj: 500")
	read := func(name string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if limits := read("limits"); !regexp.MustCompile(`Max open files +123 +123 `).MatchString(limits) || !regexp.MustCompile(`Max core file size +0 +unlimited `).MatchString(limits) {
		t.Errorf("limits are %s", limits)
	}
	if got := strings.Fields(read("stat"))[18]; got != "5" {
		t.Errorf("nice is %s", got)
	}
	if got := strings.TrimSpace(read("oom_score_adj")); got != "500" {
		t.Errorf("the OOM score is %s", got)
	}
}

func TestDescriptorsOfChildren(t *testing.T) {
	t.Parallel()
	for _, keys := range []string{"restartPolicy: always", "noNewPrivs: true"} { // without and with our own binary between
		w, pid, _ := statusOf(t, keys)
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			t.Fatal(err)
		}
		if len(fds) != 3 {
			t.Errorf("it has %v", fds)
		}
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", pid)); to != "/dev/null" {
			t.Errorf("stdin is %s, %v", to, err)
		}
		if got := w.stop(); got != 0 {
			t.Errorf("exit code %d", got)
		}
	}
}

func TestChildDiesWithAWrapperThatIsKilled(t *testing.T) {
	t.Parallel()
	w, pid, _ := statusOf(t, "sysProcAttr: {pdeathsig: SIGKILL}")
	kill(t, w.pid)
	w.wait()
	eventually(t, "the child is gone", func() error {
		if exists("/proc/" + strconv.Itoa(pid)) {
			return os.ErrExist
		}
		return nil
	})
}

func TestStartThatFailsLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	const slow = "backoff: {initial: 1h, max: 1h}"
	for _, test := range []struct{ name, config, cause string }{
		{"no such program", "- {name: it, entrypoint: /no/such/program, " + slow + "}\n", "/no/such/program"},
		{"no such program in PATH", "- {name: it, entrypoint: no-such-program, " + slow + "}\n", "no-such-program"},
		{"no such directory", "- {name: it, entrypoint: /bin/true, dir: /no/such/dir, " + slow + "}\n", "/no/such/dir"},
		{"no such user", "- {name: it, entrypoint: /bin/true, user: nobody-at-all, " + slow + "}\n", "nobody-at-all"},
		{"no such chroot", "- {name: it, entrypoint: /bin/true, sysProcAttr: {chroot: /no/such/root}, " + slow + "}\n", "/no/such/root"},
		{"a file that cannot be executed", "- {name: it, entrypoint: /etc/passwd, " + slow + "}\n", "/etc/passwd"},
		{"no such envsFile", "- {name: it, entrypoint: /bin/true, envsFile: /no/such/file, " + slow + "}\n", "/no/such/file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, options{config: test.config + script("other", forever), namespace: true})
			w.in("other", "ready")
			s := w.in("it", "backoff")
			if !strings.Contains(s.Cause, test.cause) || s.Reason != "start" {
				t.Errorf("its reason is %s: %s", s.Reason, s.Cause)
			}
			if _, body := w.get("/readiness"); !strings.Contains(body, test.cause) {
				t.Errorf("/readiness does not say why: %s", body)
			}
			if other := w.states()["other"]; other.Restarts != 0 || !other.Ready {
				t.Errorf("the other is %+v", other)
			}
		})
	}
}

func TestEnvironmentOfChildren(t *testing.T) {
	t.Parallel()
	file := write(t, "envs", "# comment\nexport A=file\nQUOTED=\"two words\"\nSINGLE='$A'\n")
	from := write(t, "from", "B=from\nC=from\n")
	got := once(t, options{
		env: []string{"A=wrapper", "B=wrapper", "D=wrapper", "POD_NAME=pod-7", "POD_NAMESPACE=shop", "NODE_NAME=node-3"},
		config: script("it", `echo "$A,$B,$C,$D,$E,$QUOTED,$SINGLE,$POD,$NS,$NODE"`, "restartPolicy: never",
			"envFrom: [{file: "+from+"}]", "envs: {C: envs, E: 5}", "envsFile: "+file,
			"env: [{name: E, value: env-$(D)}, {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, "+
				"{name: NS, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}, {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]"),
	})
	const want = `msg="file,from,envs,wrapper,env-wrapper,two words,$A,pod-7,shop,node-3"`
	if !strings.Contains(got.stdout, want) {
		t.Errorf("not %s but %s %s", want, got.stdout, got.stderr)
	}
}

func TestMemoryLimitIsForTheWholeTree(t *testing.T) {
	t.Parallel()
	// Each of two children holds 30 MiB, which none of them may have too much of alone.
	hog := `x=$(head -c 30000000 /dev/zero | tr '\0' x); sleep 1000; :`
	w := start(t, options{config: script("it", "("+hog+") & ("+hog+") & wait", "memoryLimitMB: 50", "backoff: {initial: 1h, max: 1h}") + script("other", forever)})
	s := w.in("it", "backoff")
	if s.Reason != "memory" {
		t.Errorf("it ended for %q: %s", s.Reason, s.Cause)
	}
	if other := w.states()["other"]; other.Restarts != 0 || !other.Ready {
		t.Errorf("the other is %+v", other)
	}
}

// marker is the secret that nothing may show.
const marker = "s3cr3t-marker"

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	file := write(t, "envs", "FROM_FILE="+marker+"\n")
	broken := write(t, "broken", marker+" is no variable\n")
	never := "restartPolicy: never"
	w := start(t, options{
		args: []string{"-debug"}, env: []string{"INHERITED=" + marker}, namespace: true,
		config: script("env", forever, "envs: {A: "+marker+"}", "env: [{name: B, value: "+marker+"}]", "envsFile: "+file, "envFrom: [{file: "+file+"}]") +
			script("http", forever, "readiness: {delay: 0s, period: 100ms, failureThreshold: 1000, http: {url: 'http://user:"+marker+"@127.0.0.1:1/?token="+marker+"'}}") +
			script("check", forever, "envs: {X: "+marker+"}", "readiness: {delay: 0s, period: 100ms, failureThreshold: 3, env: {name: X, value: "+marker+"x}, exec: {command: {entrypoint: /no/such/check, envs: {Y: "+marker+"}}}}") +
			script("header", forever, "readinessProbe: {periodSeconds: 1, httpGet: {port: 1, httpHeaders: [{name: Authorization, value: "+marker+"}]}}") +
			script("hook", forever, "postStart: {command: {entrypoint: /bin/false, envs: {Z: "+marker+"}}}") +
			script("broken", forever, "envsFile: "+broken) +
			"- {name: missing, entrypoint: /no/such/program, envs: {A: " + marker + "}}\n" +
			"- {name: expanded, entrypoint: /opt/$(A)/run, envs: {A: " + marker + "}}\n" +
			"- {name: sought, entrypoint: no-such-$(A), envs: {A: " + marker + "}}\n" +
			script("checks", forever, "readiness: {delay: 0s, period: 100ms, failureThreshold: 1000, exec: {command: {entrypoint: /opt/$(A)/run, envs: {A: "+marker+"}}}}") +
			script("failed", "exit 3", "envs: {A: "+marker+"}", never),
	})
	w.in("failed", "failed")
	for _, name := range []string{"expanded", "sought"} {
		w.until(name, "has a cause", func(s state) bool { return s.Restarts > 0 })
	}
	w.until("checks", "has failed", func(s state) bool { return len(s.Probes) > 0 && s.Probes[0].Failures > 0 })
	w.until("check", "was restarted", func(s state) bool { return s.Restarts > 0 })
	w.until("http", "has failed", func(s state) bool { return len(s.Probes) > 0 && s.Probes[0].Failures > 2 })
	w.until("header", "has failed", func(s state) bool { return len(s.Probes) > 0 && s.Probes[0].Failures > 0 })
	for _, path := range []string{"/readiness", "/liveness", "/status", "/pids", "/v1/processes", "/metrics", "/", "/no/" + "such"} {
		if _, body := w.get(path); strings.Contains(body, marker) {
			t.Errorf("%s shows it: %s", path, around(body))
		}
	}
	w.stop()
	for name, text := range map[string]string{"stdout": w.stdout.String(), "stderr": w.stderr.String()} {
		if strings.Contains(text, marker) {
			t.Errorf("%s shows it: %s", name, around(text))
		}
	}
}

// around returns the line with the marker.
func around(text string) string {
	return regexp.MustCompile(`.*` + marker + `.*`).FindString(text)
}
