package e2e

import (
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The time that the probes of these tests have, and what is granted on top of it on a busy machine.
const (
	probePeriod  = 300 * time.Millisecond
	probeTimeout = 700 * time.Millisecond
	probeSlack   = 9 * (probePeriod + probeTimeout)
)

// probed is the config of a process with a readiness block that never restarts it.
func probed(name, check string, more ...string) string {
	return script(name, forever, append(more, fmt.Sprintf("readiness: {delay: 0s, period: %v, timeout: %v, failureThreshold: 100000, startupDeadline: 1h, %s}", probePeriod, probeTimeout, check))...)
}

// dependants are the processes whose probes ask one service.
type dependants struct {
	*testing.T
	*wrapper
	s     *backend
	names []string

	slack      time.Duration   // beyond period and timeout
	goroutines float64         // of the wrapper, when all was well
	took       []time.Duration // to see each fault
}

func dependOn(t *testing.T, s *backend, w *wrapper, names ...string) *dependants {
	t.Helper()
	d := &dependants{T: t, wrapper: w, s: s, names: names, slack: probeSlack}
	d.up("at first")
	d.goroutines = w.metric("go_goroutines")
	t.Cleanup(func() {
		slices.Sort(d.took)
		t.Logf("un-ready %v after a fault of %s (period + timeout: %v)", d.took, s.name, probePeriod+probeTimeout)
	})
	return d
}

// up waits until all are ready again by themselves.
func (d *dependants) up(when string) {
	d.Helper()
	for _, name := range d.names {
		d.until(name, "is ready "+when, func(s state) bool { return s.Ready })
	}
}

// down wants each to be un-ready within one period and one timeout after began, with a reason that
// holds why.
func (d *dependants) down(began time.Time, what, why string) {
	d.Helper()
	for _, name := range d.names {
		st := d.until(name, "is un-ready: "+what, func(s state) bool { return !s.Ready })
		took := time.Since(began)
		d.took = append(d.took, took.Round(time.Millisecond))
		if took > probePeriod+probeTimeout+d.slack {
			d.Errorf("%s was un-ready after %v: %s", name, took, what)
		}
		if len(st.Probes) == 0 || st.Probes[0].Error == "" || !strings.Contains(st.Probes[0].Error, why) {
			d.Errorf("%s: %s: %+v, want the reason %q", name, what, st, why)
		}
	}
}

// few wants no more connections than probes, for a while.
func (d *dependants) few(when string) {
	d.Helper()
	quietly(d.T, 5*probePeriod, func() error {
		if n := d.s.connections(d.pid); n > len(d.names) {
			return fmt.Errorf("%d connections of %d probes to the %s %s", n, len(d.names), d.s.name, when)
		}
		return nil
	})
}

// unharmed wants nothing to be left of the faults.
func (d *dependants) unharmed() {
	d.Helper()
	eventually(d.T, "goroutines are back", func() error {
		if n := d.metric("go_goroutines"); n > d.goroutines+5 {
			return fmt.Errorf("%v, at first %v", n, d.goroutines)
		}
		return nil
	})
	for _, name := range d.names {
		if st := d.states()[name]; st.Restarts != 0 {
			d.Errorf("%s: %d restarts", name, st.Restarts)
		}
	}
}

// faults stops the service in every way.
func (d *dependants) faults() {
	d.Helper()
	for range 2 {
		d.s.signal(syscall.SIGSTOP)
		d.down(time.Now(), "paused", "timed out")
		d.few("that is paused")
		d.s.signal(syscall.SIGCONT)
		d.up("after the pause")
		d.s.kill()
		d.down(time.Now(), "killed", "")
		d.s.begin()
		d.up("after the restart")
		d.few("after the restart")
	}
	d.unharmed()
}

// ended has the service end its sessions, as it does with those that were idle for long: a process
// stays ready, unless a check was under way just then.
func (d *dependants) ended(name string, end func()) {
	d.Helper()
	for range 10 { // on a busy machine a check is under way often
		end()
		over := time.After(3 * probePeriod)
		ready := true
		for waiting := true; waiting; {
			select {
			case <-over:
				waiting = false
			case <-time.After(10 * time.Millisecond):
				ready = ready && d.states()[name].Ready
			}
		}
		d.up("after its session was ended")
		if ready {
			return
		}
	}
	d.Errorf("%s was un-ready each time that the %s ended an idle session", name, d.s.name)
}

// passwords changes the password in the service to one that the probes do not have, and back.
func (d *dependants) passwords(change func(from, to string), why string) {
	d.Helper()
	change(servicePassword, otherPassword)
	d.down(time.Now(), "its password was changed", why)
	d.few("that refuses the password")
	change(otherPassword, servicePassword)
	d.up("with the password that is right again")
	d.unharmed()
}

func TestProbesOfMariaDB(t *testing.T) {
	s := startMariaDB(t)
	w := start(t, options{config: probed("db", "sql: {queries: [SELECT state FROM states], contains: [up, down]}"), env: []string{"MYSQL_DSN=" + s.mysqlDSN(servicePassword)}})
	d := dependOn(t, s, w, "db")
	d.faults()
	d.ended("db", s.mysqlEnd)
	d.passwords(s.mysqlPassword, "Access denied")
	w.stop()
	noSecret(t, w)
}

func TestProbesOfPostgreSQL(t *testing.T) {
	s := startPostgres(t)
	w := start(t, options{config: probed("db", "sql: {queries: [SELECT 'up'], contains: [up]}"), env: []string{"POSTGRES_DSN=" + s.postgresDSN(servicePassword)}})
	d := dependOn(t, s, w, "db")
	d.faults()
	d.ended("db", s.postgresEnd)
	d.passwords(s.postgresPassword, "password authentication failed")
	w.stop()
	noSecret(t, w)
}

// A config with another password is given to the probes, not to the process.
func TestAReloadGivesSQLChecksAnotherPassword(t *testing.T) {
	my, pg := startMariaDB(t), startPostgres(t)
	config := func(mysql, postgres string) string {
		return probed("my", "sql: {queries: [SELECT 1], dsn: \""+my.mysqlDSN(mysql)+"\"}") + probed("pg", "sql: {queries: [SELECT 1], dsn: \""+pg.postgresDSN(postgres)+"\"}")
	}
	w := start(t, options{config: config(servicePassword, servicePassword)})
	onMy, onPg := dependOn(t, my, w, "my"), dependOn(t, pg, w, "pg")
	for range 2 {
		w.rewrite(config(otherPassword, otherPassword))
		began := time.Now()
		onMy.down(began, "its config has a wrong password", "Access denied")
		onPg.down(began, "its config has a wrong password", "password authentication failed")
		w.rewrite(config(servicePassword, servicePassword))
		onMy.up("with the right password")
		onPg.up("with the right password")
		onMy.few("after a reload")
		onPg.few("after a reload")
	}
	onMy.unharmed()
	onPg.unharmed()
	w.stop()
	noSecret(t, w)
}

func TestProbesOfRabbitMQ(t *testing.T) {
	s := startRabbitMQ(t)
	config := probed("new", "amqp: {}") + probed("kept", "amqp: {reuseConn: true}") +
		probed("denied", "amqp: {}", "envs: {AMQP_PROBE_RABBITMQ_PASS: wr0ng-s3cret}") +
		probed("nowhere", "amqp: {}", "envs: {AMQP_PROBE_RABBITMQ_DSN_TEMPLATE: '"+s.amqpTemplate()+"/nowhere'}") +
		probed("broken", "amqp: {}", "envs: {AMQP_PROBE_RABBITMQ_DSN_TEMPLATE: 'http://%v:%v@h'}")
	w := start(t, options{config: config, env: s.amqpEnv()})
	for name, want := range map[string]string{
		"denied":  "username or password not allowed",
		"nowhere": "vhost nowhere not found (530)",
		"broken":  `has the scheme "http": wants amqp or amqps`,
	} {
		w.until(name, "says why", func(s state) bool { return !s.Ready && len(s.Probes) == 1 && strings.Contains(s.Probes[0].Error, want) })
	}
	w.until("new", "is ready", func(s state) bool { return s.Ready })
	w.until("kept", "is ready", func(s state) bool { return s.Ready })
	w.stop()
	noSecret(t, w)

	w = start(t, options{config: probed("new", "amqp: {}") + probed("kept", "amqp: {reuseConn: true}"), env: s.amqpEnv()})
	d := dependOn(t, s, w, "new", "kept")
	d.faults()
	d.ended("kept", s.amqpEnd)
	d.passwords(s.amqpPassword, "username or password not allowed")
	w.stop()
	noSecret(t, w)
}

// noSecret fails when a password of the tests is in what the wrapper said.
func noSecret(t *testing.T, w *wrapper) {
	t.Helper()
	if text := w.stdout.String() + w.stderr.String(); strings.Contains(text, "s3cret") {
		t.Errorf("the log holds a password:\n%s", text)
	}
}

func TestWhatSQLChecksSee(t *testing.T) {
	my, pg := startMariaDB(t), startPostgres(t)
	env := []string{"MYSQL_DSN=" + my.mysqlDSN(servicePassword), "PASSWORD=" + servicePassword}
	postgres := fmt.Sprintf(", dsn: \"host=127.0.0.1 port=%d user=%s password='$(PASSWORD)' dbname=postgres sslmode=disable\"", pg.port, serviceUser)
	const states = "\"SELECT id, state, note FROM states ORDER BY id\""
	cases := []struct{ name, check, want string }{
		{"any-column", "queries: [" + states + "], contains: [second]", ""},
		{"any-row", "queries: [" + states + "], contains: [up, down]", ""},
		{"number", "queries: [" + states + "], contains: ['42']", ""},
		{"part", "queries: [" + states + "], contains: [eco]", ""},
		{"a-null", "queries: ['SELECT NULL'], contains: ['NULL']", "no row holds"},
		{"no-rows", "queries: [SELECT 1 FROM states WHERE 1 = 0], contains: ['1']", "no row holds"},
		{"no-rows-succeed", "queries: [SELECT 1 FROM states WHERE 1 = 0]", ""},
		{"one-lacks", "queries: [" + states + "], contains: [up, sideways]", `no row holds "sideways"`},
		{"second-query-lacks", "queries: [\"SELECT 'a'\", \"SELECT 'b'\"], contains: [a]", `run query 2 of 2 on mysql: no row holds "a"`},
		{"error", "queries: [SELECT 1, SELECT nothing FROM nowhere]", "run query 2 of 2 on mysql: Error 1146"},
		{"slow", "queries: [SELECT SLEEP(3)]", "run query 1 of 1 on mysql: timed out after"},
		{"endless", "queries: ['SELECT seq FROM seq_1_to_100000000'], contains: [x]", "on mysql"},
		{"no-result", "queries: [DO 1]", ""},
		{"driver", "queries: [SELECT 1], driver: postgres", "POSTGRES_DSN is not set, and sql has no dsn"},
		{"other-dsn", "queries: [\"SELECT 'up', NULL::text, 42\"], contains: [up, '42']" + postgres, ""},
		{"pg-error", "queries: [SELECT nothing FROM nowhere]" + postgres, `on postgres: pq: relation "nowhere" does not exist`},
		{"pg-null", "queries: [\"SELECT NULL::text\"], contains: [x]" + postgres, "no row holds"},
		{"pg-slow", "queries: [SELECT pg_sleep(3)]" + postgres, "run query 1 of 1 on postgres: timed out after"},
		{"pg-many", "queries: ['SELECT generate_series(1, 200000)'], contains: ['99999']" + postgres, ""},
		{"denied", "queries: [SELECT 1], dsn: \"" + my.mysqlDSN("wr0ng-s3cret") + "\"", "Access denied"},
		{"pg-denied", "queries: [SELECT 1], dsn: \"" + pg.postgresDSN("wr0ng-s3cret") + "\"", "password authentication failed"},
		{"bad-dsn", "queries: [SELECT 1], driver: mysql, dsn: 's3cret(tcp'", "the data source name of mysql is not of the form"},
	}
	var config strings.Builder
	for _, c := range cases {
		config.WriteString(probed(c.name, "sql: {"+c.check+"}"))
	}
	w := start(t, options{config: config.String(), env: env})
	for _, c := range cases {
		if c.want == "" {
			w.until(c.name, "is ready", func(s state) bool { return s.Ready })
			continue
		}
		w.until(c.name, "says why", func(s state) bool {
			return !s.Ready && len(s.Probes) == 1 && strings.Contains(s.Probes[0].Error, c.want)
		})
	}
	if _, body := w.get("/v1/processes"); strings.Contains(body, "s3cret") {
		t.Errorf("/v1/processes holds a password:\n%s", body)
	}
	if n := my.connections(w.pid); n > len(cases) {
		t.Errorf("%d connections of %d probes", n, len(cases))
	}
	w.stop()
	noSecret(t, w)
}

func TestSQLHooksRunOnceAfterTheChecks(t *testing.T) {
	s := startMariaDB(t)
	config := script("writer", forever,
		`readiness: {delay: 0s, period: 300ms, sql: {queries: [SELECT 1]}}`,
		`postStart: {sql: {queries: ["CREATE TABLE made (n INT)", "INSERT INTO made VALUES (7)"]}}`) +
		script("reader", forever, "dependsOn: [writer]",
			`readiness: {delay: 0s, period: 300ms, sql: {queries: [SELECT n FROM made], contains: ['7']}}`) +
		script("late", forever, "dependsOn: [writer]", "backoff: {initial: 1h, max: 1h}", "readiness: {startupDeadline: 1h}",
			`postStart: {deadline: 500ms, sql: {queries: [SELECT SLEEP(5)]}}`) +
		script("wrong", forever, "dependsOn: [writer]", "backoff: {initial: 1h, max: 1h}", "readiness: {startupDeadline: 1h}",
			`postStart: {sql: {queries: [INSERT INTO nowhere VALUES (1)]}, envs: {MYSQL_DSN: "`+s.mysqlDSN(servicePassword)+`"}}`)
	w := start(t, options{config: config, env: []string{"MYSQL_DSN=" + s.mysqlDSN(servicePassword)}})
	w.until("reader", "is ready", func(s state) bool { return s.Ready })
	late := w.until("late", "has failed", func(s state) bool { return s.Phase == "backoff" })
	if !strings.Contains(late.Cause, "postStart hook: run query 1 of 1 on mysql: timed out") {
		t.Errorf("late: %q", late.Cause)
	}
	wrong := w.until("wrong", "has failed", func(s state) bool { return s.Phase == "backoff" })
	if !strings.Contains(wrong.Cause, "postStart hook: run query 1 of 1 on mysql: Error 1146") {
		t.Errorf("wrong: %q", wrong.Cause)
	}
	w.stop()
	noSecret(t, w)
}

func TestProbesOfGRPC(t *testing.T) {
	s := startEtcd(t) // whose client port serves grpc.health.v1
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	probe := func(name, kind, grpc string) string {
		return script(name, forever, fmt.Sprintf("%s: {grpc: {port: %s}, periodSeconds: 1, failureThreshold: 1000}", kind, grpc))
	}
	w := start(t, options{config: probe("well", "readinessProbe", port) + probe("unknown", "readinessProbe", port+", service: nobody") +
		probe("nothing", "readinessProbe", "1") + probe("begins", "startupProbe", port) + probe("lives", "livenessProbe", port)})
	for _, name := range []string{"well", "begins", "lives"} {
		w.until(name, "is ready", func(s state) bool { return s.Ready })
	}
	for name, want := range map[string]string{"unknown": "it does not know the service", "nothing": "connection refused"} {
		w.until(name, "says why", func(s state) bool {
			return !s.Ready && len(s.Probes) == 1 && strings.Contains(s.Probes[0].Error, want)
		})
	}
}

func TestHeartBeatsKeepAProcessReady(t *testing.T) {
	beating := func(name string, failures int) string {
		return script(name, forever, fmt.Sprintf("readiness: {delay: 0s, period: 100ms, failureThreshold: %d, startupDeadline: 1h, heartBeat: {period: 2s}}", failures), "backoff: {initial: 10ms, max: 10ms}")
	}
	w := start(t, options{config: beating("worker", 100000) + beating("stuck", 30)})
	beat := func(name string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, w.url("/heartbeat?name="+name), nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusNoContent {
			t.Fatalf("PATCH: %s", response.Status)
		}
	}
	w.until("worker", "has no heartbeat yet", func(s state) bool { return len(s.Probes) == 1 && s.Probes[0].Error == "no heartbeat yet" })
	w.until("worker", "is ready while it beats", func(s state) bool { beat("worker"); return s.Ready })
	w.until("worker", "misses its heartbeats", func(s state) bool {
		return !s.Ready && len(s.Probes) == 1 && strings.Contains(s.Probes[0].Error, "the last heartbeat came")
	})
	beat("stuck")
	before := w.states()["stuck"].Restarts
	w.until("stuck", "is started again", func(s state) bool { return s.Restarts > before && s.Reason == "probe" })
	if status, _ := w.get("/heartbeat?name=stuck"); status != http.StatusNotFound {
		t.Errorf("the heartbeat of the incarnation before is still there: %d", status)
	}
}

// floats matches however often it has been started when somebody looks.
var floats = regexp.MustCompile(`started ([4-9]|[1-9]\d+) times within 1h0m0s, at most 3 are good`)

func TestAFloatingPIDIsNotReady(t *testing.T) {
	w := start(t, options{config: script("flapping", "sleep 0.3", "backoff: {initial: 10ms, max: 10ms}", "readiness: {delay: 0s, period: 50ms, failureThreshold: 100000, floatingPid: {period: 1h, threshold: 3}}") +
		script("steady", forever, "readiness: {delay: 0s, period: 50ms, floatingPid: {}}")})
	w.until("steady", "is ready", func(s state) bool { return s.Ready })
	w.until("flapping", "floats", func(s state) bool {
		return !s.Ready && len(s.Probes) == 1 && floats.MatchString(s.Probes[0].Error)
	})
}
