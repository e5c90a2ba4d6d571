package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The time that the probes of these tests have, and what is granted on top of it on a busy machine.
const (
	probePeriod  = 300 * time.Millisecond
	probeTimeout = 700 * time.Millisecond
	probeSlack   = 5 * time.Second
)

// probed is the config of a process with a readiness block that never restarts it.
func probed(name, check string, more ...string) string {
	return script(name, forever, append(more, fmt.Sprintf("readiness: {delay: 0s, period: %v, timeout: %v, failureThreshold: 100000, startupDeadline: 1h, %s}", probePeriod, probeTimeout, check))...)
}

// faults stops a service in every way, and looks at the processes that depend on it.
func faults(t *testing.T, s *backend, w *wrapper, names ...string) {
	t.Helper()
	up := func(what string) {
		t.Helper()
		for _, name := range names {
			w.until(name, "is ready "+what, func(s state) bool { return s.Ready })
		}
	}
	down := func(what string) {
		t.Helper()
		began := time.Now()
		for _, name := range names {
			st := w.until(name, "is un-ready "+what, func(s state) bool { return !s.Ready })
			if len(st.Probes) == 0 || st.Probes[0].Error == "" {
				t.Errorf("%s: no reason %s: %+v", name, what, st)
			}
		}
		within(t, began, probePeriod+probeTimeout+probeSlack, "to see the "+s.name+" "+what)
	}
	few := func(what string) {
		t.Helper()
		if n := s.connections(w.pid); n > len(names) {
			t.Errorf("%d connections of %d probes to the %s %s", n, len(names), s.name, what)
		}
	}
	up("at first")
	goroutines := w.metric("go_goroutines")
	for range 2 {
		s.signal(syscall.SIGSTOP)
		down("that is paused")
		quietly(t, 5*probePeriod, func() error { few("that is paused"); return nil })
		s.signal(syscall.SIGCONT)
		up("after the pause")
		s.kill()
		down("that was killed")
		s.begin()
		up("after the restart")
		few("after the restart")
	}
	eventually(t, "goroutines are back", func() error {
		if n := w.metric("go_goroutines"); n > goroutines+5 {
			return fmt.Errorf("%v, at first %v", n, goroutines)
		}
		return nil
	})
	if st := w.states()[names[0]]; st.Restarts != 0 {
		t.Errorf("%d restarts", st.Restarts)
	}
}

func TestProbesOfMariaDB(t *testing.T) {
	s := startMariaDB(t)
	w := start(t, options{config: probed("db", "sql: {queries: [SELECT state FROM states], contains: [up, down]}"), env: []string{"MYSQL_DSN=" + s.mysqlDSN(servicePassword)}})
	faults(t, s, w, "db")
	w.stop()
	noSecret(t, w)
}

func TestProbesOfPostgreSQL(t *testing.T) {
	s := startPostgres(t)
	w := start(t, options{config: probed("db", "sql: {queries: [SELECT 'up'], contains: [up]}"), env: []string{"POSTGRES_DSN=" + s.postgresDSN(servicePassword)}})
	faults(t, s, w, "db")
	w.stop()
	noSecret(t, w)
}

func TestProbesOfRabbitMQ(t *testing.T) {
	s := startRabbitMQ(t)
	config := probed("new", "amqp: {}") + probed("kept", "amqp: {reuseConn: true}") +
		probed("denied", "amqp: {}", "envs: {AMQP_PROBE_RABBITMQ_PASS: wr0ng-s3cret}") +
		probed("nowhere", "amqp: {}", fmt.Sprintf("envs: {AMQP_PROBE_RABBITMQ_DSN_TEMPLATE: 'amqp://%%v:%%v@127.0.0.1:%d/nowhere'}", s.port)) +
		probed("broken", "amqp: {}", "envs: {AMQP_PROBE_RABBITMQ_DSN_TEMPLATE: 'http://%v:%v@h'}")
	w := start(t, options{config: config, env: []string{fmt.Sprintf("AMQP_PROBE_RABBITMQ_DSN_TEMPLATE=amqp://%%v:%%v@127.0.0.1:%d", s.port)}})
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

	w = start(t, options{config: probed("new", "amqp: {}") + probed("kept", "amqp: {reuseConn: true}"), env: []string{fmt.Sprintf("AMQP_PROBE_RABBITMQ_DSN_TEMPLATE=amqp://%%v:%%v@127.0.0.1:%d", s.port)}})
	faults(t, s, w, "new", "kept")
	w.stop()
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
	w := start(t, options{config: script("worker", forever, "readiness: {delay: 0s, period: 100ms, failureThreshold: 30, startupDeadline: 1h, heartBeat: {period: 2s}}", "backoff: {initial: 10ms}")})
	beat := func() {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, w.url("/heartbeat?name=worker"), nil)
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
	beat()
	w.until("worker", "is ready", func(s state) bool { return s.Ready })
	w.until("worker", "misses its heartbeats", func(s state) bool {
		return !s.Ready && len(s.Probes) == 1 && strings.Contains(s.Probes[0].Error, "the last heartbeat came")
	})
	w.until("worker", "is started again", func(s state) bool { return s.Restarts > 0 && s.Reason == "probe" })
	if status, _ := w.get("/heartbeat?name=worker"); status != http.StatusNotFound {
		t.Errorf("the heartbeat of the incarnation before is still there: %d", status)
	}
}

func TestAFloatingPIDIsNotReady(t *testing.T) {
	w := start(t, options{config: script("flapping", "sleep 0.3", "backoff: {initial: 10ms, max: 10ms}", "readiness: {delay: 0s, period: 50ms, failureThreshold: 100000, floatingPid: {period: 1h, threshold: 3}}") +
		script("steady", forever, "readiness: {delay: 0s, period: 50ms, floatingPid: {}}")})
	w.until("steady", "is ready", func(s state) bool { return s.Ready })
	w.until("flapping", "floats", func(s state) bool {
		return !s.Ready && len(s.Probes) == 1 && strings.Contains(s.Probes[0].Error, "started 4 times within 1h0m0s, at most 3 are good")
	})
}
