package wrapper

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/process-wrapper/process-wrapper/pkg/command"
	"github.com/process-wrapper/process-wrapper/pkg/output"
	"github.com/process-wrapper/process-wrapper/pkg/process"
	"github.com/process-wrapper/process-wrapper/pkg/spec"
	"github.com/process-wrapper/process-wrapper/pkg/status"
	"github.com/process-wrapper/process-wrapper/pkg/supervisor"
)

func TestMain(m *testing.M) {
	command.Init()
	goleak.VerifyTestMain(m)
}

// exec runs the command line in this process and returns what it says.
func exec(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	var f flags
	var env environment
	p := program(&f, &env, filepath.Join(t.TempDir(), "none"), catch())
	code = p.Exec(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestWhatIsWrongIsRefused(t *testing.T) {
	tests := []struct {
		args []string
		env  map[string]string
		want string
	}{
		{args: []string{"-shared-lock", "-config", "x"}, want: "-shared-lock runs the shared-lock server instead of processes: leave -config x out"},
		{args: []string{"-shared-lock-url", "localhost:8191"}, want: `-shared-lock-url: "localhost:8191" is no URL of a shared-lock server: write http://host:8191`},
		{args: []string{"-shared-lock-url", "http://a:1,"}, want: `-shared-lock-url: "" is no URL of a shared-lock server`},
		{env: map[string]string{"SHARED_LOCK_CA_CERT": "/none"}, want: "SHARED_LOCK_CA_CERT: stat /none: no such file"},
		{env: map[string]string{"SHARED_LOCK_CLIENT_CERT": "/none"}, want: "set both SHARED_LOCK_CLIENT_CERT and SHARED_LOCK_CLIENT_KEY, or none"},
		{env: map[string]string{"CONFIG": `[{"name":"a","entrypoint":"/bin/true","readiness":{"lock":{"key":"a\tb"}}}]`}, want: `readiness.lock.key "a\tb" is no name of a lock`},
		{env: map[string]string{"CONFIG": `[{"name":"a","entrypoint":"/bin/true","readiness":{"lock":{"ttlDuration":"100ms"}}}]`}, want: `is "100ms", wants at least 200ms`},
		{env: map[string]string{"CONFIG": `[{"name":"a","entrypoint":"/bin/true","readiness":{"lock":{"ttlDuration":"25h"}}}]`}, want: `is "25h", wants at most 24h`},
		{env: map[string]string{"HANDLE_TERMINATION": "enabled", "KUBERNETES_SERVICE_HOST": ""}, want: "HANDLE_TERMINATION: watch pod: KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set"},
		{env: map[string]string{"HANDLE_TERMINATION": "1", "KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": "443", "POD_NAME": "p"}, want: "HANDLE_TERMINATION: watch pod: the namespace"},
		{args: []string{"-preemption-action", "panic"}, want: `-preemption-action must be one of drain, terminate, none, is "panic"`},
		{args: []string{"-preemption-provider", "alibaba"}, want: `-preemption-provider must be one of auto, gce, aws, azure, is "alibaba"`},
		{env: map[string]string{"HANDLE_PREEMPTION": "true", "METADATA_URL": "localhost:8989"}, want: `preemption: METADATA_URL "localhost:8989" is no URL: write http://host:port/path`},
		{args: []string{"-preemption-provider=aws"}, env: map[string]string{"HANDLE_PREEMPTION": "1", "METADATA_URL": "http://h/x"}, want: "for aws leave out /x, or the variable"},
		{args: []string{"-envoy-drain"}, env: map[string]string{"ENVOY_DRAIN_URL": "localhost"}, want: `environment variable ENVOY_DRAIN_URL "localhost" is no URL`},
		{env: map[string]string{"METRICS_SERVER_ADDRESS": "localhost"}, want: "environment variable METRICS_SERVER_ADDRESS: address \"localhost\" is none: write host:port"},
		{env: map[string]string{"METRICS_SERVER_ADDRESS": "localhost:9999", "METRICS_JSON_EXTRA_LABELS": "{\"a\":1}"}, want: "environment variable METRICS_JSON_EXTRA_LABELS: it is no JSON object of strings"},
		{env: map[string]string{"METRICS_SERVER_ADDRESS": "localhost:9999", "METRICS_EXTRA_LABELS_FILE_PATH": "/none"}, want: "environment variable METRICS_EXTRA_LABELS_FILE_PATH: open /none"},
		{args: []string{"-drain-delay", "-1s"}, want: "a duration is negative"},
		{args: []string{"-pyroscope-url", "localhost:4040"}, want: "-pyroscope-url is no URL: write http://host:4040"},
		{env: map[string]string{"HEALTH_SOCKET": "localhost"}, want: `HEALTH_SOCKET "localhost" is no address: write host:port or :port`},
		{env: map[string]string{"HEALTH_SOCKET": ":none"}, want: `HEALTH_SOCKET ":none" is no address: write host:port or :port, such as :8111: listen tcp: lookup tcp/none`},
		{env: map[string]string{"LOG_FORMAT": "xml"}, want: `environment variable LOG_FORMAT: log format "xml" is unknown`},
		{env: map[string]string{"CONFIG": `[{"name":"a"}]`}, want: "CONFIG:1:2: "},
		{args: []string{"-config", "/nowhere.yaml"}, want: `read config "/nowhere.yaml": no such file or directory`},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			t.Setenv("HEALTH_SOCKET", "127.0.0.1:0")
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			code, _, stderr := exec(t, tt.args...)
			if code != 2 || !strings.Contains(stderr, tt.want) {
				t.Errorf("exit code %d, %q", code, stderr)
			}
		})
	}
}

func TestValidateSaysWhatIsWrongAndStartsNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("- name: a\n  entrypoint: /bin/true\n")
	for _, args := range [][]string{{"validate", "-config", file}, {"-config", file, "validate"}, {"validate", file}} {
		if code, out, errs := exec(t, args...); code != 0 || out != "OK: 1 processes\n" {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
	write("- name: a\n  entrypont: touch\n  args: [" + filepath.Join(dir, "started") + "]\n")
	code, _, errs := exec(t, "validate", "-config", file)
	if code != 2 || !strings.Contains(errs, file+":2:3: ") || !strings.Contains(errs, `did you mean "entrypoint"?`) {
		t.Errorf("%d %q", code, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "started")); err == nil {
		t.Error("it was started")
	}
}

func TestWhatIsMistypedIsNamedWithTheWayOut(t *testing.T) {
	for line, want := range map[string]string{
		"-confg x":         "unknown flag -confg: did you mean -config?",
		"-wait-deadline 5": `"5" is no duration: write 5s for seconds`,
		"install":          "directory or file",
		"vaildate":         `"vaildate" is not a command: use validate, schema, install`,
	} {
		if code, _, errs := exec(t, strings.Fields(line)...); code != 2 || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %q", line, code, errs)
		}
	}
}

func TestEveryGoodConfigCanBeBuilt(t *testing.T) {
	files, err := filepath.Glob("../spec/testdata/good/*[nl]")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		cfg, err := spec.Load(file, spec.Options{})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		for _, p := range cfg.Processes {
			if _, _, err := builderFor(t).process(p); err != nil {
				t.Errorf("%s: %s: %v", file, p.Name, err)
			}
		}
	}
}

func TestSchemaIsJSON(t *testing.T) {
	code, out, _ := exec(t, "schema")
	if code != 0 || !strings.HasPrefix(out, "{") || !strings.Contains(out, `"entrypoint"`) {
		t.Errorf("%d %.80q", code, out)
	}
}

func TestInstallCopiesTheBinaryWhole(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{dir, filepath.Join(dir, "new") + "/", filepath.Join(dir, "as", "wrapper")} {
		code, out, errs := exec(t, "install", target)
		name := strings.TrimSpace(strings.TrimPrefix(out, "installed "))
		got, err := os.ReadFile(name)
		if code != 0 || err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: exit code %d, %q %q, %v", target, code, out, errs, err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v %v", target, info, err)
		}
		left, err := filepath.Glob(filepath.Join(filepath.Dir(name), ".process-wrapper*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	}
	if code, _, errs := exec(t, "install", "/proc/nowhere/x"); code != 1 || !strings.Contains(errs, "install") {
		t.Errorf("%d %q", code, errs)
	}
}

func TestTheTerminationLogIsBoundedAndNeverMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "termination-log")
	terminationLog(path, "reason")
	if _, err := os.Stat(path); err == nil {
		t.Error("made")
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("old", 9999)), 0o600); err != nil {
		t.Fatal(err)
	}
	terminationLog(path, strings.Repeat("ü", maxTerminationLog))
	got, err := os.ReadFile(path)
	if err != nil || len(got) > maxTerminationLog || !strings.HasSuffix(string(got), "ü …") {
		t.Errorf("%d bytes, %q, %v", len(got), got[len(got)-10:], err)
	}
}

func TestSkippedNames(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(output.NewHandler(&out, slog.LevelInfo))
	cfg := &spec.Config{Processes: []*spec.Process{
		{Name: "web_0", Base: "web"}, {Name: "web_1", Base: "web"}, {Name: "db", Base: "db"}, {Name: "job", Base: "job"},
	}}
	skip := skipped(" web, db,wbe,", cfg, log)
	var got []string
	for _, p := range cfg.Processes {
		if skip(p) {
			got = append(got, p.Name)
		}
	}
	if strings.Join(got, " ") != "web_0 web_1 db" {
		t.Error(got)
	}
	if s := out.String(); !strings.Contains(s, "unknown=wbe") || !strings.Contains(s, `known="web_0, web_1, db, job"`) || strings.Count(s, "\n") != 1 {
		t.Error(s)
	}
}

func TestMetricsSurviveABadCollector(t *testing.T) {
	reg := prometheus.NewRegistry()
	good := prometheus.NewGauge(prometheus.GaugeOpts{Name: "good", Help: "is there"})
	reg.MustRegister(good, broken{})
	rec := httptest.NewRecorder()
	metricsHandler(reg, slog.New(slog.DiscardHandler)).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 || rec.Body.String() != "# HELP good is there\n# TYPE good gauge\ngood 0\n" || rec.Header().Get("Content-Type") != textFormat {
		t.Errorf("%d %q %v", rec.Code, rec.Body, rec.Header())
	}
}

type broken struct{}

var desc = prometheus.NewDesc("broken", "fails", nil, nil)

func (broken) Describe(c chan<- *prometheus.Desc) { c <- desc }
func (broken) Collect(c chan<- prometheus.Metric) {
	c <- prometheus.NewInvalidMetric(desc, errors.New("boom"))
}

func TestTheJournalSaysWhatAnOperatorNeeds(t *testing.T) {
	t0 := time.Now()
	boom := errors.New("boom")
	tests := []struct {
		old, new status.State
		want     string // "" is nothing at info level
	}{
		{status.State{}, status.State{Phase: status.Waiting}, ""},
		{status.State{}, status.State{Phase: status.Waiting, Detail: "for db to be ready"}, `level=info msg="waiting" name=p phase=waiting detail="for db to be ready"`},
		{status.State{Phase: status.Waiting}, status.State{Phase: status.Starting}, ""},
		{status.State{Phase: status.Starting}, status.State{Phase: status.Running, PID: 7}, `level=info msg="started" name=p phase=running pid=7 restarts=0`},
		{status.State{Phase: status.Running}, status.State{Phase: status.Ready, PID: 7, Started: t0, Since: t0.Add(time.Second)}, `level=info msg="ready" name=p phase=ready pid=7 after=1s`},
		{status.State{Phase: status.Ready}, status.State{Phase: status.Running, PID: 7}, `level=warn msg="not ready any more" name=p phase=running pid=7`},
		{status.State{Phase: status.Running}, status.State{Phase: status.Backoff, ExitCode: 3, Cause: boom, Started: t0, Ended: t0.Add(time.Second), Next: t0.Add(3 * time.Second)},
			`level=warn msg="ended, will be started again" name=p phase=backoff code=3 cause=boom ran=1s in=2s`},
		{status.State{Phase: status.Ready}, status.State{Phase: status.Failed, ExitCode: 3, Cause: boom, Ended: t0}, `level=error msg="failed for good" name=p phase=failed code=3 cause=boom`},
		{status.State{Phase: status.Ready}, status.State{Phase: status.Completed, Ended: t0}, `level=info msg="completed" name=p phase=completed code=0`},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		j := newJournal(slog.New(output.NewHandler(&out, slog.LevelInfo)))
		tt.new.Name = "p"
		j.Observe(tt.old, tt.new)
		_, got, _ := strings.Cut(strings.TrimSpace(out.String()), " ")
		if got != tt.want {
			t.Errorf("\n got %s\nwant %s", got, tt.want)
		}
	}
}

func TestTheJournalTellsOfAProbeOnce(t *testing.T) {
	var out bytes.Buffer
	j := newJournal(slog.New(output.NewHandler(&out, slog.LevelInfo)))
	boom := errors.New("boom")
	for _, err := range []error{nil, nil, boom, boom, boom, nil, nil} {
		c := status.Check{Process: "p", Probe: "http", Result: status.Pass, Err: err}
		if err != nil {
			c.Result = status.Fail
		}
		j.ObserveCheck(c)
	}
	if got := strings.Count(out.String(), "\n"); got != 2 || !strings.Contains(out.String(), "result=failure err=boom") {
		t.Errorf("%s", out.String())
	}
}

// builderFor returns a builder with everything real but processes.
func builderFor(t *testing.T) *builder {
	t.Helper()
	locks, err := newLocks(&flags{SharedLockURL: "http://localhost:8191"}, &environment{podName: "pod"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return &builder{
		locks:   locks,
		environ: []string{"PATH=/bin:/usr/bin"}, deadline: 10 * time.Second, reaper: command.NewReaper(), pod: supervisor.New(),
		counters: func(string, string) *output.Counters { return nil },
		memory: func(limit int64) func(context.Context, int) error {
			return func(context.Context, int) error { return nil }
		},
		log: slog.New(slog.DiscardHandler),
	}
}

func TestWhatTheConfigSaysIsWhatRuns(t *testing.T) {
	cfg, err := spec.Parse("test", []byte(`
- name: db
  entrypoint: /bin/db
- name: web
  entrypoint: /bin/web
  replicas: 2
  restartPolicy: onFailure
  stopSignal: SIGINT
  stopTimeout: 3s
  maxRestarts: {count: 5, within: 1m}
  memoryLimitMB: 64
  dependsOn: [{name: db, condition: started}]
  readiness:
    delay: 1s
    period: 2s
    failureThreshold: 4
    http: {url: "http://127.0.0.1:1/"}
    tcp: {socket: "127.0.0.1:1"}
    file: {path: /x}
    env: {name: A, value: b}
    exec: {command: {entrypoint: /bin/true}}
  livenessProbe: {httpGet: {port: 80}, failureThreshold: 7, terminationGracePeriodSeconds: 2}
  startupProbe: {exec: {command: [/bin/true]}, failureThreshold: 30}
  readinessProbe: {tcpSocket: {port: 80}, successThreshold: 2}
  lifecycle:
    postStart: {sleep: {seconds: 1}}
    preStop: {exec: {command: [/bin/true]}}
  postStart: {command: {entrypoint: /bin/true}, deadline: 5s}
`), spec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := builderFor(t).process(cfg.Processes[2])
	if err != nil {
		t.Fatal(err)
	}
	type life struct {
		name                  string
		restart               process.RestartPolicy
		signal                int
		stop, settle, startup time.Duration
		limit                 process.Limit
		backoff               process.Backoff
		watchers              int
		hooks                 [3]bool
	}
	got := life{
		c.Name, c.Restart, int(c.StopSignal), c.StopTimeout, c.Settle, c.StartupDeadline, c.MaxRestarts, c.Backoff, len(c.Watch),
		[3]bool{c.PostStart != nil, c.OnReady != nil, c.PreStop != nil},
	}
	if want := (life{
		"web_1", process.OnFailure, 2, 3 * time.Second, settle, 5*time.Minute + 9*time.Second, process.Limit{Count: 5, Within: time.Minute},
		process.Backoff{Initial: time.Second, Max: time.Minute, Factor: 2, Jitter: 0.1, ResetAfter: 10 * time.Minute}, 1, [3]bool{true, true, true},
	}); got != want {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	if len(c.DependsOn) != 1 || c.DependsOn[0].Names[0] != "db" || c.DependsOn[0].Condition != process.IsStarted {
		t.Errorf("%+v", c.DependsOn)
	}
	type row struct {
		name                               string
		gate, startup                      bool
		readyAfter, unreadyAfter, restarts int
		timeout                            time.Duration
	}
	want := []row{
		{"http", true, false, 0, 0, 4, 2 * time.Second},
		{"tcp", true, false, 0, 0, 4, 2 * time.Second},
		{"file", true, false, 0, 0, 4, 2 * time.Second},
		{"env", true, false, 0, 0, 4, 0},
		{"exec", true, false, 0, 0, 4, 30 * time.Second},
		{"startupProbe", false, true, 1, 30, 30, time.Second},
		{"livenessProbe", false, false, 1, 7, 7, time.Second},
		{"readinessProbe", true, false, 2, 3, 0, time.Second},
	}
	if len(c.Checks) != len(want) {
		t.Fatalf("%d checks", len(c.Checks))
	}
	for i, k := range c.Checks {
		got := row{k.Name, k.Gate, k.Startup, k.ReadyAfter, k.UnreadyAfter, k.RestartAfter, k.Timeout}
		if got != want[i] || k.Probe == nil {
			t.Errorf("\n got %+v\nwant %+v", got, want[i])
		}
	}
	if d := c.Checks[6].StopTimeout; d == nil || *d != 2*time.Second {
		t.Errorf("liveness: %v", d)
	}
}

func TestTheDatabaseOfAProcess(t *testing.T) {
	env := func(vars map[string]string) lookup {
		return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	}
	my, pg := map[string]string{"MYSQL_DSN": "m"}, map[string]string{"POSTGRES_DSN": "p"}
	both := map[string]string{"MYSQL_DSN": "m", "POSTGRES_DSN": "p"}
	for name, c := range map[string]struct {
		driver, dsn string
		env         map[string]string
		want        string // driver dsn, or what the error says
	}{
		"the variable of mysql":            {"", "", my, "mysql m"},
		"the variable of postgres":         {"", "", pg, "postgres p"},
		"the driver chooses of two":        {"postgres", "", both, "postgres p"},
		"two and no driver":                {"", "", both, "MYSQL_DSN and POSTGRES_DSN are both set: say in sql.driver which is meant"},
		"none":                             {"", "", nil, "neither MYSQL_DSN nor POSTGRES_DSN is set, and sql has no dsn"},
		"an empty one counts as none":      {"", "", map[string]string{"MYSQL_DSN": "", "POSTGRES_DSN": "p"}, "postgres p"},
		"the other one is of no use":       {"mysql", "", pg, "MYSQL_DSN is not set, and sql has no dsn"},
		"the config goes before variables": {"", "postgres://u:$(PASS)@h/", map[string]string{"PASS": "x", "MYSQL_DSN": "m"}, "postgres postgres://u:x@h/"},
		"the driver of a dsn":              {"mysql", "postgres://h/", nil, "mysql postgres://h/"},
		"an unknown variable stays":        {"", "$(NONE)@tcp(h)/", nil, "mysql $(NONE)@tcp(h)/"},
	} {
		t.Run(name, func(t *testing.T) {
			driver, dsn, err := database(c.driver, c.dsn, env(c.env))()
			got := driver + " " + dsn
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestStartsAreCountedAsFarAsAnybodyAsks(t *testing.T) {
	s := starts{most: 3}
	began := time.Now()
	for i := range 10 {
		s.note(began.Add(time.Duration(i) * time.Second))
	}
	if n := s.since(began); n != 3 {
		t.Errorf("%d since the begin, want the 3 that are remembered", n)
	}
	if n := s.since(began.Add(8 * time.Second)); n != 1 {
		t.Errorf("%d after the ninth, want 1", n)
	}
}
