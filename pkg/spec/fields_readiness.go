package spec

import (
	"cmp"
	"time"
)

// readiness is the block as it is written.
type readiness struct {
	Readiness
	Timeout time.Duration
}

var checkKeys = object{
	name: "readiness", doc: "Checks of a process; any number of kinds, all must be good.",
	fields: []field{
		{key: "delay", doc: "Pause between the start and the first check.", kind: duration, def: "5s"},
		{key: "period", doc: "Pause between two rounds of checks.", kind: duration, low: milli, def: "5s"},
		{key: "failureThreshold", doc: "So many failures in a row restart the process.", kind: integer, low: 1, high: often, def: "3"},
		{key: "startupDeadline", doc: "Un-ready for longer turns /liveness bad; delay + period × failureThreshold by default, and as long as the startupProbe may take on top.", kind: duration, low: milli},
		{key: "timeout", doc: "Of each check; by default tcp 2s, exec 30s, others one period, at most 30s.", kind: duration, low: milli},
		{key: "http", doc: "A GET that must answer 2xx or 3xx.", kind: block, in: &httpCheckKeys, to: "HTTP"},
		{key: "tcp", doc: "A socket that must accept.", kind: block, in: &tcpCheckKeys, to: "TCP"},
		{key: "file", doc: "A file that must exist.", kind: block, in: &fileCheckKeys},
		{key: "env", doc: "A variable that must have a value.", kind: block, in: &envCheckKeys},
		{key: "exec", doc: "A command that must exit 0.", kind: ownExec, in: &rawCheckKeys},
		{key: "sql", doc: "Queries that must succeed.", kind: block, in: &sqlCheckKeys, to: "SQL"},
		{key: "floatingPid", doc: "At most threshold starts within period.", kind: block, in: &floatingKeys, to: "FloatingPID"},
		{key: "heartBeat", doc: "A beat must come within period.", kind: block, in: &heartBeatKeys},
		{key: "amqp", doc: "The broker must answer.", kind: block, in: &amqpKeys, to: "AMQP"},
		{key: "lock", doc: "Run only while holding the shared lock.", kind: block, in: &lockKeys},
	},
	hints: "httpget=http initialdelayseconds=delay interval=period periodseconds=period tcpsocket=tcp timeoutseconds=timeout",
}

var httpCheckKeys = object{
	name: "http", doc: "A GET.",
	fields: []field{{key: "url", doc: "Answers 2xx or 3xx.", kind: webURL, to: "URL", needed: true}},
}

var tcpCheckKeys = object{
	name: "tcp", doc: "A connection.",
	fields: []field{{key: "socket", doc: "host:port that accepts.", kind: socket, needed: true}},
}

var fileCheckKeys = object{
	name: "file", doc: "A file.",
	fields: []field{{key: "path", doc: "Exists.", kind: filled, what: "path", needed: true}},
}

var envCheckKeys = object{
	name: "envCheck", doc: "A variable of the process's environment.",
	fields: []field{
		{key: "name", doc: "Name of the variable.", kind: varName, needed: true},
		{key: "value", doc: "Its value.", kind: text, needed: true},
	},
}

var sqlCheckKeys = object{
	name: "sql", doc: "Queries, with MYSQL_DSN or POSTGRES_DSN.",
	fields: []field{
		{key: "queries", doc: "Queries that must succeed.", kind: list, of: filled, what: "query", some: true, needed: true},
		{key: "contains", doc: "Strings that the rows of each query must hold.", kind: list, of: text},
		driverKey, dsnKey,
	},
}

// The keys that say which database is asked.
var (
	driverKey = field{key: "driver", doc: "mysql (MariaDB too) or postgres; by default what dsn looks like, else the one whose variable is set.", kind: oneOf, names: []string{DriverMySQL, DriverPostgres}}
	dsnKey    = field{key: "dsn", doc: "Data source name in the driver's form; `$(NAME)` of a known variable is expanded. MYSQL_DSN or POSTGRES_DSN by default.", kind: text, to: "DSN"}
)

var floatingKeys = object{
	name: "floatingPid", doc: "Bound of starts.",
	fields: []field{
		{key: "period", doc: "Time that is looked at.", kind: duration, low: milli, def: "10s"},
		{key: "threshold", doc: "So many starts are good.", kind: integer, low: 1, high: often, def: "1"},
	},
}

var heartBeatKeys = object{
	name: "heartBeat", doc: "PATCH /heartbeat?name=.",
	fields: []field{{key: "period", doc: "A beat must come within this time.", kind: duration, low: milli, def: "10s"}},
}

var amqpKeys = object{
	name: "amqp", doc: "A connection to the broker of AMQP_PROBE_RABBITMQ_DSN_TEMPLATE.",
	fields: []field{{key: "reuseConn", doc: "Keep one connection for all checks.", kind: boolean, def: "false"}},
}

var lockKeys = object{
	name: "lock", doc: "A lock of shared-lock: the process runs only while it holds it.",
	fields: []field{
		{key: "ttlDuration", doc: "How long the lock is held after its last renewal, at most 24h; it is renewed three times as often.", kind: duration, low: 200 * milli, high: 24 * 3600 * 1000 * milli, to: "TTL", def: "2s"},
		{key: "key", doc: "Name of the lock, in which $(VAR) is expanded; the process's name by default.", kind: filled, what: "key"},
		{key: "standbyReady", doc: "Whether the pod may be ready while the process waits for its lock.", kind: boolean, def: "true"},
	},
}

// finishReadiness applies the defaults that depend on other keys.
func (e *entry) finishReadiness() {
	r := e.Checks
	const most = 30 * time.Second
	period := cmp.Or(r.Timeout, min(r.Period, most))
	if r.HTTP != nil {
		r.HTTP.Timeout = period
	}
	if r.TCP != nil {
		r.TCP.Timeout = cmp.Or(r.Timeout, 2*time.Second)
	}
	if r.File != nil {
		r.File.Timeout = period
	}
	if r.Exec != nil {
		r.Exec.Timeout = cmp.Or(r.Timeout, most)
	}
	if r.SQL != nil {
		r.SQL.Timeout = period
	}
	if r.AMQP != nil {
		r.AMQP.Timeout = period
	}
	if r.StartupDeadline == 0 {
		r.StartupDeadline = r.Delay + times(r.Period, r.FailureThreshold)
		if p := e.StartupProbe; p != nil {
			r.StartupDeadline += p.InitialDelay + times(p.Period, p.FailureThreshold)
		}
		r.StartupDeadline = min(r.StartupDeadline, maxDuration)
	}
	e.Readiness = r.Readiness
}

// times is v × n, at most maxDuration.
func times(v time.Duration, n int) time.Duration {
	if v > maxDuration/time.Duration(n) {
		return maxDuration
	}
	return v * time.Duration(n)
}
